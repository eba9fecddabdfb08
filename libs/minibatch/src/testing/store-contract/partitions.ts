import assert from 'node:assert/strict';
import { setImmediate } from 'node:timers/promises';
import { ErrorCode } from '../../errors/minibatch.error.js';
import type { StreamStore } from '../../storage/stream-store.interface.js';
import type { ContractContext, TestFunctions } from './context.js';
import {
  acquire,
  ALL,
  append,
  finish,
  hold,
  key,
  message,
  NOON,
  ns,
  owner,
  partitioned,
  progress,
  read,
  register,
  rejectsWith,
  windowOf,
  STREAM,
} from './fixtures.js';

const AT = new Date(NOON);
const LATER = new Date(NOON + 60_000);

function inPartition(partition: number, n: number): ReturnType<typeof message> {
  return message({ n }, { partition });
}

/** What the store knows of the consumers: their groups and partitions. */
async function known(store: StreamStore): Promise<(readonly [string, number])[]> {
  const [stats] = await store.stats([STREAM]);
  const consumers = stats?.consumers.map(({ group, partition }) => [group, partition] as const) ?? [];
  return consumers.toSorted(([a, p], [b, q]) => (a === b ? p - q : a < b ? -1 : 1));
}

export function partitionsContract({ describe, it }: TestFunctions, context: ContractContext): void {
  describe('partitions', () => {
    it('has as many as it was made with, whatever is said later', async () => {
      const { store } = context;
      const other = await context.another();
      assert.equal((await store.ensureStream(STREAM, { partitions: 4 })).partitions, 4);
      assert.equal((await other.ensureStream(STREAM, { partitions: 8 })).partitions, 4);
      assert.equal((await other.ensureStream(STREAM)).partitions, 4);
      assert.equal((await other.describeStream(STREAM))?.partitions, 4);
      assert.equal((await other.listStreams([STREAM]))[0]?.partitions, 4);
      assert.equal((await other.describeStream(STREAM))?.growths, undefined);
    });

    it('says nothing of partitions before anybody has', async () => {
      const { store } = context;
      const made = await store.ensureStream(STREAM);
      assert.equal(made.partitions, undefined);
      assert.equal((await store.ensureStream(STREAM, { partitions: 4 })).partitions, undefined);
    });

    it('grows to a multiple, and remembers each time', async () => {
      const { store } = context;
      const other = await context.another();
      await store.ensureStream(STREAM);
      const first = await store.updateStream(STREAM, { grow: { partitions: 2, at: AT } });
      assert.deepEqual([first.partitions, first.growths], [2, [{ from: 1, at: AT }]]);
      assert.equal(first.paused, false);
      await other.updateStream(STREAM, { grow: { partitions: 6, at: LATER } });
      const after = await store.describeStream(STREAM);
      assert.equal(after?.partitions, 6);
      assert.deepEqual(after.growths, [
        { from: 1, at: AT },
        { from: 2, at: LATER },
      ]);
    });

    it('grows once, however many ask for it', async () => {
      const { store } = context;
      const other = await context.another();
      await store.ensureStream(STREAM, { partitions: 2 });
      const grow = { partitions: 4, at: AT };
      const infos = await Promise.all([store, other, store, other].map((each) => each.updateStream(STREAM, { grow })));
      for (const { partitions, growths } of infos) assert.deepEqual([partitions, growths], [4, [{ from: 2, at: AT }]]);
    });

    it('refuses to shrink, and to grow to what is no multiple, and changes nothing', async () => {
      const { store } = context;
      await store.ensureStream(STREAM, { partitions: 4 });
      for (const partitions of [1, 2, 3, 6, 4096]) {
        const change = { grow: { partitions, at: AT }, paused: true };
        await rejectsWith(ErrorCode.InvalidPartitions, store.updateStream(STREAM, change));
      }
      const { partitions, growths, paused } = (await store.describeStream(STREAM))!;
      assert.deepEqual([partitions, growths, paused], [4, undefined, false]);
      const missing = store.updateStream('missing', { grow: { partitions: 2, at: AT } });
      await rejectsWith(ErrorCode.UnknownStream, missing);
    });

    it('registers a group in all of them with one call', async () => {
      const { store } = context;
      await partitioned(store, 3, 'a', 'b');
      const expected = ['a', 'b'].flatMap((group) => [0, 1, 2].map((partition) => [group, partition] as const));
      assert.deepEqual(await known(store), expected);
      const states = await store.readLeases(expected.map(([group, partition]) => key(group, STREAM, partition)));
      assert.deepEqual(
        states.map(({ missing }) => missing),
        expected.map(() => undefined),
      );
    });

    it('registers its groups in those that it is given', async () => {
      const { store } = context;
      await register(store, 'a', 'b');
      const lease = await hold(store, key('a'));
      await store.updateStream(STREAM, { grow: { partitions: 2, at: AT } });
      assert.deepEqual(await known(store), [
        ['a', 0],
        ['a', 1],
        ['b', 0],
        ['b', 1],
      ]);
      // The lease that was held is held.
      assert.deepEqual(await store.renewLeases([lease]), []);
      await append(store, inPartition(1, 0));
      const b = await hold(store, key('b', STREAM, 1));
      await finish(store, b, 1, await read(store, b.key));
      assert.deepEqual(ns(await read(store, key('a', STREAM, 1))), [0], 'it waits for a');
      const a = await hold(store, key('a', STREAM, 1));
      await finish(store, a, 1, await read(store, a.key));
      assert.equal((await store.stats([STREAM]))[0]?.buffered, 0);
    });

    it('knows the consumers of those that it is given as soon as it has them', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'a', 'b');
      const partitions = 64;
      const growing = store.updateStream(STREAM, { grow: { partitions, at: AT } });
      const isGrown = async () => (await other.describeStream(STREAM))?.partitions === partitions;
      // Calls of a store in this process may be answered without a turn of the event loop, which the growth may need.
      while (!(await isGrown())) await Promise.race([growing, setImmediate()]);
      const keys = ['a', 'b'].flatMap((group) => Array.from({ length: partitions }, (_, n) => key(group, STREAM, n)));
      const states = await other.readLeases(keys);
      const lease = await other.acquireLease(keys[1]!, owner('b'), states[1]!);
      await growing;
      assert.deepEqual(
        states.filter(({ missing }) => missing),
        [],
      );
      assert.ok(lease);
      assert.equal((await known(store)).length, keys.length);
      assert.deepEqual(await other.renewLeases([lease]), []);
    });

    it('registers a group that comes later in all of them, and one that takes the place of another', async () => {
      const { store } = context;
      await partitioned(store, 2, 'a');
      await append(store, inPartition(0, 0), inPartition(1, 1), inPartition(1, 2));
      const a = await hold(store, key('a', STREAM, 1));
      await finish(store, a, 1, (await read(store, a.key)).slice(0, 1));
      await store.registerGroup(key('b'), { replaces: 'a' });
      assert.deepEqual(await known(store), [
        ['b', 0],
        ['b', 1],
      ]);
      assert.deepEqual(ns(await read(store, key('b', STREAM, 1))), [2]);
      assert.deepEqual(ns(await read(store, key('b'))), [0]);
    });

    it('keeps leases, messages and counts of its partitions apart', async () => {
      const { store } = context;
      await partitioned(store, 2, 'default');
      await append(store, inPartition(0, 0), inPartition(1, 1), inPartition(1, 2), message({ n: 3 }));
      const [first, second] = [key(), key('default', STREAM, 1)] as const;
      await acquire(store, first, 'a');
      const lease = await hold(store, second, 'b');
      assert.deepEqual(ns(await read(store, first)), [0, 3], 'without a partition, a message is in the first one');
      assert.deepEqual(ns(await read(store, second)), [1, 2]);
      const byTime = async (consumer = first) => ns((await store.fetchByTime(consumer, {}, undefined, ALL)).messages);
      assert.deepEqual(
        [await byTime(), await byTime(second)],
        [
          [0, 3],
          [1, 2],
        ],
      );
      assert.equal((await store.scan(second, undefined, undefined, 10)).length, 2);
      await finish(store, lease, 1, await read(store, second));
      const [stats] = await store.stats([STREAM]);
      assert.deepEqual(
        stats?.consumers.map(({ partition, pending, progress }) => [partition, pending, progress.messages]),
        [
          [0, 2, 0],
          [1, 0, 2],
        ],
      );
      assert.equal(stats.buffered, 2);
      assert.equal(await store.count(STREAM, 10), 2);
    });

    it('counts messages of partitions that no group reads yet', async () => {
      const { store } = context;
      await store.ensureStream(STREAM, { partitions: 2 });
      await append(store, inPartition(0, 0), inPartition(1, 1));
      const [stats] = await store.stats([STREAM]);
      assert.deepEqual([stats?.buffered, stats?.foreign, await store.count(STREAM, 1)], [2, undefined, 1]);
      await register(store, 'default');
      assert.deepEqual(ns(await read(store, key('default', STREAM, 1))), [1]);
    });

    it('tells a consumer of messages in its partition', async () => {
      const { store } = context;
      const other = await context.another();
      await partitioned(store, 2, 'default');
      const keys = [key(), key('default', STREAM, 1)];
      for (const [partition, consumer] of keys.entries()) {
        const before = await store.poll(keys);
        await append(other, inPartition(partition, partition));
        const after = await store.poll(keys);
        assert.notEqual(after[partition], before[partition]);
        assert.deepEqual(ns(await read(store, consumer)), [partition]);
      }
    });

    it('has no place for messages in partitions that it does not have: they go to others, by the next sweep', async () => {
      const { store } = context;
      await partitioned(store, 2, 'default');
      await store.registerGroup(key(), { timeOrder: true });
      await append(store, inPartition(1, 0), inPartition(3, 1), inPartition(5, 2), inPartition(6, 3));
      await store.sweep(STREAM, {});
      const [first, second] = [key(), key('default', STREAM, 1)];
      assert.deepEqual([ns(await read(store, first)), ns(await read(store, second))], [[3], [0, 1, 2]]);
      assert.deepEqual(ns((await store.fetchByTime(second, {}, undefined, ALL)).messages), [0, 1, 2]);
      const [stats] = await store.stats([STREAM]);
      assert.deepEqual(
        [stats?.buffered, stats?.foreign, stats?.consumers.map(({ pending }) => pending)],
        [4, undefined, [1, 3]],
      );
    });

    it('may be made again with fewer, after it was dropped', async () => {
      const { store } = context;
      const other = await context.another();
      await partitioned(store, 4, 'default');
      await append(store, inPartition(1, 0), inPartition(3, 1));
      const former = await hold(store, key('default', STREAM, 3));
      const window = windowOf(1, await read(store, former.key));
      await store.claim(former, [window]);
      await other.dropStream(STREAM);
      await partitioned(other, 2, 'default');
      await append(store, inPartition(1, 2));
      assert.deepEqual(await known(store), [
        ['default', 0],
        ['default', 1],
      ]);
      assert.deepEqual(ns(await read(store, key('default', STREAM, 1))), [2]);
      assert.equal((await store.stats([STREAM]))[0]?.buffered, 1);
      await rejectsWith(ErrorCode.LeaseLost, store.commit(former, { finished: [1], progress: progress(1, 1) }));
      assert.deepEqual(await store.renewLeases([former]), [former]);
    });

    it('forgets a group, and the stream, in all of them', async () => {
      const { store } = context;
      await partitioned(store, 2, 'a', 'b');
      await append(store, inPartition(0, 0), inPartition(1, 1));
      const lease = await hold(store, key('a', STREAM, 1));
      await finish(store, lease, 1, await read(store, lease.key));
      await store.removeGroup(STREAM, 'b');
      assert.deepEqual(await known(store), [
        ['a', 0],
        ['a', 1],
      ]);
      assert.equal((await store.stats([STREAM]))[0]?.buffered, 1, 'what only b waited for has left');
      await store.dropStream(STREAM);
      assert.equal((await store.ensureStream(STREAM)).partitions, undefined);
    });
  });
}
