import assert from 'node:assert/strict';
import type { ContractContext, TestFunctions } from './context.js';
import { append, finish, hold, key, message, NOON, numbers, read, register, STREAM, windowOf } from './fixtures.js';

export function statisticsContract({ describe, it }: TestFunctions, context: ContractContext): void {
  describe('statistics', () => {
    it('counts messages and windows of every consumer', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'a', 'b');
      await append(store, ...numbers(10));
      const lease = await hold(store, key('a'), 'me');
      const messages = await read(store, key('a'));
      await finish(store, lease, 1, messages.slice(0, 4));
      await store.claim(lease, [windowOf(2, messages.slice(4, 6)), windowOf(3, messages.slice(6, 7))]);

      const [stats] = await other.stats([STREAM]);
      assert.equal(stats?.name, STREAM);
      assert.equal(stats?.status, 'open');
      assert.equal(stats?.buffered, 10);
      const consumers = [...(stats?.consumers ?? [])].sort((x, y) => x.group.localeCompare(y.group));
      assert.deepEqual(
        consumers.map(({ group, partition }) => [group, partition]),
        [
          ['a', 0],
          ['b', 0],
        ],
      );
      assert.equal(consumers[0]?.pending, 6);
      assert.equal(consumers[0]?.openWindows, 2);
      assert.equal(consumers[0]?.lease.owner?.id, 'me');
      assert.deepEqual({ ...consumers[0]?.progress }, { lastSeq: 1, windows: 1, messages: 4 });
      assert.equal(consumers[1]?.pending, 10);
      assert.equal(consumers[1]?.openWindows, 0);
      assert.equal(consumers[1]?.lease.fence, 0);
    });

    it('counts a stream without consumers, and says how old its messages are', async () => {
      const { store } = context;
      await store.ensureStream(STREAM);
      assert.equal((await store.stats([STREAM]))[0]?.oldest, undefined);
      await append(store, ...[0, 1, 2].map((n) => message({ n }, { created: new Date(NOON + n) })));
      const [stats] = await store.stats([STREAM]);
      assert.equal(stats?.buffered, 3);
      assert.deepEqual(stats?.oldest, new Date(NOON));
      assert.deepEqual(stats?.consumers, []);
      await store.registerGroup(key());
      await finish(store, await hold(store), 1, (await read(store)).slice(0, 2));
      assert.deepEqual((await store.stats([STREAM]))[0]?.oldest, new Date(NOON + 2));
    });

    it('counts some streams or all', async () => {
      const { store } = context;
      for (const name of ['b', 'a']) await store.ensureStream(name);
      const names = async (wanted?: readonly string[]) => (await store.stats(wanted)).map(({ name }) => name).sort();
      assert.deepEqual(await names(), ['a', 'b']);
      assert.deepEqual(await names(['b', 'missing']), ['b']);
      assert.deepEqual(await names([]), []);
    });

    it('counts right while two processes append', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'default');
      await Promise.all(Array.from({ length: 20 }, (_, n) => (n % 2 ? store : other).append(numbers(5))));
      const [stats] = await store.stats([STREAM]);
      assert.equal(stats?.buffered, 100);
      assert.equal(stats?.consumers[0]?.pending, 100);
    });
  });

  describe('poll', () => {
    it('gives another token after an append, of any process, and only then', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'default');
      await store.registerGroup(key('default', 'quiet'));
      const keys = [key(), key('default', 'quiet')];
      const first = await store.poll(keys);
      assert.equal(first.length, 2);
      assert.deepEqual(await store.poll(keys), first);
      await append(other, message({}));
      const second = await store.poll(keys);
      assert.notEqual(second[0], first[0]);
      assert.equal(second[1], first[1]);
      await append(store, message({}));
      assert.notEqual((await store.poll(keys))[0], second[0]);
      assert.deepEqual(await store.poll([]), []);
    });

    it('gives another token when a stream was emptied and filled again', async () => {
      const { store } = context;
      await register(store, 'default');
      const lease = await hold(store);
      await append(store, message({}));
      const [before] = await store.poll([key()]);
      await finish(store, lease, 1, await read(store));
      await append(store, message({}));
      assert.notEqual((await store.poll([key()]))[0], before);
    });

    it('knows of streams that are not there yet', async () => {
      const { store } = context;
      const [before] = await store.poll([key()]);
      await append(store, message({}));
      assert.notEqual((await store.poll([key()]))[0], before);
    });
  });

  describe('sweep', () => {
    it('does nothing where there is nothing', async () => {
      const { store } = context;
      const later = new Date(Date.now() + 60_000);
      const nothing = { tombstones: 0, messages: 0, windows: 0 };
      assert.deepEqual(await store.sweep('missing', { tombstones: later, kept: later }), nothing);
      await register(store, 'default');
      await append(store, ...numbers(2));
      assert.deepEqual(await store.sweep(STREAM, { tombstones: later, kept: later }), nothing);
      assert.deepEqual(await store.sweep(STREAM, {}), nothing);
      assert.equal((await read(store)).length, 2);
    });
  });
}
