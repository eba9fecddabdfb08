import { Injectable, Module, type Type } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Streaming } from '../consumers/streaming.decorator.js';
import { defineStream } from '../definitions/stream-ref.js';
import { MinibatchModule } from '../minibatch.module.js';
import { type OpenedStore, STORES } from '../storage/stores.spec.support.js';
import { StreamService } from '../streams/stream.service.js';
import type { Window } from '../windows/window.js';
import { from } from './flow.js';
import { Pipeline } from './pipeline.decorator.js';

const Numbers = defineStream<number>('numbers');
const Thirds = defineStream<string>('thirds');
const ALL = 2_500;
const HALF = 9 * 1024 * 1024;

@Injectable()
class ThirdsOfNumbers {
  readonly found: string[] = [];

  @Pipeline('thirds')
  thirds() {
    return from(Numbers)
      .filter((n) => {
        if (n < 0) throw new Error('negative');
        return n % 3 === 0;
      })
      .map(async (n) => `third ${n}`)
      .to(Thirds, { batch: { size: 400, interval: 20 } });
  }

  @Streaming(Thirds, { size: 100, interval: 20 })
  collect({ data }: Window<string>) {
    this.found.push(...data);
  }
}

/** Together with its key, the message is larger than any store takes; without it is not. */
@Injectable()
class LargeKeys {
  @Pipeline('large-keys')
  run() {
    return from(Numbers)
      .map((n) => (n === 1 ? 'x'.repeat(HALF) : `${n}`))
      .to(Thirds, { key: (data) => (data.length === HALF ? 'k'.repeat(HALF) : 'key') });
  }
}

interface Reading {
  readonly sensor: string;
  readonly at: number;
  readonly value: bigint | number;
}
const Readings = defineStream<Reading>('readings');
const Sums = defineStream<string>('sums');

@Injectable()
class SumsOfReadings {
  readonly found: string[] = [];

  @Pipeline('sums')
  sums() {
    const windows = from(Readings).timed('at', { idle: 'hold' }).by('sensor').window({ interval: 1_000, every: 500 });
    return windows
      .aggregate((a) => ({ n: a.count(), sum: a.sum(({ value }) => Number(value)), last: a.last() }))
      .map(
        ({ key, value: { n, sum, last }, start }) =>
          `${key} ${start.getTime()} ${n} ${sum} ${last.at} ${typeof last.value}`,
      )
      .to(Sums, { batch: { size: 400, interval: 20 } });
  }

  @Streaming(Sums, { size: 100, interval: 20 })
  collect({ data }: Window<string>) {
    this.found.push(...data);
  }
}

@Injectable()
class CountsOfReadings {
  readonly found: unknown[] = [];

  @Pipeline('counts')
  counts() {
    return from(Readings)
      .timed('at')
      .by('sensor')
      .window({ interval: 10_000 })
      .count()
      .map(({ key, value }) => `${key} ${value}`)
      .to(Sums, { batch: { interval: 20 } });
  }

  @Streaming(Sums, { size: 100, interval: 20 })
  collect({ data }: Window<string>) {
    this.found.push(...data);
  }
}

const MoreReadings = defineStream<Reading>('more-readings', { partitions: 2 });

/** One of its sources needs something that is away for a while. */
@Injectable()
class CountsOfBoth {
  readonly found: string[] = [];
  isDown = false;

  @Pipeline('both', { retry: { backoff: 10, maxBackoff: 20 } })
  both() {
    const away = async (reading: Reading) => {
      if (this.isDown) throw new Error('away');
      return reading;
    };
    return from(Readings)
      .merge(from(MoreReadings).map(away))
      .timed('at')
      .by('sensor')
      .window({ interval: 10_000 })
      .count()
      .map(({ key, value, start }) => `${key} ${start.getTime()} ${value}`)
      .to(Sums, { batch: { interval: 20 } });
  }

  @Streaming(Sums, { size: 100, interval: 20 })
  collect({ data }: Window<string>) {
    this.found.push(...data);
  }
}

