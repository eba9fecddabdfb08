import 'reflect-metadata';
import { randomUUID } from 'node:crypto';
import { ErrorCode, SourceState } from 'nestjs-minibatch';
import type { KafkaRecord, KafkaSourceOptions } from 'nestjs-minibatch/kafka';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { closeAll, Log, SOON } from '../e2e/support/applications.js';
import { Collector, feedOf, sourceStatus, startApp } from './support/kafka-apps.js';
import { tools } from './support/kafka-broker.js';

afterEach(closeAll);

/** An application that reads the topic. */
async function follow(topic: string, options: Partial<KafkaSourceOptions> = {}) {
  const groupId = `g-${randomUUID()}`;
  const Feed = feedOf(tools, { topics: topic, groupId, ...options });
  const log = new Log();
  const app = await startApp([Feed], { log });
  return {
    log,
    source: app.get(Feed),
    collector: app.get(Collector),
    status: () => sourceStatus(app),
    /** Resolves when the group is done with that many records. */
    through: (count: number) => vi.waitUntil(async () => (await tools.committed(groupId, topic)) === count, SOON),
  };
}

const thrower = (): never => {
  throw new Error('out of order');
};

describe('a record with hostile parts', () => {
  it('gets through with its key and its headers', async () => {
    const topic = await tools.topic();
    const int = (value: number) => {
      const bytes = Buffer.alloc(4);
      bytes.writeInt32BE(value);
      return bytes;
    };
    const headers = Object.fromEntries([
      ['__proto__', 'p'],
      ['constructor', 'c'],
      ['toString', 't'],
      ['n\0ul', 'x\0y'],
      ['many', ['1, 2', '3']],
    ]) as Record<string, string | string[]>;
    await tools.produce(topic, [
      { key: int(1), value: '1', headers },
      { key: int(128), value: '2' },
      { key: '', value: '3' },
      { key: 'x'.repeat(600), value: '4' },
      { key: 'a\0b', value: '5' },
    ]);
    const { collector, source, status } = await follow(topic);
    await vi.waitUntil(() => collector.messages.length === 5, SOON);
    expect(collector.messages.map(({ key }) => key)).toEqual([
      'base64:AAAAAQ==',
      'base64:AAAAgA==',
      '',
      'x'.repeat(600),
      'base64:YQBi',
    ]);
    expect(Object.entries(collector.messages[0]?.headers ?? {})).toEqual(
      expect.arrayContaining([
        ['__proto__', 'p'],
        ['constructor', 'c'],
        ['toString', 't'],
        ['base64:bgB1bA==', 'base64:eAB5'],
        ['many', '["1, 2","3"]'],
      ]),
    );
    expect(source.counters).toMatchObject({ received: 5, malformed: 0, skipped: 0, unstorable: 0 });
    await expect(status()).resolves.toMatchObject({ state: SourceState.Running, failures: 0 });
  });

  it('has its key from a custom function, by its bytes', async () => {
    const topic = await tools.topic();
    await tools.produce(topic, [{ key: Buffer.from([0, 0, 0, 128]), value: '1' }, { value: '2' }]);
    const { collector } = await follow(topic, { key: ({ keyBytes }) => keyBytes?.readInt32BE().toString() });
    await vi.waitUntil(() => collector.messages.length === 2, SOON);
    expect(collector.messages.map(({ key }) => key)).toEqual(['128', undefined]);
  });

  it('has its numbers with all their digits, or is malformed', async () => {
    const topic = await tools.topic();
    const values = ['{"n":9007199254740993}', '[1e400]', '{"n":18446744073709551615}', '{"n":1}'];
    await tools.produce(
      topic,
      values.map((value) => ({ value })),
    );
    const exact = await follow(topic);
    await vi.waitUntil(() => exact.collector.messages.length === 4, SOON);
    const [first, ...others] = exact.collector.data;
    expect(String((first as { n: unknown }).n)).toBe('9007199254740993');
    expect(others).toEqual(['[1e400]', '{"n":18446744073709551615}', { n: 1 }]);
    expect(exact.source.counters).toMatchObject({ malformed: 2 });
    const strict = await follow(topic, { largeIntegers: 'malformed', malformed: 'skip' });
    await vi.waitUntil(() => strict.collector.messages.length === 1, SOON);
    expect(strict.source.counters).toMatchObject({ malformed: 3, skipped: 3 });
    const rounding = await follow(topic, { largeIntegers: 'number' });
    await vi.waitUntil(() => rounding.collector.messages.length === 4, SOON);
    expect(rounding.collector.data[0]).toEqual({ n: 9007199254740992 });
  });
});

describe('what own functions throw, or give that can not be', () => {
  it.each<[string, Partial<KafkaSourceOptions>]>([
    ['a dedupe id that throws', { dedupeId: ({ value }) => (value?.toString() === '2' ? thrower() : undefined) }],
    ['a dedupe id that is empty', { dedupeId: ({ value }) => (value?.toString() === '2' ? '' : undefined) }],
    [
      'a dedupe id that is no text',
      { dedupeId: ({ value }) => (value?.toString() === '2' ? (5 as never) : undefined) },
    ],
    [
      'a dedupe id that is a promise, which rejects',
      {
        dedupeId: ({ value }) => (value?.toString() === '2' ? (Promise.reject(new Error('late')) as never) : undefined),
      },
    ],
    ['a key that throws', { key: ({ value }) => (value?.toString() === '2' ? thrower() : undefined) }],
    ['data of a kind that nobody can store', { format: ({ value }) => (value?.toString() === '2' ? Symbol('s') : 1) }],
    [
      'malformed that throws',
      { format: ({ value }) => (value?.toString() === '2' ? thrower() : 1), malformed: () => thrower() },
    ],
  ])('leaves out that record, is logged and counted, and ends nothing: %s', async (_, options) => {
    const topic = await tools.topic();
    await tools.produce(topic, [{ value: '1' }, { value: '2' }, { value: '3' }]);
    const { collector, source, status, log, through } = await follow(topic, options);
    await vi.waitUntil(() => collector.messages.length === 2, SOON);
    await through(3);
    expect(source.counters).toMatchObject({ received: 3, skipped: 1, unstorable: 1 });
    const line = `error: Feed: the record ${topic}:0:1 cannot be stored and was skipped (1 so far): `;
    expect(log.lines).toContainEqual(expect.stringContaining(line));
    await expect(status()).resolves.toMatchObject({ state: SourceState.Running, failures: 0 });
  });

  it('is given to unstorable, which is asked again when it rejects', async () => {
    const topic = await tools.topic();
    await tools.produce(topic, [{ value: '1' }, { value: '2' }, { value: '3' }]);
    const given: string[] = [];
    const unstorable = async ({ id }: KafkaRecord) => {
      given.push(id);
      if (given.length === 1) throw new Error('the other place is away');
    };
    const dedupeId = ({ value }: KafkaRecord) => (value?.toString() === '2' ? thrower() : value?.toString());
    const { collector, source, status, through } = await follow(topic, { dedupeId, unstorable });
    await vi.waitUntil(() => given.length === 2, SOON);
    await through(3);
    expect(given).toEqual([`${topic}:0:1`, `${topic}:0:1`]);
    expect(collector.data).toEqual([1, 3]);
    expect(source.counters).toMatchObject({ skipped: 0 });
    await expect(status()).resolves.toMatchObject({
      state: SourceState.Running,
      failures: 1,
      lastError: { code: ErrorCode.SourceFailed, message: expect.stringContaining('the other place is away') },
    });
  });
});
