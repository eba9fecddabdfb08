import { mongo } from 'mongoose';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  appendAll,
  dataOf,
  keyOf,
  messageOf,
  openStore,
  useStore,
  takeLease,
  windowOf,
  type TestStore,
} from '../../../../../test/support/mongoose-store.js';
import { BatchWindow } from '../../engine/batch-window.js';
import { ExecutorTask } from '../../engine/executor-task.js';
import { decodeTask, encodeTask } from '../../executors/task-codec.js';
import { consume } from './dead-letters.spec.support.js';

const GROUPS = ['a', 'b'] as const;
const [A, B] = [keyOf('flights', 'a'), keyOf('flights', 'b')];
const ALL = { messages: 1000, bytes: 2 ** 24 };

const ODD = {
  'a string': 'x',
  'the name of a group': 'a',
  'a number': 7,
  'a negative number': -1,
  true: true,
  null: null,
  'an object': { a: 1 },
  'the least value': new mongo.MinKey(),
  'the greatest value': new mongo.MaxKey(),
  'an empty list': [],
  'a list of strings': ['y'],
  'a list of numbers': [0],
  'a list of objects': [{ a: 2 }],
  'a list of null': [null],
};
type Shape = keyof typeof ODD;

const NO_LIST: readonly Shape[] = [
  'a string',
  'the name of a group',
  'a number',
  'a negative number',
  'true',
  'null',
  'an object',
  'the least value',
  'the greatest value',
];
const NO_PARTITION = (Object.keys(ODD) as Shape[]).filter((shape) => shape !== 'a number' && shape !== 'null');

/** The fields of a message, and the shapes that make a document foreign. In another shape, a message is like any other. */
const FIELDS: Readonly<Record<string, readonly Shape[]>> = {
  done: NO_LIST,
  waits: NO_LIST,
  partition: NO_PARTITION,
  ...Object.fromEntries(
    [
      'bigints',
      'key',
      'headers',
      'dedupeKey',
      'keep',
      'settled',
      'redrives',
      'redriven',
      'replayOf',
      'cleared',
      'data',
    ].map((field) => [field, []]),
  ),
};

