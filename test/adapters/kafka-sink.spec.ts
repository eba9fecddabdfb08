import 'reflect-metadata';
import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { Binary, Decimal128, Long } from 'bson';
import {
  ErrorCode,
  memoryStore,
  MinibatchModule,
  StatusService,
  Streaming,
  StreamService,
  type Window,
} from 'nestjs-minibatch';
import { type FailedResult, FailureReason, KafkaSink, type KafkaSinkOptions } from 'nestjs-minibatch/kafka';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { closeAll, Log, SOON, start } from '../e2e/support/applications.js';
import { Collector, feedOf, startApp, upTo } from './support/kafka-apps.js';
import { tools } from './support/kafka-broker.js';

const sinks: KafkaSink[] = [];
afterEach(async () => {
  await closeAll();
  await Promise.all(sinks.splice(0).map((sink) => sink.close()));
});

function sinkOf<R>(options: Omit<KafkaSinkOptions<R>, 'kafka'> & Partial<KafkaSinkOptions<R>>): KafkaSink<R> {
  const sink = new KafkaSink<R>({ kafka: tools.config, ...options });
  sinks.push(sink as KafkaSink);
  return sink;
}

const CYCLE: { self?: unknown } = {};
CYCLE.self = CYCLE;

/** The part of a window that the sink looks at. */
const window = (id: string, signal: AbortSignal = new AbortController().signal) => ({ id, signal }) as Window;

const values = async (topic: string) =>
  (await tools.read(topic)).map(({ value }) => value?.toString() ?? null).toSorted();

