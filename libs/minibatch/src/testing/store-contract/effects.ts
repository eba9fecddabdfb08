import assert from 'node:assert/strict';
import type {
  Commit,
  Effects,
  Lease,
  NewMessage,
  StateRow,
  StreamStore,
} from '../../storage/stream-store.interface.js';
import { type ContractContext, onlyWithState, type TestFunctions } from './context.js';
import {
  acquire,
  append,
  die,
  finish,
  finishWith,
  hold,
  key,
  NOON,
  ns,
  numbers,
  partitioned,
  progress,
  read,
  register,
  rejectsWith,
  row,
  valueOf,
  windowOf,
} from './fixtures.js';

export const TARGET = 'results';
const SLOTS = ['a', 'b', 'c'];

export function effectsContract(test: TestFunctions, context: ContractContext): void {
  const { describe, it } = onlyWithState(test, context);
  describe('effects of a commit', () => {
    it('shows nothing of a window that is not committed', async () => {
      const { store } = context;
      await targets(store);
      const lease = await hold(store);
      const window = windowOf(1, []);
      await store.claim(lease, [window]);
      await store.reschedule(lease, { ...window, attempt: 2 });
      assert.deepEqual(await rows(store), []);
      assert.deepEqual(await outputs(store), []);
    });

    it('shows all when the window is settled, together with what other windows of the commit do', async () => {
      const { store } = context;
      await targets(store);
      await append(store, ...numbers(2));
      const lease = await hold(store);
      const messages = await read(store);
      const windows = [windowOf(1, messages.slice(0, 1)), windowOf(2, messages.slice(1))];
      await store.claim(lease, windows);
      const effects = new Map([[2, { put: [row('a', 1)], append: [output(1), output(2)] }]]);
      const groups = await store.commit(lease, { finished: [1, 2], progress: progress(2, 2), effects });
      await store.settle(
        lease,
        windows.map((window, n) => ({ window, messages: [messages[n]!] })),
        { groups, keep: false },
      );
      assert.deepEqual(await rows(store), [row('a', 1)]);
      assert.deepEqual(await outputs(store), [1, 2]);
      assert.deepEqual(await read(store), []);
      assert.deepEqual((await store.recover(lease)).open, []);
    });

    it('appends messages as append does, in order, to streams that need not exist', async () => {
      const { store } = context;
      await store.ensureStream(TARGET, { partitions: 3 });
      await targets(store);
      const extra = { key: 'k', headers: { trace: 'ä' }, partition: 2, created: new Date(-1) };
      const data = { $set: { 'a.b': 1n }, when: new Date(5), bytes: Buffer.from([0, 255]), list: [null, -0, NaN] };
      await finishWith(store, await hold(store), 1, {
        append: [output(1), output(2, { stream: 'fresh' }), output(3, { ...extra, data }), output(4)],
      });
      assert.deepEqual(await outputs(store), [1, 4]);
      await store.registerGroup(key('default', 'fresh'));
      assert.deepEqual(ns(await read(store, key('default', 'fresh'))), [2]);
      const [found, ...others] = await read(store, key('default', TARGET, 2));
      assert.deepEqual(others, []);
      assert.deepEqual({ ...(found?.data as object), bytes: undefined }, { ...data, bytes: undefined });
      assert.deepEqual([found?.key, found?.headers, found?.created], ['k', extra.headers, extra.created]);
    });

    it('appends to the very stream that the window is of', async () => {
      const { store } = context;
      await targets(store);
      await append(store, ...numbers(1));
      const lease = await hold(store);
      await finishAll(store, lease, 1, { append: [output(7, { stream: 'flights' })] });
      assert.deepEqual(ns(await read(store)), [7]);
    });

    it('does the same once when it is repeated', async () => {
      const { store } = context;
      await targets(store);
      const lease = await hold(store);
      const window = windowOf(1, []);
      await store.claim(lease, [window]);
      const commit = commitOf(1, { put: [row('a', 1)], append: [output(1)] });
      const groups = await store.commit(lease, commit);
      await store.commit(lease, commit);
      const settled = [{ window, messages: [] }];
      await store.settle(lease, settled, { groups, keep: false });
      assert.deepEqual(await outputs(store), [1]);
      // Somebody may be through with the message before an answer that was lost is asked for once more.
      await finishAll(store, await hold(store, key('default', TARGET)), 1);
      await store.settle(lease, settled, { groups, keep: false });
      assert.deepEqual(await rows(store), [row('a', 1)]);
      assert.deepEqual(await outputs(store), []);
    });

    it('applies the windows of one commit in their order', async () => {
      const { store } = context;
      await targets(store);
      const lease = await hold(store);
      const windows = [1, 2, 3].map((seq) => windowOf(seq, []));
      await store.claim(lease, windows);
      const effects = new Map<number, Effects>([
        [3, { put: [row('b', 3)], append: [output(3)] }],
        [1, { put: [row('a', 1, new Date(1)), row('c', 1)], remove: ['b'], append: [output(1)] }],
        [2, { put: [row('b', 2)], remove: ['a'], append: [output(2)] }],
      ]);
      const groups = await store.commit(lease, { finished: [1, 2, 3], progress: progress(3), effects });
      await store.settle(
        lease,
        windows.map((window) => ({ window, messages: [] })),
        { groups, keep: false },
      );
      assert.deepEqual(await rows(store), [row('b', 3), row('c', 1)]);
      assert.deepEqual(await outputs(store), [1, 2, 3]);
    });

    it('takes commits one after the other before the first is settled', async () => {
      const { store } = context;
      await targets(store);
      const lease = await hold(store);
      const windows = [1, 2].map((seq) => windowOf(seq, []));
      await store.claim(lease, windows);
      const groups = await store.commit(lease, commitOf(1, { put: [row('a', 1), row('b', 1)], append: [output(1)] }));
      const second = commitOf(2, { put: [row('a', 2)], remove: ['b'], append: [output(2)] });
      await store.commit(lease, { ...second, finished: [1, 2] });
      await store.settle(lease, [{ window: windows[0]!, messages: [] }], { groups, keep: false });
      await store.settle(lease, [{ window: windows[1]!, messages: [] }], { groups, keep: false });
      assert.deepEqual(await rows(store), [row('a', 2)]);
      assert.deepEqual(await outputs(store), [1, 2]);
    });

    it('has the later rows when two commits are settled in the other order', async () => {
      const { store } = context;
      await targets(store);
      const lease = await hold(store);
      const windows = [1, 2].map((seq) => windowOf(seq, []));
      await store.claim(lease, windows);
      const groups = await store.commit(lease, commitOf(1, { put: [row('a', 1), row('b', 1)] }));
      await store.commit(lease, { ...commitOf(2, { put: [row('a', 2)], remove: ['b'] }), finished: [1, 2] });
      await store.settle(lease, [{ window: windows[1]!, messages: [] }], { groups, keep: false });
      await store.settle(lease, [{ window: windows[0]!, messages: [] }], { groups, keep: false });
      assert.deepEqual(await rows(store), [row('a', 2)]);
    });

    it('changes nothing when the lease is lost', async () => {
      const { store } = context;
      const other = await context.another();
      await targets(store);
      const lease = await hold(store);
      await store.claim(lease, [windowOf(1, [])]);
      await hold(other, key(), 'b');
      const lost = store.commit(lease, commitOf(1, { put: [row('a', 1)], append: [output(1)] }));
      await rejectsWith('MINIBATCH_LEASE_LOST', lost);
      assert.deepEqual(await rows(other), []);
      assert.deepEqual(await outputs(other), []);
    });

    it("changes nothing when a message can't be stored", async () => {
      const { store } = context;
      await targets(store);
      const lease = await hold(store);
      const window = windowOf(1, []);
      await store.claim(lease, [window]);
      const tooLarge = output(2, { data: { text: 'x'.repeat(store.maxMessageBytes) } });
      const commit = commitOf(1, { put: [row('a', 1)], append: [output(1), tooLarge] });
      await rejectsWith('MINIBATCH_MESSAGE_TOO_LARGE', store.commit(lease, commit));
      const { open, finished } = await store.recover(lease);
      assert.deepEqual([open.length, finished.length], [1, 0]);
      assert.deepEqual(await rows(store), []);
      assert.deepEqual(await outputs(store), []);
    });

    it('is there for the next holder, who settles what was committed', async () => {
      const { store } = context;
      const other = await context.another();
      await targets(store);
      await append(store, ...numbers(1));
      const lease = await hold(store);
      await finishWith(store, lease, 1, { put: [row('a', 1), row('b', 1, new Date(1)), row('c', 1)] });
      const messages = await read(store);
      const windows = [windowOf(2, messages), windowOf(3, [])];
      await store.claim(lease, windows);
      const effects = { put: [row('a', 2)], remove: ['b'], append: [output(1), output(2)] };
      await store.commit(lease, commitOf(2, effects));

      const taken = await acquire(other, key(), 'b');
      const { finished, open, groups } = await other.recover(taken);
      assert.deepEqual(
        finished.map(({ seq }) => seq),
        [2],
      );
      assert.deepEqual(
        open.map(({ seq }) => seq),
        [3],
      );
      const found = await other.load(key(), finished[0]!.messageIds);
      await other.settle(taken, [{ window: finished[0]!, messages: found }], { groups, keep: false });
      assert.deepEqual(await rows(other), [row('a', 2), row('c', 1)]);
      assert.deepEqual(await outputs(other), [1, 2]);
      assert.deepEqual(await read(other), []);
      await finishOpen(other, taken, 3, { put: [row('c', 3)] });
      assert.deepEqual(await rows(other), [row('a', 2), row('c', 3)]);
      assert.deepEqual(await outputs(other), [1, 2]);
    });

    it('is not undone by a former holder that goes on late', async () => {
      const { store } = context;
      const other = await context.another();
      await targets(store);
      const lease = await hold(store);
      const window = windowOf(1, []);
      await store.claim(lease, [window]);
      const effects = { put: [row('a', 1), row('b', 1, new Date(1)), row('c', 1)], append: [output(1)] };
      const groups = await store.commit(lease, commitOf(1, effects));

      const taken = await acquire(other, key(), 'b');
      const recovered = await other.recover(taken);
      await other.settle(taken, [{ window: recovered.finished[0]!, messages: [] }], { ...recovered, keep: false });
      await finishWith(other, taken, 2, { put: [row('a', 2)], remove: ['b'] });
      await finishAll(other, await hold(other, key('default', TARGET)), 1);
      // Where the store can tell, it says that the lease is lost.
      await store.settle(lease, [{ window, messages: [] }], { groups, keep: false }).catch(() => undefined);
      await rejectsWith('MINIBATCH_LEASE_LOST', store.commit(lease, commitOf(1, effects)));
      assert.deepEqual(await rows(other), [row('a', 2), row('c', 1)]);
      assert.deepEqual(await due(other), []);
      assert.deepEqual(await outputs(other), []);
    });

    it('is void for a window that the next holder commits with other effects, or with none', async () => {
      const { store } = context;
      const other = await context.another();
      await targets(store);
      const lease = await hold(store);
      await store.claim(lease, [windowOf(1, []), windowOf(2, [])]);
      const taken = await hold(other, key(), 'b');
      const mine = commitOf(1, { put: [row('a', 1), row('b', 1)], append: [output(1)] });
      await rejectsWith('MINIBATCH_LEASE_LOST', store.commit(lease, mine));
      await finishOpen(other, taken, 1, { put: [row('a', 2)], append: [output(2)] });
      await finishOpen(other, taken, 2);
      const third = await hold(store, key(), 'c');
      await finishWith(store, third, 3, {});
      assert.deepEqual(await rows(store), [row('a', 2)]);
      assert.deepEqual(await outputs(store), [2]);
    });

    it('is there once when a holder after the next settles again', async () => {
      const { store } = context;
      const other = await context.another();
      await targets(store);
      const lease = await hold(store);
      await store.claim(lease, [windowOf(1, [])]);
      await store.commit(lease, commitOf(1, { put: [row('a', 1)], remove: ['b'], append: [output(1)] }));
      for (const [process, by] of [
        [other, 'b'],
        [store, 'c'],
      ] as const) {
        const taken = await acquire(process, key(), by);
        const { finished, groups } = await process.recover(taken);
        await process.settle(
          taken,
          finished.map((window) => ({ window, messages: [] })),
          { groups, keep: false },
        );
      }
      assert.deepEqual(await rows(store), [row('a', 1)]);
      assert.deepEqual(await outputs(store), [1]);
    });

    it('goes with kept windows and with dead letters', async () => {
      const { store } = context;
      await targets(store);
      await append(store, ...numbers(2));
      const lease = await hold(store);
      const messages = await read(store);
      const window = windowOf(1, messages.slice(0, 1));
      await store.claim(lease, [window]);
      const groups = await store.commit(lease, commitOf(1, { put: [row('a', 1)], append: [output(1)] }));
      await store.settle(lease, [{ window, messages: messages.slice(0, 1) }], { groups, keep: true });
      await die(store, lease, 2, messages.slice(1));
      assert.deepEqual(await rows(store), [row('a', 1)]);
      assert.deepEqual(await outputs(store), [1]);
    });

    it('has room for large effects', async () => {
      const { store } = context;
      await targets(store);
      const lease = await hold(store);
      const large = (n: number): StateRow => ({ slot: `large-${n}`, value: new Uint8Array(1024 * 1024).fill(n) });
      const appended = Array.from({ length: 3 }, (_, n) => output(n, { data: { n, text: 'x'.repeat(1024 * 1024) } }));
      await finishWith(store, lease, 1, { put: [1, 2, 3, 4, 5].map(large), append: appended });
      const found = await store.readState!(key(), ['large-1', 'large-5']);
      assert.deepEqual(
        found.map(valueOf).toSorted((a, b) => (a.slot < b.slot ? -1 : 1)),
        [large(1), large(5)],
      );
      assert.deepEqual(await outputs(store), [0, 1, 2]);
    });

    it('wakes whoever polls the streams that it appends to', async () => {
      const { store } = context;
      const other = await context.another();
      await targets(store);
      await hold(other, key('default', TARGET), 'b');
      const [before] = await other.poll([key('default', TARGET)]);
      await finishWith(store, await hold(store), 1, { append: [output(1)] });
      const [after] = await other.poll([key('default', TARGET)]);
      assert.notEqual(after, before);
    });

    it('fills and empties partitions alike', async () => {
      const { store } = context;
      await partitioned(store, 2, 'default');
      await store.ensureStream(TARGET);
      await store.registerGroup(key('default', TARGET));
      for (const partition of [0, 1]) {
        const lease = await hold(store, key('default', 'flights', partition));
        await finishWith(store, lease, 1, { append: [output(partition)] });
      }
      assert.deepEqual(await outputs(store), [0, 1]);
    });
  });
}

