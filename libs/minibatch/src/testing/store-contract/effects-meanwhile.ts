import assert from 'node:assert/strict';
import type { Effects } from '../../storage/stream-store.interface.js';
import { type ContractContext, onlyWithState, type TestFunctions } from './context.js';
import { commitOf, output, outputs, rows, TARGET, targets } from './effects.js';
import {
  acquire,
  append,
  finishWith,
  hold,
  key,
  NOON,
  ns,
  numbers,
  openSeqs,
  progress,
  read,
  register,
  rejectsWith,
  row,
  STREAM,
  windowOf,
} from './fixtures.js';

/** What happens to streams, groups and other consumers between a claim and its commit. */
export function effectsMeanwhileContract(test: TestFunctions, context: ContractContext): void {
  const { describe, it } = onlyWithState(test, context);
  describe('effects of a commit, and what happens meanwhile', () => {
    it('applies only what is new of a commit that is repeated together with more', async () => {
      const { store } = context;
      await targets(store);
      const lease = await hold(store);
      const windows = [1, 2].map((seq) => windowOf(seq, []));
      await store.claim(lease, windows);
      const first: Effects = { put: [row('a', 1), row('b', 1)], append: [output(1)] };
      // Its answer was lost, and another window is finished meanwhile.
      await store.commit(lease, commitOf(1, first));
      const effects = new Map<number, Effects>([
        [1, first],
        [2, { put: [row('a', 2)], remove: ['b'], append: [output(2)] }],
      ]);
      const groups = await store.commit(lease, { finished: [1, 2], progress: progress(2), effects });
      const settled = windows.map((window) => ({ window, messages: [] }));
      await store.settle(lease, settled, { groups, keep: false });
      assert.deepEqual(await rows(store), [row('a', 2)]);
      assert.deepEqual(await outputs(store), [1, 2]);
    });

    it('changes nothing when the group was removed since the claim, not even for a group of its name', async () => {
      const { store } = context;
      const other = await context.another();
      await targets(store);
      const lease = await hold(store);
      await finishWith(store, lease, 1, { put: [row('b', 1, new Date(1))] });
      await store.claim(lease, [windowOf(2, [])]);
      await other.removeGroup(STREAM, 'default');
      const late = commitOf(2, { put: [row('a', 2)], remove: ['b'], append: [output(2)] });
      await rejectsWith('MINIBATCH_LEASE_LOST', store.commit(lease, late));
      await register(other, 'default');
      await rejectsWith('MINIBATCH_LEASE_LOST', store.commit(lease, late));
      await hold(other, key(), 'b');
      await rejectsWith('MINIBATCH_LEASE_LOST', store.commit(lease, late));
      assert.deepEqual(await rows(store), []);
      assert.deepEqual(await outputs(store), []);
    });

    it('changes nothing when the stream was dropped since the claim', async () => {
      const { store } = context;
      const other = await context.another();
      await targets(store);
      const lease = await hold(store);
      await store.claim(lease, [windowOf(1, [])]);
      await other.dropStream(STREAM);
      const late = commitOf(1, { put: [row('a', 1)], append: [output(1), output(2, { stream: STREAM })] });
      await rejectsWith('MINIBATCH_LEASE_LOST', store.commit(lease, late));
      assert.equal(await store.describeStream(STREAM), undefined);
      await register(other, 'default');
      await hold(other, key(), 'b');
      await rejectsWith('MINIBATCH_LEASE_LOST', store.commit(lease, late));
      assert.deepEqual(await rows(store), []);
      assert.deepEqual(await outputs(store), []);
      assert.deepEqual(await read(store), []);
    });

    it('appends to a stream that was dropped since the last commit, and made anew or not', async () => {
      const { store } = context;
      const other = await context.another();
      await targets(store);
      const lease = await hold(store);
      await finishWith(store, lease, 1, { append: [output(1)] });
      await other.dropStream(TARGET);
      await finishWith(store, lease, 2, { put: [row('a', 2)], append: [output(2), output(3)] });
      await other.registerGroup(key('default', TARGET));
      assert.deepEqual(await outputs(store), [2, 3]);
      await other.dropStream(TARGET);
      await other.ensureStream(TARGET, { partitions: 2 });
      await other.registerGroup(key('default', TARGET));
      await finishWith(store, lease, 3, { append: [output(4), output(5, { partition: 1 })] });
      assert.deepEqual(await outputs(store), [4]);
      assert.deepEqual(ns(await read(store, key('default', TARGET, 1))), [5]);
      assert.deepEqual(await rows(store), [row('a', 2)]);
    });

    it('changes nothing when another group has taken the place of its own', async () => {
      const { store } = context;
      const other = await context.another();
      await targets(store);
      await append(store, ...numbers(1));
      const lease = await hold(store);
      await finishWith(store, lease, 1, { put: [row('a', 1), row('b', 1)] });
      const messages = await read(store);
      await store.claim(lease, [windowOf(2, messages)]);
      await other.registerGroup(key('new'), { replaces: 'default' });
      const late = commitOf(2, { put: [row('a', 2)], remove: ['b'], append: [output(2)] });
      await rejectsWith('MINIBATCH_LEASE_LOST', store.commit(lease, late));
      assert.deepEqual(await rows(store, key('new')), [row('a', 1), row('b', 1)]);
      const taken = await acquire(other, key('new'), 'b');
      const { open } = await other.recover(taken);
      assert.deepEqual(
        open.map(({ seq }) => seq),
        [2],
      );
      const groups = await other.commit(taken, commitOf(2, { put: [row('a', 3)], append: [output(3)] }));
      await other.settle(taken, [{ window: open[0]!, messages }], { groups, keep: false });
      await rejectsWith('MINIBATCH_LEASE_LOST', store.commit(lease, late));
      assert.deepEqual(await rows(store, key('new')), [row('a', 3), row('b', 1)]);
      assert.deepEqual(await outputs(store), [3]);
    });

    it('recognises a commit that was repeated after another group has taken the place', async () => {
      const { store } = context;
      await targets(store);
      const lease = await hold(store);
      await store.claim(lease, [windowOf(1, [])]);
      await store.commit(lease, commitOf(1, { put: [row('a', 1)], append: [output(1)] }));
      await store.registerGroup(key('new'), { replaces: 'default' });
      const taken = await acquire(store, key('new'), 'b');
      const { finished, open, groups } = await store.recover(taken);
      assert.deepEqual([finished.map(({ seq }) => seq), open], [[1], []]);
      await store.settle(taken, [{ window: finished[0]!, messages: [] }], { groups, keep: false });
      await finishWith(store, taken, 2, { put: [row('b', 2)], append: [output(2)] });
      assert.deepEqual(await rows(store, key('new')), [row('a', 1), row('b', 2)]);
      assert.deepEqual(await outputs(store), [1, 2]);
    });

    it('leaves a group that was put in place with what it has done under its own name', async () => {
      const { store } = context;
      await targets(store);
      await store.registerGroup(key('new'));
      await finishWith(store, await hold(store), 1, { put: [row('a', 1), row('b', 1, new Date(1))] });
      await finishWith(store, await hold(store, key('new')), 1, { put: [row('a', 2)] });
      await store.registerGroup(key('new'), { replaces: 'default' });
      assert.deepEqual(await rows(store, key('new')), [row('a', 2)]);
      await register(store, 'default');
      assert.deepEqual(await rows(store), []);
    });

    it("changes nothing when the last window's data can't be stored", async () => {
      const { store } = context;
      await targets(store);
      const lease = await hold(store);
      await store.claim(lease, [windowOf(1, []), windowOf(2, [])]);
      const effects = new Map<number, Effects>([
        [1, { put: [row('a', 1)], append: [output(1), output(2, { stream: 'fresh' })] }],
        [2, { put: [row('b', 2)], append: [output(3, { data: { _bsontype: 'nonsense' } })] }],
      ]);
      const commit = { finished: [1, 2], progress: progress(2), effects };
      await rejectsWith('MINIBATCH_NOT_STORABLE', store.commit(lease, commit));
      assert.deepEqual(await openSeqs(store, lease), [1, 2]);
      assert.deepEqual(await rows(store), []);
      assert.deepEqual(await outputs(store), []);
      // Without what was bad it goes through.
      await store.commit(lease, { ...commit, effects: new Map([...effects].slice(0, 1)) });
      assert.deepEqual(await openSeqs(store, lease), []);
    });

    it('keeps the order of many messages to several streams', async () => {
      const { store } = context;
      await targets(store);
      await store.registerGroup(key('default', 'other'));
      const lease = await hold(store);
      const count = 2500;
      await finishWith(store, lease, 1, {
        append: Array.from({ length: count }, (_, n) => output(n, { stream: n % 2 === 0 ? TARGET : 'other' })),
      });
      const all = Array.from({ length: count }, (_, n) => n);
      assert.deepEqual(
        await outputs(store),
        all.filter((n) => n % 2 === 0),
      );
      assert.deepEqual(
        ns(await read(store, key('default', 'other'))),
        all.filter((n) => n % 2 === 1),
      );
    });

    it('lets consumers commit at the same time that append to the same streams', async () => {
      const { store } = context;
      const other = await context.another();
      await targets(store);
      await register(store, 'a', 'b');
      const streams = [TARGET, 'second', 'third'];
      const consumers = [
        { process: store, lease: await hold(store, key('a')), order: streams },
        { process: other, lease: await hold(other, key('b'), 'b'), order: streams.toReversed() },
      ];
      const rounds = 10;
      await Promise.all(
        consumers.map(async ({ process, lease, order }, who) => {
          for (let seq = 1; seq <= rounds; seq += 1) {
            await finishWith(process, lease, seq, {
              put: [row('a', seq)],
              append: order.map((stream) => output(seq, { stream, dedupeId: `${who}:${seq}:${stream}` })),
            });
          }
        }),
      );
      const once = Array.from({ length: rounds }, (_, n) => n + 1);
      assert.deepEqual(
        (await outputs(store)).toSorted((a, b) => Number(a) - Number(b)),
        once.flatMap((n) => [n, n]),
      );
      for (const group of ['a', 'b']) assert.deepEqual(await rows(store, key(group)), [row('a', rounds)]);
    });

    it('lets a former holder and the next commit at the same time: one of them counts', async () => {
      const { store } = context;
      const other = await context.another();
      await targets(store);
      let lease = await hold(store);
      const expected: unknown[] = [];
      for (let seq = 1; seq <= 8; seq += 1) {
        await store.claim(lease, [windowOf(seq, [])]);
        const mine = store.commit(lease, commitOf(seq, { put: [row('a', seq)], append: [output(seq)] })).then(
          () => true,
          () => false,
        );
        const taken = await acquire(other, key(), `b${seq}`).catch(() => acquire(other, key(), `c${seq}`));
        const isMine = await mine;
        const { open, finished, groups } = await other.recover(taken);
        assert.equal(finished.length, isMine ? 1 : 0);
        for (const window of open) {
          await other.commit(taken, commitOf(seq, { put: [row('a', -seq)], append: [output(-seq)] }));
          await other.settle(taken, [{ window, messages: [] }], { groups, keep: false });
        }
        const settled = finished.map((window) => ({ window, messages: [] }));
        if (isMine) await other.settle(taken, settled, { groups, keep: false });
        const decided = isMine ? seq : -seq;
        expected.push(decided);
        assert.deepEqual(await rows(store), [row('a', decided)]);
        lease = await hold(store, key(), `a${seq}`);
      }
      assert.deepEqual(await outputs(store), expected);
    });

    it('appends to its own stream while another group has what was there before', async () => {
      const { store } = context;
      await targets(store);
      await register(store, 'slow');
      await append(store, ...numbers(1, { created: new Date(NOON - 1) }));
      const lease = await hold(store);
      const messages = await read(store);
      const window = windowOf(1, messages);
      await store.claim(lease, [window]);
      const groups = await store.commit(lease, commitOf(1, { append: [output(5, { stream: STREAM })] }));
      await store.settle(lease, [{ window, messages }], { groups, keep: false });
      assert.deepEqual(ns(await read(store)), [5]);
      assert.deepEqual(ns(await read(store, key('slow'))), [0, 5]);
      assert.equal(await store.count(STREAM, 10), 2);
    });
  });
}