describe('KafkaSink', () => {
  it('writes a result as one record, with key, headers and the window’s id', async () => {
    const topic = await tools.topic(3);
    const sink = sinkOf<{ origin: string }>({
      topic,
      key: ({ origin }) => origin,
      headers: ({ origin }, { id }) => ({ about: `${origin} of ${id}`, bytes: new Uint8Array([65]) }),
    });
    await sink.put({ origin: 'SAT' }, window('w1'));
    expect(await tools.read(topic)).toEqual([
      {
        partition: expect.any(Number),
        offset: '0',
        key: 'SAT',
        value: Buffer.from('{"origin":"SAT"}'),
        headers: { about: 'SAT of w1', bytes: 'A', 'minibatch-id': 'w1' },
      },
    ]);
  });

  it('writes an array as one record an element, each with its index, in one partition in its order', async () => {
    const topic = await tools.topic(1);
    await sinkOf({ topic }).put([{ n: 0 }, undefined, { n: 2 }], window('w'));
    expect(await tools.read(topic)).toMatchObject([
      { value: Buffer.from('{"n":0}'), headers: { 'minibatch-id': 'w:0' } },
      { value: Buffer.from('{"n":2}'), headers: { 'minibatch-id': 'w:2' } },
    ]);
  });

  it('writes what is not an object, null as tombstone and bytes as they are; nothing for undefined and an empty array', async () => {
    const topic = await tools.topic(1);
    const sink = sinkOf({ topic, idHeader: false });
    await sink.put([0, '', 'text', false, null, new Uint8Array([1, 2])], window('w'));
    await sink.put(undefined, window('w'));
    await sink.put([], window('w'));
    const read = await tools.read(topic);
    expect(read.map(({ value }) => value)).toEqual([
      Buffer.from('0'),
      Buffer.from('""'),
      Buffer.from('"text"'),
      Buffer.from('false'),
      null,
      Buffer.from([1, 2]),
    ]);
    expect(read.map(({ headers }) => headers)).toEqual(Array.from({ length: 6 }, () => ({})));
  });

  it('takes a custom serialiser, and a header of another name', async () => {
    const topic = await tools.topic(1);
    const sink = sinkOf<number>({ topic, value: (result, { id }) => `${id}=${result}`, idHeader: 'id' });
    await sink.put(5, window('w'));
    expect(await tools.read(topic)).toMatchObject([{ value: Buffer.from('w=5'), headers: { id: 'w' } }]);
  });

  it.each([{}, { idempotent: true }, { compression: 'gzip' as const }, { acks: 1 as const }])(
    'writes results of megabytes in several sends: %o',
    async (options) => {
      const topic = await tools.topic(2);
      const sink = sinkOf({ topic, ...options });
      const results = upTo(20_000).map((n) => ({ n, text: 'x'.repeat(200) }));
      await sink.put(results, window('w'));
      const numbers = (await tools.read(topic)).map(({ value }) => (JSON.parse(String(value)) as { n: number }).n);
      expect(numbers.toSorted((a, b) => a - b)).toEqual(upTo(20_000));
    },
  );

  it('goes by halves where the topic’s limit is lower than the option says', async () => {
    const topic = await tools.topic(1, { 'max.message.bytes': '10000' });
    await sinkOf({ topic }).put(
      upTo(500).map((n) => ({ n, text: 'x'.repeat(200) })),
      window('w'),
    );
    expect(await tools.written(topic)).toBe(500);
  });

  it('rejects with the name of a result that is too large, and writes the others once, however often it is tried', async () => {
    const topic = await tools.topic(1);
    const sink = sinkOf({ topic });
    const results = [{ n: 0 }, { n: 1, text: 'x'.repeat(2_000_000) }, { n: 2 }];
    const again = window('w');
    for (let tries = 0; tries < 2; tries += 1) {
      const error = await sink.put(results, again).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({
        code: ErrorCode.ResultRefused,
        message: expect.stringMatching(
          /KafkaSink: 1 of 3 results of window w are too large for the topic '.*': result 1 \(about 20000\d\d bytes: .*\)\. Raise/,
        ),
        details: { reason: FailureReason.NotWritten, window: 'w', topic, written: 2 },
      });
      const { failed } = (error as { details: { failed: FailedResult[] } }).details;
      expect(failed).toEqual([{ index: 1, code: 'MESSAGE_TOO_LARGE', message: expect.stringMatching(/larger/) }]);
    }
    expect(await values(topic)).toEqual(['{"n":0}', '{"n":2}']);
  });

  it('writes all digits of large numbers, which a source reads back', async () => {
    const topic = await tools.topic();
    const large = {
      id: Long.fromString('9007199254740993'),
      n: -9007199254740993n,
      price: Decimal128.fromString('1.10'),
    };
    await sinkOf<unknown>({ topic }).put([large, new Binary(Buffer.from([0, 255]))], window('w'));
    const [first, second] = await tools.read(topic);
    expect(first?.value?.toString()).toBe('{"id":9007199254740993,"n":-9007199254740993,"price":1.10}');
    expect(second?.value).toEqual(Buffer.from([0, 255]));
    const app = await startApp([feedOf(tools, { topics: topic, groupId: `g-${randomUUID()}` })]);
    await vi.waitUntil(() => app.get(Collector).messages.length === 2, SOON);
    const { id, n, price } = app.get(Collector).data[0] as Record<string, unknown>;
    expect([String(id), String(n), price]).toEqual(['9007199254740993', '-9007199254740993', 1.1]);
  });

  it.each([
    ['a cycle', CYCLE, {}, /the result of window w cannot become a Kafka record: value threw: it contains itself/],
    ['a function', () => 1, {}, /its value is undefined: a string, bytes or null is needed/],
    ['a key that throws', [1, 2], { key: () => JSON.parse('{') as string }, /result 0 of window w .*key threw: /],
    [
      'a key that is no text',
      [1],
      { key: () => 5 as never },
      /result 0 of window w .*its key is 5: a string or bytes are needed/,
    ],
    ['a header that is no text', 1, { headers: () => ({ n: 5 as never }) }, /its header 'n' is 5: a string or bytes/],
  ])('rejects %s before anything is written', async (_, result, options, message) => {
    const topic = await tools.topic();
    const put = sinkOf<unknown>({ topic, ...options }).put(result, window('w'));
    await expect(put).rejects.toMatchObject({ code: ErrorCode.ResultRefused, message: expect.stringMatching(message) });
    expect(await tools.written(topic)).toBe(0);
  });

  it.each([
    ['topic that is not there', () => ({ topic: `missing-${randomUUID()}` }), /Create the topic/],
    [
      'broker that is not there',
      () => ({ topic: 'any', kafka: { ...tools.config, brokers: ['127.0.0.1:1'] } }),
      /brokers run/,
    ],
    [
      'wrong password',
      () => {
        const { broker, username } = tools.server.secure;
        const sasl = { mechanism: 'plain', username, password: 'wrong' } as const;
        return { topic: 'any', kafka: { ...tools.config, brokers: [broker], sasl } };
      },
      /password in sasl/,
    ],
  ])('rejects with what to do: %s', async (_, options, hint) => {
    const put = sinkOf({ ...options(), producer: { retry: { retries: 1 } } }).put({ n: 1 }, window('w'));
    await expect(put).rejects.toMatchObject({ code: ErrorCode.SinkFailed, message: expect.stringMatching(hint) });
  });

  it('gives up at once when the window’s signal aborts', async () => {
    const lost = new AbortController();
    const kafka = { ...tools.config, brokers: ['127.0.0.1:1'] };
    const put = sinkOf({ topic: 'any', kafka }).put({ n: 1 }, window('w', lost.signal));
    lost.abort();
    await expect(put).rejects.toMatchObject({ code: ErrorCode.SinkFailed });
  });

  it('takes an existing client, several windows at a time, and continues after close()', async () => {
    const topic = await tools.topic(3);
    const sink = sinkOf({ topic, kafka: tools.kafka });
    await Promise.all(upTo(20).map((n) => sink.put({ n }, window(`w${n}`))));
    await sink.close();
    await sink.put({ n: 20 }, window('w20'));
    expect(await values(topic)).toEqual(
      upTo(21)
        .map((n) => `{"n":${n}}`)
        .toSorted(),
    );
  });
});