/** What the windows of one sensor come to. */
function sumsOf(readings: readonly Reading[]): readonly string[] {
  const ends = (readings.at(-1)?.at ?? 0) + 1_000;
  return Array.from({ length: Math.ceil(ends / 500) + 1 }, (_, n) => (n - 1) * 500).flatMap((start) => {
    const inside = readings.filter(({ at }) => at >= start && at < start + 1_000);
    const last = inside.at(-1);
    if (!last) return [];
    const sum = inside.reduce((all, { value }) => all + Number(value), 0);
    return [`${last.sensor} ${start} ${inside.length} ${sum} ${last.at} ${typeof last.value}`];
  });
}

/** Makes of one message more than MongoDB commits together. */
@Injectable()
class Explodes {
  @Pipeline('explodes')
  run() {
    return from(Numbers)
      .flatMap((n) =>
        Array.from({ length: n === 1 ? 7 : 1 }, (_, index) => `${n}.${index}${'x'.repeat(2 * 1024 * 1024)}`),
      )
      .to(Thirds, { batch: { size: 1 } });
  }
}

describe.each(STORES)('a pipeline on %s', (_, open) => {
  let opened: OpenedStore;
  beforeEach(async () => {
    opened = await open();
  });
  afterEach(() => opened.dispose());

  /** An application with this pipeline on the store. */
  async function boot(pipeline: Type) {
    @Module({ imports: [MinibatchModule.forRoot({ store: opened.store })], providers: [pipeline] })
    class AppModule {}
    const app = await Test.createTestingModule({ imports: [AppModule] }).compile();
    app.useLogger(false);
    await app.init();
    return app;
  }

  it('appends what it makes once and in order, and makes dead letters of what it rejects', async () => {
    const { store } = opened;
    expect(store.readState).toBeTypeOf('function');
    const app = await boot(ThirdsOfNumbers);
    try {
      const numbers = app.get(StreamService).stream(Numbers);
      await numbers.appendMany(Array.from({ length: ALL }, (_each, n) => (n === 7 ? -1 : n)));
      const expected = Array.from({ length: ALL }, (_each, n) => n)
        .filter((n) => n % 3 === 0)
        .map((n) => `third ${n}`);
      const { found } = app.get(ThirdsOfNumbers);
      await vi.waitUntil(() => found.length >= expected.length, { timeout: 60_000, interval: 20 });
      expect(found).toEqual(expected);
      const letters = await store.deadLetters('numbers', {}, undefined, 10);
      expect(letters.map(({ data, group, error }) => [data, group, error])).toEqual([[-1, 'thirds', 'negative']]);
    } finally {
      await app.close();
    }
  });

  /** What the pipeline makes of these numbers, and the dead letters. */
  async function madeOf(host: new () => object, numbers: readonly number[]) {
    const { store } = opened;
    const app = await boot(host);
    try {
      const streams = app.get(StreamService);
      await streams.appendMany(Numbers, numbers);
      const settled = async () => (await streams.stream(Numbers).stats()).buffered === 0;
      await vi.waitUntil(settled, { timeout: 60_000, interval: 20 });
      const made: string[] = [];
      for await (const { data } of streams.stream(Thirds).messages()) made.push(data as string);
      const letters = await store.deadLetters('numbers', {}, undefined, 10);
      return { made, letters: letters.map(({ data, error }) => [data, error]) };
    } finally {
      await app.close();
    }
  }

  it('makes a dead letter of a message whose new one is too large with its key, and goes on', async () => {
    const { made, letters } = await madeOf(LargeKeys, [0, 1, 2]);
    expect(made).toEqual(['0', '2']);
    const error = expect.stringMatching(/^append to 'thirds': the message has \d+ bytes .*MINIBATCH_MESSAGE_TOO_LARGE/);
    expect(letters).toEqual([[1, error]]);
  });

  it('makes a dead letter of a message that it cannot commit what it is made into, and goes on', async () => {
    const { made, letters } = await madeOf(Explodes, [0, 1, 2]);
    const found = made.map((text) => text.slice(0, 3));
    if (opened.store.maxWindowEffectBytes === undefined) {
      expect(found).toEqual(['0.0', ...Array.from({ length: 7 }, (_each, index) => `1.${index}`), '2.0']);
      expect(letters).toEqual([]);
      return;
    }
    expect(found).toEqual(['0.0', '2.0']);
    const error = expect.stringMatching(/what one message is made into has \d+ bytes .*MINIBATCH_MESSAGE_TOO_LARGE/);
    expect(letters).toEqual([[1, error]]);
  });

  it('puts messages into windows by key', async () => {
    const app = await boot(SumsOfReadings);
    try {
      const sensors = ['a', 'ü\0', '__proto__'];
      const all = Array.from({ length: ALL }, (_each, n): Reading => {
        const value = n % 7 === 0 ? BigInt(n) : n / 8;
        return { sensor: sensors[n % 3] ?? '', at: n * 3, value };
      });
      await app
        .get(StreamService)
        .stream(Readings)
        .appendMany([...all, { sensor: 'end', at: 1e6, value: 0 }]);
      const expected = sensors.flatMap((sensor) => sumsOf(all.filter((reading) => reading.sensor === sensor)));
      const { found } = app.get(SumsOfReadings);
      await vi.waitUntil(() => found.length >= expected.length, { timeout: 60_000, interval: 20 });
      expect(found.toSorted()).toEqual(expected.toSorted());
    } finally {
      await app.close();
    }
  });

  it('does not take the time for quiet in which the stream is paused', async () => {
    const { store } = opened;
    const app = await boot(CountsOfReadings);
    try {
      const readings = app.get(StreamService).stream(Readings);
      // Two seconds before the end of its window.
      await readings.append({ sensor: 'a', at: 8_000, value: 1 });
      const handled = async () => (await readings.stats()).buffered === 0;
      await vi.waitUntil(handled, { timeout: 60_000, interval: 5 });
      await readings.pause();
      const until = Date.now() + 2_200;
      await readings.append({ sensor: 'a', at: 9_000, value: 2 });
      await vi.waitUntil(() => Date.now() > until, { timeout: 60_000, interval: 50 });
      await readings.resume();
      const { found } = app.get(CountsOfReadings);
      await vi.waitUntil(() => found.length > 0, { timeout: 60_000, interval: 20 });
      expect(found).toEqual(['a 2']);
      expect(await store.deadLetters('readings', {}, undefined, 10)).toEqual([]);
    } finally {
      await app.close();
    }
  });

  it('closes no window over what one of several sources still has for it', async () => {
    const { store } = opened;
    const app = await boot(CountsOfBoth);
    try {
      const streams = app.get(StreamService);
      const pipeline = app.get(CountsOfBoth);
      const more = (at: number, key: string) => streams.append(MoreReadings, { sensor: 'a', at, value: 1 }, { key });
      const handled = async (stream: typeof Readings) => (await streams.stream(stream).stats()).buffered === 0;
      const until = (stream: typeof Readings) => vi.waitUntil(() => handled(stream), { timeout: 60_000, interval: 5 });
      // Both partitions: crc32 of 'a' is odd, that of 'd' is even.
      await more(1_000, 'a');
      await more(1_001, 'd');
      await until(MoreReadings);
      pipeline.isDown = true;
      await more(2_000, 'a');
      for (const at of [3_000, 15_000, 40_000]) await streams.append(Readings, { sensor: 'a', at, value: 1 });
      await until(Readings);
      pipeline.isDown = false;
      await more(45_000, 'a');
      await more(45_001, 'd');
      await until(MoreReadings);
      await vi.waitUntil(() => pipeline.found.length >= 2, { timeout: 60_000, interval: 20 });
      expect(pipeline.found.slice(0, 2)).toEqual(['a 0 4', 'a 10000 1']);
      expect(await store.deadLetters('both/items', {}, undefined, 10)).toEqual([]);
    } finally {
      await app.close();
    }
  });
});
