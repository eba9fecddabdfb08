import { mongo } from 'mongoose';
import { beforeEach, describe, expect, it } from 'vitest';
import {
  appendAll,
  dataOf,
  keyOf,
  messageOf,
  useStore,
  takeLease,
} from '../../../../../test/support/mongoose-store.js';
import { BufferPages } from './blocks.js';
import type { Collections } from './collections.js';
import { buryAll, consume, DIED } from './dead-letters.spec.support.js';
import { Refusals } from './refusals.js';

const KEY = keyOf('flights');
const LIMITS = { messages: 3, bytes: 2 ** 24 };
const created = new Date(1_000);
const late = (n: number) => new mongo.ObjectId(`ffffffffffffffffffff${1000 + n}`);

/** Documents that others may put into a shared collection: right but for one field. */
const FOREIGN: readonly object[] = [
  ...['text', 5, { a: 1 }, new Date(5), true, 1.5].map((_id) => ({ _id, created })),
  ...[5, null, 'x', true, { a: 1 }, [created], undefined].map((time, n) => ({
    _id: n % 2 ? late(n) : new mongo.ObjectId(`00000000000000000000${1000 + n}`),
    ...(time !== undefined && { created: time }),
  })),
];

describe('documents that are no messages', () => {
  const test = useStore();
  beforeEach(async () => {
    await takeLease(test.store, KEY);
    await test.connection
      .collection('buffer')
      .insertMany(FOREIGN.map((each) => ({ stream: 'flights', processed: false, data: 'foreign', ...each })) as never);
    await appendAll(test.store, [messageOf('flights', 1), messageOf('flights', 2), messageOf('flights', 3)]);
  });

  it('are passed over by every read', async () => {
    const { store } = test;
    expect(await dataOf(store, KEY)).toEqual([1, 2, 3]);
    const first = await store.fetch(KEY, undefined, LIMITS);
    expect([first.messages.map(({ data }) => data), first.full]).toEqual([[1, 2, 3], true]);
    const rest = await store.fetch(KEY, first.messages[2]!.id, LIMITS);
    expect(rest).toEqual({ messages: [], full: false });
    for (const range of [{}, { from: new Date(0) }, { to: new Date(Date.now() + 60_000) }]) {
      const { messages } = await store.fetchByTime(KEY, range, undefined, { ...LIMITS, messages: 100 });
      expect(messages.map(({ data }) => data)).toEqual([1, 2, 3]);
    }
    const ids = await store.scan(KEY, undefined, undefined, 100);
    expect(ids).toEqual(first.messages.map(({ id }) => id));
    const [odd] = FOREIGN.flatMap((each) => ('_id' in each && each._id instanceof mongo.ObjectId ? each._id : []));
    expect((await store.load(KEY, [odd!.toHexString(), ids[0]!])).map(({ data }) => data)).toEqual([1]);
  });

  it('cost nothing in the reads of a stream that has none', async () => {
    const { store, connection } = test;
    await takeLease(store, keyOf('clean'));
    await appendAll(store, [messageOf('clean', 1)]);
    const filters: string[] = [];
    const client = connection.getClient();
    client.on('commandStarted', ({ command }) => {
      if (command['find'] === 'buffer') filters.push(mongo.BSON.EJSON.stringify(command['filter']));
    });
    expect(await dataOf(store, keyOf('clean'))).toEqual([1]);
    expect(await dataOf(store, KEY)).toEqual([1, 2, 3]);
    expect(await dataOf(store, KEY)).toEqual([1, 2, 3]);
    const whole = filters.map((filter) => filter.includes('$nor'));
    // Found by the first read of 'flights', left out by the second, and by all that follow.
    expect(whole.slice(0, 3)).toEqual([false, false, true]);
    expect(whole.slice(3).every(Boolean)).toBe(true);
  });

  it('are looked for again after a minute', async () => {
    const { store, connection } = test;
    const filters: string[] = [];
    connection.getClient().on('commandStarted', ({ command }) => {
      if (command['find'] === 'buffer') filters.push(mongo.BSON.EJSON.stringify(command['filter']));
    });
    const collections = { buffer: connection.db!.collection('buffer') } as unknown as Collections;
    let now = 0;
    const pages = new BufferPages(collections, new Refusals(), () => now);
    const read = async () => {
      filters.length = 0;
      await pages.find('flights', { filter: { stream: 'flights' }, limit: 100 });
      return filters.map((filter) => filter.includes('$nor'));
    };
    expect(await read()).toEqual([false, true]);
    now += 60_000;
    expect(await read()).toEqual([true]);
    now += 1;
    expect(await read()).toEqual([false, true]);
    await connection.collection('buffer').deleteMany({ data: 'foreign' });
    expect(await read()).toEqual([true]);
    now += 60_001;
    expect(await read()).toEqual([false]);
    expect(await read()).toEqual([false]);
    expect((await store.stats(['flights']))[0]).not.toHaveProperty('foreign');
  });

  it('are counted apart, and one of them is named', async () => {
    const { store } = test;
    const [stats] = await store.stats(['flights']);
    expect(stats).toMatchObject({
      buffered: 3,
      consumers: [{ pending: 3 }],
      foreign: { documents: FOREIGN.length, example: expect.any(String) },
    });
    expect(stats?.oldest?.getTime()).toBeGreaterThan(Date.now() - 60_000);
    expect(await store.count('flights', 1)).toBe(1);
    const before = await store.poll([KEY]);
    await appendAll(store, [messageOf('flights', 4)]);
    expect(await store.poll([KEY])).not.toEqual(before);
  });

  it('take no room in a stream with a limit', async () => {
    const { store, commands } = test;
    expect(await store.count('flights', FOREIGN.length)).toBe(3);
    expect(await store.count('flights', 4)).toBe(3);
    expect(await store.count('flights', 3)).toBe(3);
    await appendAll(store, [messageOf('flights', 4), messageOf('flights', 5)]);
    commands();
    expect(await store.count('flights', 5)).toBe(5);
    expect(await store.count('flights', 100)).toBe(5);
    // A full stream is not read through each time.
    expect(commands()).toEqual(['aggregate', 'aggregate']);
  });

  it('stay when messages leave and when old ones expire', async () => {
    const { store } = test;
    await consume(store, 'flights');
    await store.removeGroup('flights', 'default');
    await store.sweep('flights', { kept: new Date(Date.now() + 1_000), tombstones: new Date(Date.now() + 1_000) });
    expect(await store.expire('flights', new Date(Date.now() + 60_000))).toBe(0);
    expect(await test.connection.collection('buffer').countDocuments({ data: 'foreign' })).toBe(FOREIGN.length);
  });

  it('make no difference among dead letters and windows', async () => {
    const { store, connection } = test;
    await buryAll(store, 'flights', [4]);
    const letters = [{ _id: 'a' }, { _id: 5 }, { _id: 'b', group: 'default', died: DIED }, { _id: 'c', died: 'x' }];
    await connection
      .collection('deadletter')
      .insertMany(letters.map((each) => ({ stream: 'flights', ...each })) as never);
    const listed: unknown[] = [];
    for (let after: string | undefined; ;) {
      const page = await store.deadLetters('flights', {}, after, 2);
      listed.push(...page.map(({ data }) => data));
      if (page.length < 2) break;
      after = page.at(-1)?.id;
    }
    expect(listed).toEqual([1, 2, 3, 4]);
    expect(await store.redrive('flights', {})).toBe(4);
    expect(await connection.collection('deadletter').countDocuments()).toBe(letters.length);
    const lease = await takeLease(store, KEY);
    await connection.collection<{ _id: unknown }>('window').insertOne({
      _id: 7,
      stream: 'flights',
      processed: false,
      consumer: 'flights/default/0',
      fence: lease.fence,
    } as never);
    expect((await store.recover(lease)).open).toEqual([]);
  });
});
