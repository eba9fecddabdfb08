import { Injectable, Module } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { defineStream } from '../definitions/stream-ref.js';
import { MinibatchModule } from '../minibatch.module.js';
import { type OpenedStore, STORES } from '../storage/stores.spec.support.js';
import { StreamService } from '../streams/stream.service.js';
import { from } from './flow.js';
import { Pipeline } from './pipeline.decorator.js';

interface Text {
  readonly key: string;
  readonly at: number;
  readonly text: string;
}
const Texts = defineStream<Text>('texts');
const Lengths = defineStream<{ key: string; texts: number; length: number; padding?: string }>('lengths');

const LARGE = 'x'.repeat(900_000);
const KEYS = 16;
const TIMEOUT = 100_000;

/** The result of each window is as large as what is in it. */
const resultOf = ({ key, value: { all } }: { key: string; value: { all: readonly Text[] } }) => ({
  key,
  texts: all.length,
  length: all.reduce((sum, { text }) => sum + text.length, 0),
  padding: all.map(({ text }) => text).join(''),
});

@Injectable()
class Tumbling {
  @Pipeline('sizes')
  run() {
    const windows = from(Texts).timed('at', { idle: 'hold' }).by('key').window({ interval: 1_000 });
    return windows
      .aggregate((a) => ({ all: a.collect(1_000) }))
      .map(resultOf)
      .to(Lengths);
  }
}

/** Results go by way of a stream, for their function is asynchronous. */
@Injectable()
class ByResults {
  @Pipeline('sizes')
  run() {
    const windows = from(Texts).timed('at', { idle: 'hold' }).by('key').window({ interval: 1_000 });
    return windows
      .aggregate((a) => ({ all: a.collect(1_000) }))
      .map(async (result) => resultOf(result))
      .to(Lengths);
  }
}

/** Messages go by way of a stream, for two steps read the source. */
@Injectable()
class ByItems {
  @Pipeline('sizes')
  run() {
    const timed = from(Texts).timed('at', { idle: 'hold' });
    return ['one', 'two'].map((name) =>
      timed
        .by('key')
        .window({ interval: 1_000 }, { name })
        .aggregate((a) => ({ all: a.collect(1_000) }))
        .map(({ key, value: { all } }) => ({
          key: `${name}-${key}`,
          texts: all.length,
          length: all[0]?.text.length ?? 0,
        }))
        .to(Lengths),
    );
  }
}

@Injectable()
class ByCount {
  @Pipeline('sizes')
  run() {
    return from(Texts)
      .by('key')
      .window({ size: 40, every: 1 })
      .aggregate((a) => ({ all: a.collect(100) }))
      .map(({ key, value: { all } }) => ({ key, texts: all.length, length: 0 }))
      .to(Lengths);
  }
}

@Injectable()
class Sessions {
  @Pipeline('sizes')
  run() {
    return from(Texts)
      .timed('at', { idle: 'hold', wait: '1h' })
      .by('key')
      .window({ gap: 100 })
      .aggregate((a) => ({ all: a.collect(100) }))
      .map(({ key, value: { all } }) => ({ key, texts: all.length, length: 0 }))
      .to(Lengths);
  }
}

describe.each(STORES)('windows that hold much, on %s', { timeout: 120_000 }, (_, open) => {
  let opened: OpenedStore;
  beforeEach(async () => {
    opened = await open();
  });
  afterEach(() => opened.dispose());

  async function run<R>(host: new () => object, work: (streams: StreamService) => Promise<R>): Promise<R> {
    const { store } = opened;
    @Module({ imports: [MinibatchModule.forRoot({ store })], providers: [host] })
    class AppModule {}
    const app = await Test.createTestingModule({ imports: [AppModule] }).compile();
    app.useLogger(false);
    await app.init();
    try {
      return await work(app.get(StreamService));
    } finally {
      await app.close();
    }
  }

  const lengths = async (streams: StreamService, atLeast: number) => {
    const found: { key: string; texts: number; length: number }[] = [];
    const read = async () => {
      found.length = 0;
      for await (const { data } of streams.stream(Lengths).messages()) found.push(data);
      return found.length >= atLeast;
    };
    await vi.waitUntil(read, { timeout: TIMEOUT, interval: 100 });
    return found.map(({ key, texts, length }) => `${key} ${texts} ${length}`).toSorted();
  };
  const large = Array.from({ length: KEYS }, (_each, n): Text => ({ key: `k${n}`, at: 10 + n, text: LARGE }));
  const expected = large.map(({ key }) => `${key} 1 ${LARGE.length}`).toSorted();
  const end: Text = { key: 'end', at: 1_000, text: '' };

  it.each([
    ['close', Tumbling],
    ['close, and their results go by way of a stream', ByResults],
  ])('all %s, although together they are more than is committed', async (_how, host) => {
    await run(host, async (streams) => {
      await streams.appendMany(Texts, [...large, end]);
      expect(await lengths(streams, KEYS)).toEqual(expected);
    });
  });

  it('are all given out by a flush', async () => {
    await run(Tumbling, async (streams) => {
      await streams.appendMany(Texts, large);
      await vi.waitUntil(async () => (await streams.stream(Texts).stats()).buffered === 0, { timeout: TIMEOUT });
      await streams.stream(Texts).flush();
      expect(await lengths(streams, KEYS)).toEqual(expected);
    });
  });

  it('take what comes by way of a stream', async () => {
    const found = await run(ByItems, async (streams) => {
      await streams.appendMany(Texts, [...large, end]);
      return lengths(streams, 2 * KEYS);
    });
    const keys = large.flatMap(({ key }) => [`one-${key}`, `two-${key}`]);
    expect(found).toEqual(keys.map((key) => `${key} 1 ${LARGE.length}`).toSorted());
  });

  it.each([
    ['by count', ByCount],
    ['of sessions', Sessions],
  ])(
    '%s hold no more of a key than one row can have, and what they cannot hold is a dead letter',
    async (_what, host) => {
      const texts = Array.from({ length: 12 }, (_each, n): Text => ({ key: 'k', at: n * 1_000, text: LARGE }));
      await run(host, async (streams) => {
        await streams.appendMany(Texts, [...texts, { key: 'other', at: 30_000, text: '' }]);
        await vi.waitUntil(async () => (await streams.stream(Texts).stats()).buffered === 0, { timeout: TIMEOUT });
        const letters = await opened.store.deadLetters('texts', {}, undefined, 100);
        const error = expect.stringMatching(/all that is open of key 'k'.*allowed: 4194304.*MINIBATCH_STATE_TOO_LARGE/);
        expect(letters.map((letter) => letter.error)).toEqual(Array.from({ length: 8 }, () => error));
        await streams.stream(Texts).flush();
        const kept = await lengths(streams, host === ByCount ? 2 : 5);
        expect(kept).toContain('other 1 0');
        expect(kept.filter((line) => line.startsWith('k '))).toEqual(
          host === ByCount ? ['k 4 0'] : Array.from({ length: 4 }, () => 'k 1 0'),
        );
      });
    },
  );
});
