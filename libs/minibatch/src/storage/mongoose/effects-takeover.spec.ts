import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  appendAll,
  dataOf,
  keyOf,
  messageOf,
  OWNER,
  RIVAL,
  takeLease,
  windowOf,
} from '../../../../../test/support/mongoose-store.js';
import { ErrorCode } from '../../errors/minibatch.error.js';
import type { Effects, Lease } from '../stream-store.interface.js';
import {
  KEY,
  TARGET,
  HOUR,
  commit,
  output,
  row,
  rowsOf,
  settle,
  takeOver,
  useConsumer,
} from './effects.spec.support.js';
import { MongooseStreamStore } from './mongoose.store.js';

describe('effects of commits', () => {
  const { test, another, consumers, consumer, states, decided, ...held } = useConsumer();
  let lease: Lease;
  beforeEach(() => void (lease = held.lease()));
  afterEach(() => {
    vi.restoreAllMocks();
  });

  describe('when a holder dies', () => {
    it('are there after each command that was its last', { timeout: 300_000 }, async () => {
      let commands = Infinity;
      for (let last = 0; last < commands; last += 1) {
        const stream = `stream-${last}`;
        const key = keyOf(stream);
        const target = keyOf(`${stream}-results`);
        const { store } = test;
        await store.registerGroup(target);
        await store.registerGroup(key);
        const [id] = await appendAll(store, [messageOf(stream, 'in')]);
        const dying = await mortal(last);
        const run = async () => {
          const held = await takeLease(dying.store, key);
          await dying.store.recover(held);
          const { messages } = await dying.store.fetch(key, undefined, { messages: 10, bytes: 1000 });
          const windows = [windowOf(1, [id!]), windowOf(2, [])];
          await dying.store.claim(held, windows);
          const out = (n: number) => messageOf(target.stream, n, { dedupeId: `${n}` });
          const effects = new Map<number, Effects>([
            [1, { put: [row('a', 1), row('b', 1)], append: [out(1)] }],
            [2, { put: [row('a', 2)], remove: ['b'], append: [out(2)] }],
          ]);
          const progress = { lastSeq: 2, windows: 2, messages: 1 };
          const groups = await dying.store.commit(held, { finished: [1, 2], progress, effects });
          const settled = windows.map((window, n) => ({ window, messages: n === 0 ? messages : [] }));
          await dying.store.settle(held, settled, { groups, keep: false });
          await dying.store.renewLeases([held]);
        };
        const ended = await run().then(
          () => true,
          () => false,
        );
        if (ended) commands = last;
        dying.end();
        const [state] = await store.readLeases([key]);
        const next = await store.acquireLease(key, RIVAL, state!);
        const { finished, open, groups, progress } = await store.recover(next!);
        const found = await store.load(key, [id!]);
        const settled = finished.map((window) => ({ window, messages: window.messageIds.length > 0 ? found : [] }));
        if (settled.length > 0) await store.settle(next!, settled, { groups, keep: false });
        const isCommitted = progress.lastSeq === 2;
        expect(open.length, stream).toBeLessThan(isCommitted ? 1 : 3);
        expect(await rowsOf(store, key), stream).toEqual(isCommitted ? { a: 2 } : {});
        expect(await dataOf(store, target), stream).toEqual(isCommitted ? [1, 2] : []);
        expect(await dataOf(store, key), stream).toEqual(isCommitted ? [] : ['in']);
      }
      expect(commands).toBeGreaterThan(8);
    });

    /** A store of a client whose connections break after so many commands of its own. */
    async function mortal(commands: number) {
      const connection = await test.database.connect({ monitorCommands: true, serverSelectionTimeoutMS: 2_000 });
      const store = new MongooseStreamStore(connection);
      await store.open();
      let left = commands;
      const client = connection.getClient();
      const dies = () => void client.close(true);
      if (left === 0) await client.close(true);
      client.on('commandSucceeded', () => {
        left -= 1;
        if (left === 0) dies();
      });
      return { store, end: dies };
    }

    it('are not appended again when their window is gone, however long ago the messages left', async () => {
      const { store } = test;
      const { settle: settled } = await commit(store, lease, new Map([[1, { append: [output(1)] }]]));
      await settled();
      await test.connection.collection('buffer').deleteMany({});
      await takeOver(await another());
      expect(await dataOf(store, TARGET)).toEqual([]);
    });

    it('are applied although their windows are gone, if a version has settled them that does not know effects', async () => {
      const { store } = test;
      await commit(
        store,
        lease,
        new Map<number, Effects>([
          [1, { put: [row('a', 1), row('b', 1)], append: [output(1)] }],
          [2, { put: [row('a', 2)], remove: ['b'], append: [output(2)] }],
        ]),
      );
      await oldVersion();
      expect(await rowsOf(store)).toEqual({});
      const next = await takeOver(await another());
      expect([await rowsOf(store), await dataOf(store, TARGET)]).toEqual([{ a: 2 }, [1, 2]]);
      expect([await decided(), (await consumer()).effectsFence]).toEqual([[], next.fence]);
      // Known from now on: nothing of it comes again.
      await test.connection.collection('buffer').deleteMany({});
      await takeOver(await another(), OWNER);
      expect(await dataOf(store, TARGET)).toEqual([]);
    });

    it('are applied if such a version has only recovered', async () => {
      const { store } = test;
      await commit(store, lease, new Map([[1, { put: [row('a', 1)], append: [output(1)] }]]));
      await oldVersion(false);
      await takeOver(await another());
      expect([await rowsOf(store), await dataOf(store, TARGET)]).toEqual([{ a: 1 }, [1]]);
    });

    /** What an earlier version does when it takes the consumer over: it adopts the windows, settles and removes them, and commits. */
    async function oldVersion(settles = true) {
      const [state] = await test.store.readLeases([KEY]);
      const { fence } = (await test.store.acquireLease(KEY, RIVAL, state!))!;
      const windows = test.connection.collection('window');
      await windows.updateMany({ processed: false, consumer: 'flights/default/0' }, { $set: { fence } });
      await consumers().updateOne({ _id: 'flights/default/0' }, { $set: { adopted: fence } });
      if (!settles) return;
      await windows.deleteMany({ consumer: 'flights/default/0' });
      await consumers().updateOne({ _id: 'flights/default/0' }, { $set: { finished: [] } });
    }

    it('are applied by a former holder within an hour, and later only if it still holds the lease', async () => {
      const { store } = test;
      const now = Date.now();
      const clock = vi.spyOn(Date, 'now');
      const first = await commit(store, lease, new Map([[1, { put: [row('a', 1)], append: [output(1)] }]]));
      clock.mockReturnValue(now + 2 * HOUR);
      test.commands();
      await first.settle();
      expect(test.commands()[0]).toBe('find');
      expect(await rowsOf(store)).toEqual({ a: 1 });

      clock.mockReturnValue(now);
      const second = await commit(store, lease, new Map([[2, { put: [row('b', 1)], append: [output(2)] }]]));
      await takeOver(await another());
      await test.connection.collection('buffer').deleteMany({});
      await states().deleteMany({});
      clock.mockReturnValue(now + 30 * HOUR);
      await expect(second.settle()).rejects.toMatchObject({ code: ErrorCode.LeaseLost });
      expect([await rowsOf(store), await dataOf(store, TARGET)]).toEqual([{}, []]);
    });

    it('do not lose their window to a lease of before that this process has replaced', async () => {
      const { store } = test;
      const { settle: settleOld } = await commit(store, lease, new Map([[1, { put: [row('a', 1)] }]]));
      const [state] = await store.readLeases([KEY]);
      const next = await store.acquireLease(KEY, OWNER, state!);
      const { finished, groups } = await store.recover(next!);
      await expect(settleOld()).rejects.toMatchObject({ code: ErrorCode.LeaseLost });
      await settle(store, next!, finished, groups);
      expect(await rowsOf(store)).toEqual({ a: 1 });
    });

    it('are settled by a holder that has given its lease back in the meantime', async () => {
      const { store } = test;
      const { settle: settled } = await commit(store, lease, new Map([[1, { put: [row('a', 1)] }]]));
      await store.releaseLease(lease);
      await settled();
      await takeOver(await another());
      expect(await rowsOf(store)).toEqual({ a: 1 });
    });
  });
});
