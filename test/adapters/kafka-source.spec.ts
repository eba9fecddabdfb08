import 'reflect-metadata';
import { randomUUID } from 'node:crypto';
import { ErrorCode, SourceState } from 'nestjs-minibatch';
import type { KafkaRecord } from 'nestjs-minibatch/kafka';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { closeAll, Log, SOON } from '../e2e/support/applications.js';
import { Collector, feedOf, newGroup, sourceStatus, startApp, upTo } from './support/kafka-apps.js';
import { tools } from './support/kafka-broker.js';
import { jsonRows } from './support/kafka-tools.js';

afterEach(closeAll);
describe('records become messages', () => {
  it('with key, headers, and where they come from', async () => {
    const topic = await tools.topic();
    const before = Date.now();
    await tools.produce(topic, [
      { key: 'SAT', value: '{"delay":25}', headers: { trace: 'a', many: ['x', 'y'], 'kafka-topic': 'forged' } },
    ]);
    const app = await startApp([feedOf(tools, { topics: topic, groupId: newGroup() })]);
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

  it('as JSON where they are, otherwise as text or bytes; nothing ends the loop', async () => {
    const topic = await produceHostile();
    const Feed = feedOf(tools, { topics: topic, groupId: newGroup() });
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
    const app = await startApp([feedOf(tools, { topics: topic, groupId: newGroup(), format })]);
    await vi.waitUntil(() => app.get(Collector).messages.length === HOSTILE.length, SOON);
    expect(app.get(Collector).data.slice(0, 5)).toEqual(expected);
  });

  it('as a custom function makes them, which may take its time and throw', async () => {
    const topic = await tools.topic();
    await tools.produce(topic, [{ value: '1' }, { value: 'x' }, { value: '3' }]);
    const format = async ({ value, offset }: KafkaRecord) => {
      await Promise.resolve();
      if (offset === '1') throw new Error('no number');
      return Number(value) * 10;
    };
    const app = await startApp([feedOf(tools, { topics: topic, groupId: newGroup(), format })]);
    await vi.waitUntil(() => app.get(Collector).messages.length === 3, SOON);
    expect(app.get(Collector).data).toEqual([10, 'x', 30]);
  });

  it('except those that the user leaves out, which are counted and named', async () => {
    const topic = await tools.topic();
    await tools.produce(topic, [{ value: '1' }, { value: 'x' }, { value: 'y' }, { value: '4' }]);
    const Feed = feedOf(tools, { topics: topic, groupId: newGroup(), malformed: 'skip' });
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
    const app = await startApp([feedOf(tools, { topics: topic, groupId: newGroup(), malformed })]);
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
    const groupId = newGroup();
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
    const groupId = newGroup();
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
    const app = await startApp([feedOf(tools, { topics, groupId: newGroup(), topicRefresh: 200 })]);
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
    const app = await startApp([feedOf(tools, { topics: topicsOf(mark), groupId: newGroup() })]);
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
