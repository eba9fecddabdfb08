import 'reflect-metadata';
import { randomUUID } from 'node:crypto';
import type { ConsumerConfig, Kafka } from 'kafkajs';
import { ErrorCode, SourceState, type SourceTarget } from 'nestjs-minibatch';
import { type KafkaRecord, KafkaSource } from 'nestjs-minibatch/kafka';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { closeAll, Log, SOON, STOP_LIMIT } from '../e2e/support/applications.js';
import { repository, succeed } from '../support/workspace.js';
import { Collector, feedOf, sourceStatus, startApp, upTo } from './support/kafka-apps.js';
import { jsonRows, KafkaTools, QUICK } from './support/kafka-tools.js';

let tools: KafkaTools;
beforeAll(async () => {
  tools = await KafkaTools.start();
}, 120_000);
afterAll(() => tools.stop());
afterEach(closeAll);

const group = () => `g-${randomUUID()}`;

/** A stream that does with batches what the test wants. */
const targetOf = (appendMany: SourceTarget['appendMany']): SourceTarget => ({
  name: 'rows',
  append: (data, options = {}) => appendMany([data], { each: () => options }),
  appendMany,
  position: () => Promise.resolve(undefined),
});

describe('records become messages', () => {
  it('with key, headers, and where they come from', async () => {
    const topic = await tools.topic();
    const before = Date.now();
    await tools.produce(topic, [
      { key: 'SAT', value: '{"delay":25}', headers: { trace: 'a', many: ['x', 'y'], 'kafka-topic': 'forged' } },
    ]);
    const app = await startApp([feedOf(tools, { topics: topic, groupId: group() })]);
    const { messages } = app.get(Collector);
    await vi.waitUntil(() => messages.length === 1, SOON);
    const [message] = messages;
    expect(message).toMatchObject({ data: { delay: 25 }, key: 'SAT' });
    expect(message?.headers).toEqual({
      trace: 'a',
      many: '["x","y"]',
      'kafka-topic': topic,
      'kafka-partition': '0',
      'kafka-offset': '0',
      'kafka-timestamp': expect.stringMatching(/^\d{13}$/),
    });
    expect(Number(message?.headers?.['kafka-timestamp'])).toBeGreaterThanOrEqual(before);
  });

  const HOSTILE = [
    '{"a":1}',
    'not json',
    null,
    '',
    Buffer.from([0xff, 0xfe, 0x00]),
    '{"__proto__":{"x":1},"$set":{"a.b":2}}',
    '{"nul\\u0000":1}',
    '[]',
    '"text"',
    'null',
  ];
  const produceHostile = async () => {
    const topic = await tools.topic();
    await tools.produce(
      topic,
      HOSTILE.map((value) => ({ value })),
    );
    return topic;
  };

  it('as JSON where they are, else as text or bytes; nothing ends the loop', async () => {
    const topic = await produceHostile();
    const Feed = feedOf(tools, { topics: topic, groupId: group() });
    const log = new Log();
    const app = await startApp([Feed], { log });
    const { messages } = app.get(Collector);
    await vi.waitUntil(() => messages.length === HOSTILE.length, SOON);
    const data = app.get(Collector).data;
    expect(data.filter((_, index) => index !== 5)).toEqual([
      { a: 1 },
      'not json',
      null,
      '',
      Buffer.from([0xff, 0xfe, 0x00]),
      '{"nul\\u0000":1}',
      [],
      'text',
      null,
    ]);
    expect(JSON.stringify(data[5])).toBe('{"__proto__":{"x":1},"$set":{"a.b":2}}');
    expect(app.get(Feed).counters).toEqual({ received: 10, appended: 10, malformed: 4, skipped: 0, unstorable: 0 });
    const lines = log.lines.filter((line) => line.includes('malformed'));
    expect(lines).toHaveLength(4);
    const first = `warn: Feed: the record ${topic}:0:1 is malformed and was kept as it is (1 so far): it is not JSON: `;
    expect(lines).toContainEqual(expect.stringContaining(first));
    await expect(sourceStatus(app)).resolves.toMatchObject({ state: SourceState.Running, failures: 0 });
  });

  it.each([
    ['string', ['{"a":1}', 'not json', null, '', Buffer.from([0xff, 0xfe, 0x00])]],
    [
      'bytes',
      [Buffer.from('{"a":1}'), Buffer.from('not json'), null, Buffer.from(''), Buffer.from([0xff, 0xfe, 0x00])],
    ],
  ] as const)('as %s', async (format, expected) => {
    const topic = await produceHostile();
    const app = await startApp([feedOf(tools, { topics: topic, groupId: group(), format })]);
    await vi.waitUntil(() => app.get(Collector).messages.length === HOSTILE.length, SOON);
    expect(app.get(Collector).data.slice(0, 5)).toEqual(expected);
  });

  it('as an own function makes them, which may take its time and throw', async () => {
    const topic = await tools.topic();
    await tools.produce(topic, [{ value: '1' }, { value: 'x' }, { value: '3' }]);
    const format = async ({ value, offset }: KafkaRecord) => {
      await Promise.resolve();
      if (offset === '1') throw new Error('no number');
      return Number(value) * 10;
    };
    const app = await startApp([feedOf(tools, { topics: topic, groupId: group(), format })]);
    await vi.waitUntil(() => app.get(Collector).messages.length === 3, SOON);
    expect(app.get(Collector).data).toEqual([10, 'x', 30]);
  });

  it('except those that the user leaves out, which are counted and named', async () => {
    const topic = await tools.topic();
    await tools.produce(topic, [{ value: '1' }, { value: 'x' }, { value: 'y' }, { value: '4' }]);
    const Feed = feedOf(tools, { topics: topic, groupId: group(), malformed: 'skip' });
    const log = new Log();
    const app = await startApp([Feed], { log });
    await vi.waitUntil(() => app.get(Collector).messages.length === 2, SOON);
    expect(app.get(Collector).data).toEqual([1, 4]);
    expect(app.get(Feed).counters).toEqual({ received: 4, appended: 2, malformed: 2, skipped: 2, unstorable: 0 });
    const last = `warn: Feed: the record ${topic}:0:2 is malformed and was skipped (2 so far): it is not JSON: `;
    expect(log.lines).toContainEqual(expect.stringContaining(last));
  });

  it('replaced by a function where they are malformed', async () => {
    const topic = await tools.topic();
    await tools.produce(topic, [{ value: 'x' }, { value: '2' }]);
    const malformed = ({ id }: KafkaRecord, { cause }: Error) => ({ bad: id, error: (cause as Error).name });
    const app = await startApp([feedOf(tools, { topics: topic, groupId: group(), malformed })]);
    await vi.waitUntil(() => app.get(Collector).messages.length === 2, SOON);
    expect(app.get(Collector).data).toEqual([{ bad: `${topic}:0:0`, error: 'SyntaxError' }, 2]);
  });
});

