import { mongo } from 'mongoose';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  appendAll,
  dataOf,
  keyOf,
  messageOf,
  openStore,
  takeLease,
  windowOf,
  type TestStore,
} from '../../../../../test/support/mongoose-store.js';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { consume, letterOf } from './dead-letters.spec.support.js';
import { Refusals } from './refusals.js';

const [A, B] = [keyOf('flights', 'a'), keyOf('flights', 'b')];
const TOO_LARGE = 10_334;
const STEPPED_DOWN = 11_602;
const ALL = { messages: 1_000, bytes: 2 ** 24 };

interface Statement {
  readonly q: { readonly _id?: { readonly $in?: readonly mongo.ObjectId[] } };
}

/** A server that refuses to update these documents. As in MongoDB, the others of the statement may be changed or not. */
function refuse(ids: readonly string[], code = TOO_LARGE) {
  const command = mongo.Db.prototype.command;
  return vi.spyOn(mongo.Db.prototype, 'command').mockImplementation(async function (this: mongo.Db, sent, options) {
    const { updates } = sent as { updates?: readonly Statement[] };
    if (sent['update'] !== 'buffer' || !updates) return command.call(this, sent, options);
    const refused = updates.map(({ q }) => q._id?.$in?.some((id) => ids.includes(id.toHexString())) ?? false);
    const writeErrors = refused.flatMap((is, index) => (is ? [{ index, code, errmsg: 'no' }] : []));
    const rest = updates.filter((_, index) => !refused[index]);
    const reply = rest.length > 0 ? await command.call(this, { ...sent, updates: rest }, options) : { n: 0, ok: 1 };
    return { ...reply, writeErrors };
  });
}

describe('a message that the server refuses to change', () => {
  let test: TestStore;
  let ids: readonly string[];
  beforeEach(async () => {
    test = await openStore();
    await test.store.registerGroup(A);
  });
  afterEach(async () => {
    vi.restoreAllMocks();
    await test.dispose();
  });

  const append = async (dedupe = false) => {
    const numbers = [1, 2, 3, 4, 5, 6, 7];
    const messages = numbers.map((n) => messageOf('flights', n, dedupe ? { dedupeId: String(n) } : {}));
    ids = await appendAll(test.store, messages);
  };
  const buffered = () => test.connection.collection('buffer').find({ processed: false }).toArray();

  it('neither holds up the group that marks it nor comes back to it, and reaches the others', async () => {
    const { store } = test;
    await store.registerGroup(B);
    await append();
    refuse([ids[2]!]);
    expect(await consume(store, 'flights', 'a')).toHaveLength(7);
    const marked = (await buffered()).map(({ data, done }) => [data, done]);
    expect(marked).toEqual([1, 2, 3, 4, 5, 6, 7].map((n) => [n, n === 3 ? undefined : ['a']]));

    expect(await dataOf(store, A)).toEqual([]);
    expect(await store.scan(A, undefined, undefined, 100)).toEqual([]);
    expect((await store.fetchByTime(A, {}, undefined, ALL)).messages).toEqual([]);
    // Read together, as when a message wakes both groups.
    const together = await Promise.all([dataOf(store, A), dataOf(store, B)]);
    expect(together).toEqual([[], [1, 2, 3, 4, 5, 6, 7]]);

    expect(await consume(store, 'flights', 'b')).toHaveLength(7);
    expect(await buffered()).toEqual([]);
  });

  it('is told of once, by the call that settles it', async () => {
    const { store } = test;
    await store.registerGroup(B);
    await append();
    const lease = await takeLease(store, A);
    const { messages } = await store.fetch(A, undefined, ALL);
    refuse([ids[2]!, ids[4]!]);
    const settle = () =>
      store.settle(lease, [{ window: windowOf(1, ids), messages }], { groups: ['a', 'b'], keep: false });
    expect(await settle()).toEqual({ ids: [ids[2], ids[4]], reason: 'no' });
    expect(await settle()).toBeUndefined();
  });

  it('is skipped until a restart if it can be neither kept nor replaced by a tombstone', async () => {
    const { store } = test;
    await append(true);
    const server = refuse([ids[0]!, ids[6]!]);
    expect(await consume(store, 'flights', 'a')).toHaveLength(7);
    expect((await buffered()).map(({ data }) => data)).toEqual([1, 7]);
    expect(await dataOf(store, A)).toEqual([]);
    server.mockRestore();

    const next = await openStore({ database: test.database });
    expect((await consume(next.store, 'flights', 'a')).map(({ data }) => data)).toEqual([1, 7]);
    expect(await buffered()).toEqual([]);
    await next.store.close();
  });

  it('does not keep a new group from the others', async () => {
    const { store } = test;
    await store.registerGroup(B);
    await append();
    await consume(store, 'flights', 'a');
    refuse([ids[3]!]);
    const updateMany = mongo.Collection.prototype.updateMany;
    const first = vi.spyOn(mongo.Collection.prototype, 'updateMany').mockImplementation(function (
      this: mongo.Collection,
      ...args
    ) {
      if (this.collectionName !== 'buffer') return updateMany.apply(this, args);
      throw new mongo.MongoServerError({ code: TOO_LARGE, errmsg: 'no' });
    });
    await store.registerGroup(keyOf('flights', 'c'));
    expect(first).toHaveBeenCalled();
    expect(await dataOf(store, keyOf('flights', 'c'))).toEqual([1, 2, 3, 5, 6, 7]);
  });

  it('stays if its group gives it up and it does not fit into a dead letter, and holds up nobody', async () => {
    const { store } = test;
    await store.registerGroup(B);
    const size = 16 * 1024 * 1024 - 8 * 1024;
    await test.connection.collection('buffer').insertOne({
      _id: new mongo.ObjectId('1'.repeat(24)),
      stream: 'flights',
      created: new Date(),
      processed: false,
      data: Buffer.alloc(size),
    });
    await append();
    const bury = async (key: typeof A) => {
      const lease = await takeLease(store, key);
      const { messages } = await store.fetch(key, undefined, { messages: 2, bytes: 2 ** 30 });
      const error = 'é'.repeat(100_000);
      const window = windowOf(
        1,
        messages.map(({ id }) => id),
      );
      const letters = messages.map((message) => letterOf(message, { error, stack: error }));
      const unburied = { ids: ['1'.repeat(24)], reason: 'they are too large for it' };
      expect(await store.bury(lease, letters)).toEqual(unburied);
      expect(await store.settle(lease, [{ window, messages }], { groups: ['a', 'b'], keep: false })).toBeUndefined();
      return messages.length;
    };
    expect(await bury(A)).toBe(2);
    expect((await store.deadLetters('flights', {}, undefined, 10)).map(({ data }) => data)).toEqual([1]);
    expect(await dataOf(store, A)).toEqual([2, 3, 4, 5, 6, 7]);
    expect(await consume(store, 'flights', 'b')).toHaveLength(8);
    expect(await consume(store, 'flights', 'a')).toHaveLength(6);
    const left = await buffered();
    expect(left.map(({ data }) => (data as mongo.Binary).length())).toEqual([size]);

    // After a restart, the group tries again.
    const next = await openStore({ database: test.database });
    expect(await consume(next.store, 'flights', 'a')).toHaveLength(1);
    expect(await buffered()).toEqual([]);
    await next.store.close();
  });

  it('is no reason to continue if the server fails in another way', async () => {
    const { store } = test;
    await append(true);
    const lease = await takeLease(store, A);
    const { messages } = await store.fetch(A, undefined, ALL);
    const server = refuse([ids[0]!], STEPPED_DOWN);
    const settle = () => store.settle(lease, [{ window: windowOf(1, ids), messages }], { groups: ['a'], keep: false });
    await expect(settle()).rejects.toMatchObject({ code: ErrorCode.StoreUnavailable });
    expect(await dataOf(store, A)).toContain(1);
    server.mockRestore();
    await settle();
    expect(await buffered()).toEqual([]);
  });
});

