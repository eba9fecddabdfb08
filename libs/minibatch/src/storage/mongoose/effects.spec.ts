import { mongo } from 'mongoose';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { dataOf, keyOf, OWNER, RIVAL, takeLease, windowOf } from '../../../../../test/support/mongoose-store.js';
import { ErrorCode } from '../../errors/minibatch.error.js';
import type { Lease, StreamStore } from '../stream-store.interface.js';
import { KEY, TARGET, commit, output, row, rowsOf, settle, takeOver, useConsumer } from './effects.spec.support.js';

/** A document does not pass the collection's validator. */
const VALIDATION = 121;

describe('effects of commits', () => {
  const { test, consumer, states, decided, ...held } = useConsumer();
  let lease: Lease;
  beforeEach(() => void (lease = held.lease()));
  afterEach(() => {
    vi.restoreAllMocks();
  });

  describe('on their way', () => {
    it('are a part of the commit point, and go with the next update that is sent anyway', async () => {
      const { store } = test;
      const first = await commit(store, lease, new Map([[1, { put: [row('a', 1)], append: [output(1)] }]]));
      expect(test.commands()).toEqual(['insert', 'findAndModify']);
      expect([await rowsOf(store), await dataOf(store, TARGET)]).toEqual([{}, []]);
      expect(await decided()).toEqual(['1']);
      test.commands();
      await first.settle();
      // Its indexes are looked for once.
      const sent = test.commands().filter((name) => name !== 'listIndexes' && name !== 'createIndexes');
      expect(sent.toSorted()).toEqual(['delete', 'insert', 'update']);
      expect(await decided()).toEqual(['1']);
      test.commands();
      const second = await commit(store, lease, new Map([[2, { put: [row('a', 2)] }]]));
      expect(test.commands()).toEqual(['insert', 'findAndModify']);
      expect(await decided()).toEqual(['2']);
      test.commands();
      await second.settle();
      expect(test.commands().toSorted()).toEqual(['delete', 'update']);
      expect([await rowsOf(store), await dataOf(store, TARGET)]).toEqual([{ a: 2 }, [1]]);
    });

    it('leave the commits of others as they were', async () => {
      const { store, connection } = test;
      const updates: unknown[] = [];
      connection.getClient().on('commandStarted', ({ commandName, command }) => {
        if (commandName === 'findAndModify') updates.push(command['update']);
      });
      const progress = { lastSeq: 0, windows: 0, messages: 0 };
      const plain = { $set: { finished: [], progress }, $inc: { 'lease.counter': 1 } };
      await store.commit(lease, { finished: [], progress });
      await (await commit(store, lease, new Map([[1, { put: [row('a', 1)] }]]))).settle();
      await store.commit(lease, { finished: [], progress });
      await store.commit(lease, { finished: [], progress, effects: new Map() });
      await store.commit(lease, { finished: [], progress, effects: new Map([[2, {}]]) });
      expect(updates).toEqual([
        plain,
        expect.objectContaining({ $set: expect.objectContaining({ 'effects.1': expect.anything() }) }),
        { ...plain, $unset: { 'effects.1': '' } },
        plain,
        plain,
      ]);
      expect(await states().countDocuments()).toBe(1);
    });

    it.each([
      ['a renewal', (store: StreamStore) => store.renewLeases([lease])],
      ['the release', (store: StreamStore) => store.releaseLease(lease)],
    ])('go with %s, once they are applied', async (_, update) => {
      const { store } = test;
      const { settle: settled } = await commit(store, lease, new Map([[1, { put: [row('a', 1)] }]]));
      await update(store);
      expect(await decided()).toEqual(['1']);
      await takeOver(store, OWNER);
      lease = await takeOver(store, OWNER);
      await settled().catch(() => undefined);
      await (await commit(store, lease, new Map([[2, { put: [row('a', 2)] }]]))).settle();
      test.commands();
      await update(store);
      expect(test.commands()).toEqual(['update']);
      expect(await decided()).toEqual([]);
    });

    it('of many consumers share the commands of their commits', async () => {
      const { store } = test;
      const keys = ['a', 'b', 'c', 'd'].map((stream) => keyOf(stream));
      const leases: Lease[] = [];
      for (const key of keys) leases.push(await takeLease(store, key));
      for (const each of leases) await store.recover(each);
      // One of them is lost.
      await takeLease(store, keys[3]!, RIVAL);
      for (const each of leases) await store.claim(each, [windowOf(1, [])]);
      test.commands();
      const progress = { lastSeq: 1, windows: 1, messages: 0 };
      const commits = await Promise.allSettled(
        leases.map((each, n) =>
          store.commit(each, { finished: [1], progress, effects: new Map([[1, { put: [row('x', n)] }]]) }),
        ),
      );
      expect(test.commands()).toEqual(['update', 'find']);
      expect(commits.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'fulfilled', 'rejected']);
      for (const each of leases.slice(0, 3)) await settle(store, each, [windowOf(1, [])], ['default']);
      expect(await Promise.all(keys.map((key) => rowsOf(store, key)))).toEqual([{ x: 0 }, { x: 1 }, { x: 2 }, {}]);
    });

    it('are refused before anything changes if they do not fit into the document with those that wait', async () => {
      const { store } = test;
      const large = (slot: string) => ({ slot, value: new Uint8Array(5 * 1024 * 1024) });
      const refused = { code: ErrorCode.StoreRefused, details: { allowed: store.maxEffectBytes } };
      const first = await commit(store, lease, new Map([[1, { put: [large('a'), large('b')] }]]));
      await expect(commit(store, lease, new Map([[2, { put: [large('c')] }]]))).rejects.toMatchObject(refused);
      expect([await decided(), (await consumer()).finished]).toEqual([['1'], [[1, 1]]]);
      await first.settle();
      const second = await commit(store, lease, new Map([[2, { put: [large('c'), large('d')] }]]));
      await second.settle();
      expect(await store.readState(KEY, ['a', 'b', 'c', 'd'])).toHaveLength(4);
      const other = await commit(store, lease, new Map([[3, {}]]));
      await other.settle();
      const all = new Map([[4, { put: ['a', 'b', 'c'].map(large) }]]);
      await expect(commit(store, lease, all)).rejects.toMatchObject(refused);
      expect(await decided()).toEqual([]);
    });

    it('are not in what others read of consumers', async () => {
      const { store, connection } = test;
      await commit(store, lease, new Map([[1, { put: [row('a', 1)] }]]));
      const read: unknown[] = [];
      connection.getClient().on('commandSucceeded', ({ reply }) => read.push(JSON.stringify(reply)));
      await store.stats();
      await store.readLeases([KEY]);
      await store.poll([KEY]);
      await store.renewLeases([lease]);
      await store.listStreams();
      await store.readWindows(KEY, 'claimed', undefined, 10);
      await takeLease(store, KEY, RIVAL);
      expect(read.length).toBeGreaterThan(6);
      expect(read.filter((reply) => String(reply).includes('"put"'))).toEqual([]);
    });
  });

  describe('and a server that refuses', () => {
    /** Refuses the inserts of these data, or every statement on the collection once. */
    const refuse = (isRefused: (document: mongo.Document) => boolean) => {
      const command = mongo.Db.prototype.command;
      return vi.spyOn(mongo.Db.prototype, 'command').mockImplementation(async function (this: mongo.Db, sent, options) {
        const documents = sent['documents'] as mongo.Document[] | undefined;
        if (sent['insert'] !== 'buffer' || !documents) return command.call(this, sent, options);
        const writeErrors = documents.flatMap((document, index) =>
          isRefused(document) ? [{ index, code: VALIDATION, errmsg: 'Document failed validation' }] : [],
        );
        const rest = documents.filter((document) => !isRefused(document));
        const reply =
          rest.length > 0 ? await command.call(this, { ...sent, documents: rest }, options) : { n: 0, ok: 1 };
        return { ...reply, writeErrors };
      });
    };

    it('keep the message that it does not take, and the window, and lose no others', async () => {
      const { store } = test;
      const messages = [1, 2, 3].map(output);
      const { settle: settled } = await commit(store, lease, new Map([[1, { put: [row('a', 1)], append: messages }]]));
      const refusing = refuse(({ dedupeKey }) => String(dedupeKey).endsWith('output-2'));
      const refused = { code: ErrorCode.AppendFailed, message: expect.stringMatching(/1 of 3 messages.*'results'/s) };
      await expect(settled()).rejects.toMatchObject(refused);
      await expect(settled()).rejects.toMatchObject(refused);
      expect([await rowsOf(store), await dataOf(store, TARGET), await decided()]).toEqual([{ a: 1 }, [1, 3], ['1']]);
      expect(await test.connection.collection('window').countDocuments()).toBe(1);
      refusing.mockRestore();
      await settled();
      expect((await dataOf(store, TARGET)).toSorted()).toEqual([1, 2, 3]);
      expect(await test.connection.collection('window').countDocuments()).toBe(0);
    });

    it('have the later row when a former holder inserts its own at the same moment', async () => {
      const { store } = test;
      await (await commit(store, lease, new Map([[1, { put: [row('a', 1)] }]]))).settle();
      const { settle: settled } = await commit(store, lease, new Map([[2, { put: [row('a', 2)], remove: ['b'] }]]));
      const command = mongo.Db.prototype.command;
      // As if the row of before had not been there when the server looked, and was when it inserted.
      vi.spyOn(mongo.Db.prototype, 'command').mockImplementationOnce(async function (this: mongo.Db, sent, options) {
        const updates = (sent['updates'] as mongo.Document[]).map((update) => ({
          ...update,
          q: { ...(update['q'] as mongo.Document), version: 'none' },
        }));
        return command.call(this, { ...sent, updates }, options);
      });
      await settled();
      expect(await rowsOf(store)).toEqual({ a: 2 });
    });
  });
});