describe('a record over the store’s limit', () => {
  const HUGE = 17 * 1024 * 1024;
  const produceHuge = async () => {
    const topic = await tools.topic(1, { 'max.message.bytes': String(20 * 1024 * 1024) });
    await tools.produce(topic, [{ value: '1' }]);
    await tools.produce(topic, [{ value: JSON.stringify('x'.repeat(HUGE)) }]);
    await tools.produce(topic, [{ value: '3' }]);
    return topic;
  };

  it('is left out, loudly, and the others get through', async () => {
    const topic = await produceHuge();
    const groupId = group();
    const Feed = feedOf(tools, { topics: topic, groupId });
    const log = new Log();
    const app = await startApp([Feed], { log });
    await vi.waitUntil(() => app.get(Collector).messages.length === 2, SOON);
    expect(app.get(Collector).data).toEqual([1, 3]);
    expect(app.get(Feed).counters.skipped).toBe(1);
    expect(log.lines).toContainEqual(
      expect.stringMatching(
        `error: Feed: the record ${topic}:0:1 cannot be stored and was skipped \\(1 so far\\): .*TOO_LARGE`,
      ),
    );
    await vi.waitUntil(async () => (await tools.committed(groupId, topic)) === 3, SOON);
  });

  it('with unstorable: fail, stops the source at it, with its name in the status', async () => {
    const topic = await produceHuge();
    const groupId = group();
    const app = await startApp([feedOf(tools, { topics: topic, groupId, unstorable: 'fail' })]);
    await vi.waitUntil(async () => ((await sourceStatus(app))?.failures ?? 0) >= 2, SOON);
    const status = await sourceStatus(app);
    expect(status?.lastError).toMatchObject({ code: ErrorCode.MessageTooLarge });
    expect(status?.lastError?.message).toContain(`the record ${topic}:0:1`);
    expect(await tools.committed(groupId, topic)).toBeLessThanOrEqual(1);
  });
});