describe('refusals', () => {
  const id = (n: number) => new mongo.ObjectId(n.toString(16).padStart(24, '0'));
  const failure = { index: 0, code: TOO_LARGE };

  it('are remembered by group, until the message leaves', () => {
    const refusals = new Refusals();
    refusals.add([id(1)], 'a', failure);
    refusals.add([id(2)], undefined, failure);
    const has = (n: number) => ['a', 'b'].map((group) => refusals.has(id(n).toHexString(), group));
    expect([has(1), has(2), has(3)]).toEqual([
      [true, false],
      [true, true],
      [false, false],
    ]);
    refusals.left([id(1).toHexString(), id(2).toHexString()]);
    expect(refusals.isEmpty).toBe(true);
  });

  it('forget with a message that it was given up and fits into no dead letter', () => {
    const refusals = new Refusals();
    const hex = id(1).toHexString();
    refusals.keepUnburied(id(1), 'a', failure);
    expect([refusals.isUnburied(hex, 'a'), refusals.isUnburied(hex, 'b'), refusals.has(hex, 'a')]).toEqual([
      true,
      false,
      true,
    ]);
    refusals.left([hex]);
    expect([refusals.isUnburied(hex, 'a'), refusals.has(hex, 'a')]).toEqual([false, false]);
    expect(refusals.takeUnreported()).toBeUndefined();
  });

  it('are an error of the whole write once there are very many', () => {
    const refusals = new Refusals();
    const all = Array.from({ length: 1_000 }, (_, n) => id(n));
    refusals.add(all, 'a', failure);
    refusals.add(all, 'b', failure);
    expect(() => refusals.add([id(1_000)], 'a', failure)).toThrow(mongo.MongoServerError);
  });
});