export async function targets(store: StreamStore): Promise<void> {
  await register(store, 'default');
  await store.ensureStream(TARGET);
  await store.registerGroup(key('default', TARGET));
}

export function output(n: number, extra: Partial<NewMessage> = {}): NewMessage {
  return {
    stream: TARGET,
    data: { n },
    created: new Date(NOON),
    dedupeId: `window:${n}:${extra.stream ?? ''}`,
    ...extra,
  };
}

export function commitOf(seq: number, effects: Effects): Commit {
  return { finished: [seq], progress: progress(seq), effects: new Map([[seq, effects]]) };
}

/** Commits and settles a window without messages that is claimed. */
async function finishOpen(store: StreamStore, lease: Lease, seq: number, effects?: Effects): Promise<void> {
  const commit = effects ? commitOf(seq, effects) : { finished: [seq], progress: progress(seq) };
  const groups = await store.commit(lease, commit);
  await store.settle(lease, [{ window: windowOf(seq, []), messages: [] }], { groups, keep: false });
}

/** All that the consumer has, as one window. */
async function finishAll(store: StreamStore, lease: Lease, seq: number, effects?: Effects): Promise<void> {
  const messages = await read(store, lease.key);
  if (!effects) return finish(store, lease, seq, messages);
  const window = windowOf(seq, messages);
  await store.claim(lease, [window]);
  const groups = await store.commit(lease, commitOf(seq, effects));
  await store.settle(lease, [{ window, messages }], { groups, keep: false });
}

export async function rows(store: StreamStore, consumer = key()): Promise<StateRow[]> {
  const found = (await store.readState!(consumer, SLOTS)).map(valueOf);
  return found.toSorted((a, b) => (a.slot < b.slot ? -1 : 1));
}

async function due(store: StreamStore): Promise<StateRow[]> {
  return (await store.dueState!(key(), new Date(NOON), undefined, { rows: 10, bytes: 1000 })).map(valueOf);
}

export async function outputs(store: StreamStore): Promise<unknown[]> {
  return ns(await read(store, key('default', TARGET)));
}