describe('topics', () => {
  it('may be several, and patterns, which find later ones too', async () => {
    const mark = randomUUID();
    const single = await tools.topic();
    const first = await tools.topic(1, {}, `${mark}-a`);
    await tools.produce(single, jsonRows(1, 0));
    await tools.produce(first, jsonRows(1, 1));
    const topics = [single, new RegExp(`^${mark}-`, 'g')];
    const app = await startApp([feedOf(tools, { topics, groupId: group(), topicRefresh: 200 })]);
    const collector = app.get(Collector);
    await vi.waitUntil(() => collector.messages.length === 2, SOON);
    const later = await tools.topic(2, {}, `${mark}-b`);
    await tools.produce(later, jsonRows(4, 2));
    await vi.waitUntil(() => collector.messages.length === 6, SOON);
    expect(collector.numbers).toEqual(upTo(6));
    await expect(sourceStatus(app)).resolves.toMatchObject({ state: SourceState.Running, failures: 0 });
  });

  it.each([
    ['a name', (mark: string) => mark, /Kafka has no topic '.*': create it/],
    ['a pattern', (mark: string) => new RegExp(mark), /no topic of Kafka matches .*: create one/],
  ])('that are not there are named, not created, and read when they come: %s', async (_, topicsOf, message) => {
    const mark = `missing-${randomUUID()}`;
    const app = await startApp([feedOf(tools, { topics: topicsOf(mark), groupId: group() })]);
    await vi.waitUntil(async () => (await sourceStatus(app))?.lastError !== undefined, SOON);
    await expect(sourceStatus(app)).resolves.toMatchObject({
      lastError: { code: ErrorCode.SourceFailed, message: expect.stringMatching(message) },
    });
    expect(await tools.admin((admin) => admin.listTopics())).not.toContain(mark);
    await tools.topic(1, {}, mark);
    await tools.produce(mark, jsonRows(3));
    await vi.waitUntil(() => app.get(Collector).messages.length === 3, SOON);
  });
});

describe('a start', () => {
  it('without fromBeginning is held in Kafka, so that nothing is missed between two runs', async () => {
    const topic = await tools.topic(3);
    await tools.produce(topic, jsonRows(50));
    const groupId = group();
    const options = { topics: topic, groupId, fromBeginning: false };
    const first = await startApp([feedOf(tools, options)]);
    // At its end, though it has not had a single record.
    await vi.waitUntil(async () => (await tools.committed(groupId, topic)) === 50, SOON);
    await first.close();
    expect(first.get(Collector).messages).toEqual([]);
    await tools.produce(topic, jsonRows(50, 50));
    const second = await startApp([feedOf(tools, options)]);
    await vi.waitUntil(() => second.get(Collector).messages.length === 50, SOON);
    expect(second.get(Collector).numbers).toEqual(upTo(100).slice(50));
  });

  it('takes a client that is there, and groups by the stream’s name', async () => {
    const topic = await tools.topic();
    await tools.produce(topic, jsonRows(3));
    const app = await startApp([feedOf(tools, { kafka: tools.kafka, topics: topic })]);
    await vi.waitUntil(() => app.get(Collector).messages.length === 3, SOON);
    await vi.waitUntil(async () => (await tools.committed('minibatch.rows', topic)) === 3, SOON);
  });

  it('with a wrong password says so', async () => {
    const { broker, username } = tools.server.secure;
    const sasl = { mechanism: 'plain', username, password: 'wrong' } as const;
    const kafka = { ...tools.config, brokers: [broker], sasl };
    const app = await startApp([feedOf(tools, { kafka, topics: 'any' })]);
    await vi.waitUntil(async () => (await sourceStatus(app))?.lastError !== undefined, SOON);
    await expect(sourceStatus(app)).resolves.toMatchObject({
      lastError: { code: ErrorCode.SourceFailed, message: expect.stringMatching(/password in sasl/) },
    });
  });

  it('with the right one works', async () => {
    const { broker, ...user } = tools.server.secure;
    const topic = await tools.topic();
    await tools.produce(topic, jsonRows(1));
    const kafka = { ...tools.config, brokers: [broker], sasl: { mechanism: 'plain', ...user } as const };
    const app = await startApp([feedOf(tools, { kafka, topics: topic, groupId: group() })]);
    await vi.waitUntil(() => app.get(Collector).messages.length === 1, SOON);
  });
});