describe('a document with a field in an odd shape', () => {
  const test = useStore();
  let other: TestStore;
  beforeEach(async () => {
    other = await openStore({ database: test.database });
    for (const group of GROUPS) await test.store.registerGroup(keyOf('flights', group));
  });
  afterEach(() => other.store.close());

  const buffer = () => test.connection.collection('buffer');
  const insert = (documents: readonly object[]) =>
    buffer().insertMany(
      documents.map((each) => ({
        _id: new mongo.ObjectId(),
        stream: 'flights',
        created: new Date(1_000),
        processed: false,
        data: 'odd',
        ...each,
      })) as never,
    );
  const foreign = async () => (await test.store.stats(['flights']))[0]?.foreign?.documents ?? 0;

  it.each(Object.entries(FIELDS))('blocks no other message: %s', async (field, shapes) => {
    const { store } = test;
    await appendAll(store, [messageOf('flights', 1)]);
    // A unique index can take a list, or null, for what another document has.
    const unique = (value: unknown) => value !== null && !Array.isArray(value);
    const values = Object.values(ODD).filter((value) => field !== 'dedupeKey' || unique(value));
    await insert(values.map((value) => ({ [field]: value })));
    await appendAll(store, [messageOf('flights', 2)]);
    const before = await store.poll([A, B]);
    await appendAll(other.store, [messageOf('flights', 3)]);
    const after = await store.poll([A, B]);
    expect(after.map((token, n) => token === before[n])).toEqual([false, false]);
    // A partition that no consumer reads, until the sweep.
    const elsewhere = field === 'partition' ? 1 : 0;
    expect(await foreign()).toBe(shapes.length + elsewhere);
    for (const group of GROUPS) {
      const taken = (await consume(store, 'flights', group)).map(({ data }) => data);
      expect(taken.filter((data) => typeof data === 'number' && data > 0 && data < 4)).toEqual([1, 2, 3]);
    }
    // Lists that name none of the groups are put right by the sweep, and so are partitions, as soon as any stream has some.
    await store.ensureStream('other', { partitions: 2 });
    await store.registerGroup(keyOf('other'));
    await store.sweep('flights', {});
    for (const group of GROUPS) await consume(store, 'flights', group);
    const [stats] = await store.stats(['flights']);
    expect(stats).toMatchObject({ buffered: 0, consumers: [{ pending: 0 }, { pending: 0 }] });
    expect(stats?.foreign?.documents ?? 0).toBe(shapes.length);
    expect(await store.count('flights', 1)).toBe(0);
    expect(await buffer().countDocuments({ processed: false })).toBe(shapes.length);
  });

  it('reaches workers of executors as it is read here', async () => {
    const { store } = test;
    const { Long, Decimal128 } = mongo;
    const data = {
      small: Long.fromNumber(5),
      large: Long.fromString('9007199254740993'),
      price: Decimal128.fromString('1.5'),
    };
    const odd = ['key', 'headers', 'bigints'].flatMap((field) =>
      Object.values(ODD).map((value) => ({ data, [field]: value })),
    );
    await insert([...odd, { data: null }, { data: 'text', key: 'k', headers: { h: 'v' } }]);
    const { messages } = await store.fetch(A, undefined, ALL);
    expect(messages).toHaveLength(odd.length + 2);
    const executor = { name: 'none', run: () => Promise.reject(new Error('never called')) };
    const consumer = { label: 'Odd.take', stream: 'flights', group: 'a', workers: 1 };
    const window = new BatchWindow(A, windowOf(1, []), messages, { signal: new AbortController().signal });
    const task = new ExecutorTask({ executor, consumer, encode: encodeTask }, () => undefined, window, 0, true, 0);
    const shown = (list: readonly object[]) =>
      JSON.stringify(list, (_, value: unknown) => (typeof value === 'bigint' ? `${value}n` : value));
    // The driver's classes here, and those of bson there.
    expect(shown(decodeTask(task.encode()).messages)).toBe(shown(messages.map((message) => message.read())));
  });

  it('is a message once the stream has its partition', async () => {
    const { store } = test;
    await insert([{ partition: 7, data: 7 }]);
    expect(await foreign()).toBe(1);
    const key = { stream: 'flights', group: 'a', partition: 7 };
    await store.updateStream('flights', { grow: { partitions: 8, at: new Date() } });
    expect(await dataOf(store, key)).toEqual([7]);
    expect((await store.stats(['flights']))[0]).toMatchObject({ buffered: 1 });
    expect(await foreign()).toBe(0);
    expect(await store.count('flights', 1)).toBe(1);
  });

  it('is passed over by every read, and stays when groups come, go and take over', async () => {
    const { store } = test;
    const odd = (['done', 'waits', 'partition'] as const).flatMap((field) =>
      FIELDS[field]!.map((shape) => ({ _id: new mongo.ObjectId(), [field]: ODD[shape] })),
    );
    await insert(odd);
    const ids = await appendAll(store, [messageOf('flights', 1), messageOf('flights', 2)]);
    expect(await dataOf(store, A)).toEqual([1, 2]);
    const { messages } = await store.fetchByTime(A, {}, undefined, ALL);
    expect(messages.map(({ data }) => data)).toEqual([1, 2]);
    expect(await store.scan(A, undefined, undefined, 100)).toEqual(ids);
    const loaded = await store.load(A, [...odd.map(({ _id }) => _id.toHexString()), ...ids]);
    expect(loaded.map(({ data }) => data)).toEqual([1, 2]);
    expect(await store.count('flights', 3)).toBe(2);
    // Of a window that was claimed before they were changed.
    const lease = await takeLease(store, A);
    const window = windowOf(1, [...odd.map(({ _id }) => _id.toHexString()), ids[0]!]);
    await store.settle(lease, [{ window, messages: loaded.slice(0, 1) }], { groups: GROUPS, keep: false });
    expect(await dataOf(store, A)).toEqual([2]);

    await store.registerGroup(keyOf('flights', 'c'), { replaces: 'a' });
    expect(await dataOf(store, keyOf('flights', 'c'))).toEqual([2]);
    expect(await dataOf(store, B)).toEqual([1, 2]);
    await store.removeGroup('flights', 'c');
    expect((await consume(store, 'flights', 'b')).map(({ data }) => data)).toEqual([1, 2]);
    await store.removeGroup('flights', 'b');
    expect(await store.expire('flights', new Date(Date.now() + 60_000))).toBe(0);
    expect(await foreign()).toBe(odd.length);
    expect(await buffer().countDocuments()).toBe(odd.length);
  });
});
