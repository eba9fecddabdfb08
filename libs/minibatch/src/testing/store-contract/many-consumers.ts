import assert from 'node:assert/strict';
import { ErrorCode } from '../../errors/minibatch.error.js';
import type { ConsumerKey, Lease, LeaseState, StreamStore } from '../../storage/stream-store.interface.js';
import type { ContractContext, TestFunctions } from './context.js';
import { ALL, key, message, ns, owner, progress, rejectsWith, windowOf } from './fixtures.js';

/** Two groups on the first stream, one on each of the others. */
const KEYS: readonly ConsumerKey[] = [
  ...['a', 'b', 'c', 'd', 'e', 'f'].map((stream) => key('default', stream)),
  key('audit', 'a'),
];

/** A start with many consumers makes the same calls for each of them at the same time: a store may join these, and nobody must notice. */
export function manyConsumersContract({ describe, it }: TestFunctions, context: ContractContext): void {
  describe('many consumers that begin at the same time', () => {
    it('are registered, each on its own stream', async () => {
      const { store } = context;
      const infos = await Promise.all(KEYS.map(({ stream }) => store.ensureStream(stream)));
      assert.deepEqual(
        infos.map(({ name, status }) => [name, status]),
        KEYS.map(({ stream }) => [stream, 'open']),
      );
      await registerAll(store);
      // Once more, as after an answer that was lost.
      await registerAll(store);
      const found = await store.listStreams();
      assert.deepEqual(
        found.map(({ name, groups }) => [name, groups.toSorted()]),
        [
          ['a', ['audit', 'default']],
          ...['b', 'c', 'd', 'e', 'f'].map((name): [string, string[]] => [name, ['default']]),
        ],
      );
    });

    it('read their streams together, each what it asks for', async () => {
      const { store } = context;
      await registerAll(store);
      const names = ['d', 'missing', 'b', 'd'];
      const lists = await Promise.all([
        ...names.map((name) => store.listStreams([name])),
        store.listStreams(['c', 'a']),
      ]);
      assert.deepEqual(
        lists.map((list) => list.map(({ name }) => name).toSorted()),
        [['d'], [], ['b'], ['d'], ['a', 'c']],
      );
    });

    it('get their leases, but for those that others were quicker to take', async () => {
      const { store } = context;
      await registerAll(store);
      const states = await store.readLeases(KEYS);
      const [first = [], second = []] = await Promise.all(['me', 'you'].map((by) => acquireAll(store, by, states)));
      for (const [index, consumer] of KEYS.entries()) {
        const winners = [first[index], second[index]].filter((lease) => lease !== undefined);
        assert.equal(winners.length, 1);
        assert.deepEqual(winners[0]?.key, consumer);
        assert.equal(winners[0]?.fence, 1);
      }
      await Promise.all([...first, ...second].map(async (lease) => lease && store.releaseLease(lease)));
      for (const { owner: holder } of await store.readLeases(KEYS)) assert.equal(holder, undefined);
    });

    it('are not told of a lease that is not theirs any more', async () => {
      const { store } = context;
      const leases = await holdAll(store);
      const [lost, ...kept] = leases;
      assert.ok(lost);
      const [state] = await store.readLeases([lost.key]);
      assert.ok(state && (await store.acquireLease(lost.key, owner('other'), state)));
      const isLost = (work: Promise<unknown>) => rejectsWith(ErrorCode.LeaseLost, work);
      await Promise.all([
        isLost(store.recover(lost)),
        ...kept.map(async (lease) => assert.deepEqual((await store.recover(lease)).open, [])),
      ]);
      const commit = { finished: [], progress: progress(0) };
      await Promise.all([
        isLost(store.commit(lost, commit)),
        ...kept.map(async (lease) => assert.ok((await store.commit(lease, commit)).includes(lease.key.group))),
      ]);
    });

    it('find what others left, each its own', async () => {
      const { store } = context;
      const former = await holdAll(store);
      await store.append(KEYS.map(({ stream }) => message(stream, { stream })));
      const claimed = former.slice(0, 3);
      for (const lease of claimed) {
        const { messages } = await store.fetch(lease.key, undefined, ALL);
        await store.claim(lease, [windowOf(1, messages)]);
      }
      const leases = await acquireAll(store, 'next');
      const found = await Promise.all(leases.map(async (lease) => lease && store.recover(lease)));
      assert.deepEqual(
        found.map((recovery) => recovery?.open.map(({ seq }) => seq)),
        KEYS.map((_, index) => (index < claimed.length ? [1] : [])),
      );
    });

    it('read, commit and remove their own messages', async () => {
      const { store } = context;
      const leases = await holdAll(store);
      const data = (stream: string) => (stream === 'f' ? [] : [`${stream}1`, `${stream}2`]);
      await store.append(
        ['a', 'b', 'c', 'd', 'e', 'f'].flatMap((stream) => data(stream).map((d) => message({ n: d }, { stream }))),
      );
      const blocks = await Promise.all(leases.map((lease) => store.fetch(lease.key, undefined, ALL)));
      assert.deepEqual(
        blocks.map(({ messages, full }) => [ns(messages), full]),
        KEYS.map(({ stream }) => [data(stream), false]),
      );
      const done = leases.map((lease, index) => ({ lease, messages: blocks[index]?.messages ?? [] }));
      await Promise.all(done.map(({ lease, messages }) => store.claim(lease, [windowOf(1, messages)])));
      await Promise.all(
        done.map(async ({ lease, messages }) => {
          const groups = await store.commit(lease, { finished: [1], progress: progress(1) });
          await store.settle(lease, [{ window: windowOf(1, messages), messages }], { groups, keep: false });
        }),
      );
      for (const { name, buffered, consumers } of await store.stats()) {
        assert.equal(buffered, 0, name);
        for (const { openWindows, progress: reached } of consumers)
          assert.deepEqual([openWindows, reached.windows], [0, 1]);
      }
    });

    it('read no further than their bounds', async () => {
      const { store } = context;
      await registerAll(store);
      await store.append(KEYS.flatMap(({ stream }) => [1, 2, 3].map((n) => message(n, { stream }))));
      const blocks = await Promise.all(
        KEYS.map((consumer) => store.fetch(consumer, undefined, { ...ALL, messages: 2 })),
      );
      for (const { messages, full } of blocks) assert.deepEqual([messages.length, full], [2, true]);
    });

    it('are asked for, and hand over', async () => {
      const { store } = context;
      const leases = await holdAll(store);
      const states = await store.readLeases(KEYS);
      const request = async (heir: string) =>
        Promise.all(KEYS.map(async (consumer, index) => store.requestLease?.(consumer, owner(heir), states[index]!)));
      if (!store.requestLease) return;
      assert.deepEqual(
        await request('heir'),
        KEYS.map(() => true),
      );
      assert.deepEqual(
        await request('another'),
        KEYS.map(() => false),
      );
      await Promise.all(leases.map((lease) => store.releaseLease(lease)));
      const [first] = await store.readLeases(KEYS);
      assert.equal(first?.heir?.id, 'heir');
      const taken = await acquireAll(store, 'heir');
      assert.equal(taken.filter((lease) => lease?.fence === 2).length, KEYS.length);
    });
  });
}

async function registerAll(store: StreamStore): Promise<void> {
  await Promise.all(KEYS.map((consumer) => store.registerGroup(consumer)));
}

async function acquireAll(
  store: StreamStore,
  by: string,
  expected?: readonly LeaseState[],
): Promise<readonly (Lease | undefined)[]> {
  const states = expected ?? (await store.readLeases(KEYS));
  return Promise.all(KEYS.map(async (consumer, index) => store.acquireLease(consumer, owner(by), states[index]!)));
}

async function holdAll(store: StreamStore): Promise<readonly Lease[]> {
  await registerAll(store);
  const leases = (await acquireAll(store, 'me')).filter((lease) => lease !== undefined);
  assert.equal(leases.length, KEYS.length);
  await Promise.all(leases.map((lease) => store.recover(lease)));
  return leases;
}