describe('a stop', () => {
  it('in the middle, and a start again, lose and repeat nothing', async () => {
    const topic = await tools.topic(2);
    const groupId = group();
    const COUNT = 5000;
    await tools.produce(topic, jsonRows(COUNT));
    const Feed = feedOf(tools, { topics: topic, groupId, batch: 100 });
    const seen: number[] = [];
    for (let runs = 0; seen.length < COUNT && runs < 50; runs += 1) {
      const stop = new AbortController();
      const goal = seen.length + 700;
      const run = new Feed().stream(
        targetOf(async (data) => {
          seen.push(...data.map((row) => (row as { n: number }).n));
          if (seen.length >= goal) stop.abort();
        }),
        stop.signal,
      );
      await vi.waitUntil(() => stop.signal.aborted || seen.length === COUNT, SOON);
      const begin = performance.now();
      stop.abort();
      await run;
      expect(performance.now() - begin).toBeLessThan(STOP_LIMIT);
    }
    expect(seen.toSorted((a, b) => a - b)).toEqual(upTo(COUNT));
  });

  it('does not wait for an append that hangs, and commits nothing of it', async () => {
    const topic = await tools.topic();
    const groupId = group();
    await tools.produce(topic, jsonRows(10));
    const stop = new AbortController();
    let called = false;
    const run = new (feedOf(tools, { topics: topic, groupId }))().stream(
      targetOf(() => {
        called = true;
        return new Promise(() => undefined);
      }),
      stop.signal,
    );
    await vi.waitUntil(() => called, SOON);
    const begin = performance.now();
    stop.abort();
    await run;
    expect(performance.now() - begin).toBeLessThan(STOP_LIMIT);
    expect(await tools.committed(groupId, topic)).toBe(0);
  });

  it('is possible while Kafka is still being looked for', async () => {
    const stop = new AbortController();
    const kafka = { ...tools.config, brokers: ['127.0.0.1:1'] };
    const run = new (feedOf(tools, { kafka, topics: 'any' }))().stream(
      targetOf(() => Promise.resolve()),
      stop.signal,
    );
    stop.abort();
    const begin = performance.now();
    await run;
    expect(performance.now() - begin).toBeLessThan(STOP_LIMIT);
  });
});

describe('an append that takes long', () => {
  it('keeps its membership by heartbeats, and is not delivered to another', async () => {
    const topic = await tools.topic();
    const groupId = group();
    await tools.produce(topic, jsonRows(5));
    let heartbeats = 0;
    const kafka = {
      consumer: (config: ConsumerConfig) => {
        const real = tools.kafka.consumer(config);
        real.on(real.events.HEARTBEAT, () => (heartbeats += 1));
        return real;
      },
      admin: () => tools.kafka.admin(),
      producer: () => tools.kafka.producer(),
    } as Kafka;
    const consumer = { ...QUICK, heartbeatInterval: 100 };
    const stop = new AbortController();
    let appends = 0;
    let finish = () => undefined as void;
    const held = new Promise<void>((resolve) => (finish = resolve));
    const run = new (feedOf(tools, { kafka, topics: topic, groupId, consumer }))().stream(
      targetOf(() => {
        appends += 1;
        return held;
      }),
      stop.signal,
    );
    await vi.waitUntil(() => appends === 1, SOON);
    const before = heartbeats;
    await vi.waitUntil(() => heartbeats >= before + 10, SOON);
    expect(await tools.members(groupId)).toBe(1);
    finish();
    await vi.waitUntil(async () => (await tools.committed(groupId, topic)) === 5, SOON);
    // Nobody else had it, nor this member twice.
    expect(appends).toBe(1);
    stop.abort();
    await run;
  });

  it('for too long fails the source', async () => {
    const topic = await tools.topic();
    await tools.produce(topic, jsonRows(1));
    const Feed = feedOf(tools, { topics: topic, groupId: group(), maxAppendTime: 200 });
    const hangs = targetOf(() => new Promise(() => undefined));
    const run = new Feed().stream(hangs, new AbortController().signal);
    await expect(run).rejects.toMatchObject({
      code: ErrorCode.SourceFailed,
      message: expect.stringMatching(/an append takes more than 200 ms \(records from .*:0:0 on\)/),
    });
  });
});