describe('a sink in an application', () => {
  it('gets the results of a consumer, and is closed after the last of them', async () => {
    const topic = await tools.topic(2);
    @Injectable()
    class Sums extends KafkaSink<{ sum: number }> {
      constructor() {
        super({ kafka: tools.config, topic });
      }
    }
    class Summer {
      @Streaming<{ n: number }, typeof Sums>('rows', { size: 10, sink: Sums })
      sum({ data }: Window<{ n: number }>) {
        return { sum: data.reduce((sum, { n }) => sum + n, 0) };
      }
    }
    const log = new Log();
    const app = await start(
      { imports: [MinibatchModule.forRoot({ store: memoryStore() })], providers: [Summer, Sums] },
      log,
    );
    // Without them, a warning after a second says that nothing listens for SIGTERM.
    app.enableShutdownHooks();
    await app
      .get(StreamService)
      .stream('rows')
      .appendMany(upTo(100).map((n) => ({ n })));
    await vi.waitUntil(async () => (await tools.written(topic)) === 10, SOON);
    const sums = (await tools.read(topic)).map(({ value }) => (JSON.parse(String(value)) as { sum: number }).sum);
    expect(sums.reduce((a, b) => a + b, 0)).toBe(4950);
    await app.close();
    expect(log.lines.filter((line) => /^(warn|error)/.test(line))).toEqual([]);
  });

  it('feeds a source whose stream knows windows that it has had, by the headers', async () => {
    const topic = await tools.topic(1);
    const sink = sinkOf({ topic });
    // As after a crash: another try of the same window, by another object.
    for (let tries = 0; tries < 2; tries += 1) await sink.put(upTo(5), window('w'));
    expect(await tools.written(topic)).toBe(10);
    const Feed = feedOf(tools, {
      topics: topic,
      groupId: `g-${randomUUID()}`,
      dedupeId: ({ headers }) => headers['minibatch-id'],
    });
    const app = await startApp([Feed]);
    await vi.waitUntil(() => app.get(Feed).counters.received === 10, SOON);
    await vi.waitUntil(() => app.get(Collector).messages.length === 5, SOON);
    expect(app.get(Collector).data).toEqual(upTo(5));
  });

  it('that fails shows the consumer as blocked, and continues when the topic exists', async () => {
    const topic = `later-${randomUUID()}`;
    class Forward {
      @Streaming('rows', {
        size: 5,
        sink: sinkOf({ topic, producer: { retry: { retries: 0 } } }),
        retry: { backoff: 50, maxBackoff: 200 },
      })
      forward({ data }: Window) {
        return data;
      }
    }
    const app = await start({ imports: [MinibatchModule.forRoot({ store: memoryStore() })], providers: [Forward] });
    await app.get(StreamService).stream('rows').appendMany(upTo(5));
    const state = async () => (await app.get(StatusService).snapshot()).streams[0]?.consumers[0]?.local?.activity;
    await vi.waitUntil(async () => (await state()) === 'blocked', SOON);
    await tools.topic(1, {}, topic);
    await vi.waitUntil(async () => (await tools.written(topic)) === 5, SOON);
  });
});

describe('options', () => {
  const kafka = { brokers: ['localhost:9092'] };

  it.each([
    [{ topic: 'a' }, /Reports: kafka is undefined; allowed/],
    [{ kafka }, /topic is undefined/],
    [{ kafka, topic: '' }, /topic is ''/],
    [{ kafka, topic: 'a', acks: 0 }, /acks is 0; allowed: -1, 1/],
    [{ kafka, topic: 'a', acks: 1, idempotent: true }, /acks is 1; allowed: -1, with idempotent/],
    [
      { kafka, topic: 'a', compression: 'zip' },
      /compression is 'zip'; allowed: 'none', 'gzip', 'snappy', 'lz4', 'zstd'/,
    ],
    [{ kafka, topic: 'a', key: 'id' }, /key is 'id'; allowed: a function/],
    [{ kafka, topic: 'a', topics: ['b'] }, /unknown option 'topics'/],
    [{ kafka, topic: 'a', producer: { idempotent: true } }, /producer: unknown option 'idempotent'/],
  ])('%# refuses nonsense', (options, message) => {
    class Reports extends KafkaSink {}
    expect(() => new Reports(options as never)).toThrow(
      expect.objectContaining({ code: ErrorCode.InvalidOptions, message: expect.stringMatching(message) }),
    );
  });
});