describe('an offset', () => {
  it('whose commit failed is committed with no record to wait for', async () => {
    const topic = await tools.topic();
    const groupId = group();
    await tools.produce(topic, jsonRows(5));
    let failures = 0;
    // The real client, but for one commit: a broker can't be made to fail just that.
    const consumer = (config: ConsumerConfig) => {
      const real = tools.kafka.consumer(config);
      const run: typeof real.run = ({ eachBatch, ...rest } = {}) =>
        real.run({
          ...rest,
          eachBatch: async (payload) => {
            const fail = () =>
              Promise.reject(Object.assign(new Error('lost'), { retriable: true, n: (failures += 1) }));
            await eachBatch?.(failures > 0 ? payload : { ...payload, commitOffsetsIfNecessary: fail });
          },
        });
      return { ...real, run };
    };
    const kafka = { consumer, admin: () => tools.kafka.admin(), producer: () => tools.kafka.producer() } as Kafka;
    const app = await startApp([feedOf(tools, { kafka, topics: topic, groupId })]);
    await vi.waitUntil(async () => (await tools.committed(groupId, topic)) === 5, SOON);
    expect(failures).toBe(1);
    expect(app.get(Collector).messages).toHaveLength(5);
    await expect(sourceStatus(app)).resolves.toMatchObject({ failures: 0 });
  });
});

describe('two sources of different topics in one group', () => {
  it('are told that each needs its own', async () => {
    const groupId = group();
    const [a, b] = [await tools.topic(2), await tools.topic(2)];
    const log = new Log();
    await startApp([feedOf(tools, { topics: a, groupId })]);
    await startApp([feedOf(tools, { topics: b, groupId })], { log });
    await vi.waitUntil(async () => (await tools.members(groupId)) === 2, SOON);
    await vi.waitUntil(
      () => log.lines.some((line) => line.startsWith('error: ') && line.includes('its own groupId')),
      SOON,
    );
  });
});

describe('without the package kafkajs', () => {
  it('source and sink say what to install', async () => {
    const printed = await succeed(process.execPath, [repository('test/fixtures/adapters/without-kafkajs.mjs')]);
    const error = { code: ErrorCode.MissingPackage, message: expect.stringContaining('npm install kafkajs') };
    expect(JSON.parse(printed)).toEqual([error, error]);
  });
});

describe('options', () => {
  const kafka = { brokers: ['localhost:9092'] };

  it.each([
    [{}, /Feed: kafka is undefined; allowed: a Kafka client/],
    [{ kafka: { brokers: [] }, topics: 'a' }, /kafka is an object; allowed/],
    [{ kafka }, /topics is undefined/],
    [{ kafka, topics: [] }, /topics is \[\]/],
    [{ kafka, topics: [''] }, /topics is \[''\]/],
    [{ kafka, topics: 'a', format: 'avro' }, /format is 'avro'; allowed: 'json', 'string', 'bytes', or a function/],
    [{ kafka, topics: 'a', malformed: 'drop' }, /malformed is 'drop'; allowed: 'keep', 'skip', or a function/],
    [{ kafka, topics: 'a', unstorable: 'keep' }, /unstorable is 'keep'; allowed: 'skip', 'fail', or a function/],
    [
      { kafka, topics: 'a', largeIntegers: 'round' },
      /largeIntegers is 'round'; allowed: 'bigint', 'malformed', 'number'/,
    ],
    [{ kafka, topics: 'a', dedupeId: true }, /dedupeId is true; allowed: a function of the record, or false/],
    [{ kafka, topics: 'a', dedupeId: false, replay: 'b' }, /replay is 'b'; allowed: none with dedupeId/],
    [{ kafka, topics: 'a', replay: '' }, /replay is ''/],
    [{ kafka, topics: 'a', key: 'id' }, /key is 'id'; allowed: a function of the record/],
    [{ kafka, topics: 'a', maxAppendTime: 5 }, /maxAppendTime is 5/],
    [{ kafka, topics: 'a', batch: 0 }, /batch is 0/],
    [{ kafka, topics: 'a', groupId: '' }, /groupId is ''/],
    [{ kafka, topics: 'a', topic: 'b' }, /unknown option 'topic'/],
    [{ kafka, topics: 'a', consumer: { groupId: 'b' } }, /Feed: consumer: unknown option 'groupId'/],
  ])('%# refuses nonsense', (options, message) => {
    class Feed extends KafkaSource {}
    expect(() => new Feed(options as never)).toThrow(
      expect.objectContaining({ code: ErrorCode.InvalidOptions, message: expect.stringMatching(message) }),
    );
  });

  it('say what a subclass has to do', () => {
    class Feed extends KafkaSource {}
    expect(() => Reflect.construct(Feed, [])).toThrow(/Feed.*call super\(\{ kafka, topics/);
  });
});
