import assert from 'node:assert/strict';
import type { Lease, StreamStore } from '../../storage/stream-store.interface.js';
import type { ContractContext, TestFunctions } from './context.js';
import {
  acquire,
  append,
  claimAndCommit,
  finish,
  hold,
  ids,
  key,
  NOON,
  numbers,
  plain,
  progress,
  read,
  register,
  windowOf,
  openSeqs,
} from './fixtures.js';

export function recoveryContract({ describe, it }: TestFunctions, context: ContractContext): void {
  describe('claims and recovery', () => {
    it('finds nothing of a consumer that has done nothing', async () => {
      const { store } = context;
      await register(store, 'default');
      const found = await store.recover(await acquire(store));
      assert.deepEqual(found.open, []);
      assert.deepEqual(found.finished, []);
      assert.deepEqual(found.groups, ['default']);
      assert.deepEqual({ ...found.progress }, { lastSeq: 0, windows: 0, messages: 0 });
    });

    it('gives open windows back as they were claimed, by number', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'default');
      await append(store, ...numbers(6));
      const lease = await hold(store);
      const messages = await read(store);
      const windows = [
        windowOf(2, [messages[3]!, messages[1]!], {
          start: new Date(NOON),
          end: new Date(NOON + 1000),
          part: 1,
          late: true,
          nextTry: new Date(NOON + 5),
          error: 'went wrong',
          attempt: 3,
          recoveries: 2,
        }),
        windowOf(1, messages.slice(4), { dropped: true }),
        windowOf(10, [], { key: 'clé\u0000', slots: ['a', '__proto__', '\u{1f6eb}'] }),
        windowOf(11, [], { slots: [] }),
      ];
      await store.claim(lease, windows);
      const { open } = await other.recover(await acquire(other, key(), 'b'));
      assert.deepEqual(plain(open), plain([windows[1], windows[0], windows[2], windows[3]]));
    });

    it('claims many windows at a time', async () => {
      const { store } = context;
      await register(store, 'default');
      await append(store, ...numbers(200));
      const lease = await hold(store);
      const messages = await read(store);
      const windows = Array.from({ length: 20 }, (_, n) => windowOf(n + 1, messages.slice(n * 10, n * 10 + 10)));
      await store.claim(lease, windows);
      await store.claim(lease, []);
      const { open } = await store.recover(lease);
      assert.deepEqual(
        open.map(({ messageIds }) => messageIds),
        windows.map(({ messageIds }) => messageIds),
      );
    });

    it('takes a claim twice', async () => {
      const { store } = context;
      await register(store, 'default');
      await append(store, ...numbers(4));
      const lease = await hold(store);
      const messages = await read(store);
      const windows = [windowOf(1, messages.slice(0, 2)), windowOf(2, messages.slice(2))];
      await store.claim(lease, windows.slice(0, 1));
      await store.claim(lease, windows);
      const { open } = await store.recover(lease);
      assert.deepEqual(plain(open), plain(windows));
    });

    it('lets windows that were claimed together go their own ways', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'default');
      await append(store, ...numbers(7));
      const lease = await hold(store);
      const messages = await read(store);
      const windows = messages.map((message, index) => windowOf(index + 1, [message]));
      await store.claim(lease, windows);
      const openWindows = async () => (await store.stats(['flights']))[0]?.consumers[0]?.openWindows;
      assert.equal(await openWindows(), 7);

      const settled = [1, 4].map((index) => ({ window: windows[index]!, messages: [messages[index]!] }));
      const groups = await store.commit(lease, { finished: [2, 5], progress: progress(5, 2) });
      await store.settle(lease, settled, { groups, keep: false });
      await store.settle(lease, settled, { groups, keep: false });
      const late = { ...windows[2]!, attempt: 3, nextTry: new Date(NOON + 5), error: 'went wrong' };
      await store.reschedule(lease, { ...late, attempt: 2 });
      await store.reschedule(lease, late);
      assert.equal(await openWindows(), 5);

      const taken = await acquire(other, key(), 'b');
      const { open } = await other.recover(taken);
      assert.deepEqual(plain(open), plain([windows[0], late, windows[3], windows[5], windows[6]]));
      const again = { ...windows[5]!, attempt: 2 };
      await other.reschedule(taken, again);
      const left = [windows[0]!, late, windows[3]!, again].map((window) => ({
        window,
        messages: [messages[window.seq - 1]!],
      }));
      await other.commit(taken, { finished: [1, 3, 4, 6], progress: progress(6, 6) });
      await other.settle(taken, left, { groups, keep: false });
      assert.deepEqual(plain((await other.recover(taken)).open), plain([windows[6]]));
      assert.equal(await openWindows(), 1);
      assert.deepEqual(ids(await read(other)), ids(messages.slice(6)));
    });

    it('keeps the windows of consumers apart', async () => {
      const { store } = context;
      await register(store, 'a', 'b');
      await append(store, ...numbers(2));
      const a = await hold(store, key('a'));
      const b = await hold(store, key('b'));
      const messages = await read(store, key('a'));
      await store.claim(a, [windowOf(1, messages.slice(0, 1))]);
      await store.claim(b, [windowOf(1, messages.slice(1), { id: 'other' })]);
      assert.deepEqual(
        (await store.recover(a)).open.map(({ messageIds }) => messageIds),
        [ids(messages.slice(0, 1))],
      );
      assert.deepEqual(
        (await store.recover(b)).open.map(({ id }) => id),
        ['other'],
      );
    });

    it('takes windows of one consumer out, and none of another one that claimed the same numbers', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'a', 'b');
      await append(store, ...numbers(4));
      const [a, b] = [await hold(store, key('a')), await hold(store, key('b'), 'b')];
      const messages = await read(store, key('a'));
      const windows = messages.map((message, index) => windowOf(index + 1, [message]));
      for (const lease of [a, b]) {
        await store.claim(lease, windows.slice(0, 3));
        await store.claim(lease, windows.slice(3));
      }
      const settle = async (by: StreamStore, lease: Lease, seq: number) => {
        const groups = await by.commit(lease, { finished: [seq], progress: progress(seq, 1) });
        const settled = [{ window: windows[seq - 1]!, messages: [messages[seq - 1]!] }];
        await by.settle(lease, settled, { groups, keep: false });
      };
      await settle(store, b, 2);
      assert.deepEqual(
        [await openSeqs(store, a), await openSeqs(store, b)],
        [
          [1, 2, 3, 4],
          [1, 3, 4],
        ],
      );
      // An instance of the store that has not claimed them itself.
      await settle(other, b, 3);
      await settle(other, b, 4);
      assert.deepEqual([await openSeqs(store, a), await openSeqs(store, b)], [[1, 2, 3, 4], [1]]);
      await settle(store, a, 1);
      assert.deepEqual([await openSeqs(store, a), await openSeqs(store, b)], [[2, 3, 4], [1]]);
    });

    it('keeps what a commit without windows says, in addition to open windows', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'default');
      await append(store, ...numbers(2));
      const lease = await hold(store);
      await store.claim(lease, [windowOf(1, await read(store))]);
      const lastEnd = new Date(NOON);
      const starts = [
        { at: new Date(NOON - 2), cost: 1 },
        { at: new Date(NOON - 1), cost: 250 },
      ];
      const groups = await store.commit(lease, { finished: [], progress: { ...progress(0, 0), lastEnd, starts } });
      assert.deepEqual([...groups], ['default']);

      const found = await other.recover(await acquire(other, key(), 'b'));
      assert.deepEqual(
        [found.finished, found.open.map(({ seq }) => seq), { ...found.progress }],
        [[], [1], { lastSeq: 0, windows: 0, messages: 0, lastEnd, starts }],
      );
    });

    it('says what was committed and not settled, and never calls it open', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'default');
      await append(store, ...numbers(6));
      const lease = await hold(store);
      const messages = await read(store);
      const windows = [0, 1, 2].map((n) => windowOf(n + 1, messages.slice(n * 2, n * 2 + 2)));
      await store.claim(lease, windows);
      const lastEnd = new Date(NOON + 1000);
      await store.commit(lease, { finished: [1, 3], progress: { ...progress(3, 4), lastEnd } });

      const taken = await acquire(other, key(), 'b');
      const found = await other.recover(taken);
      assert.deepEqual(found.finished.map(({ seq }) => seq).sort(), [1, 3]);
      assert.deepEqual(
        found.open.map(({ seq }) => seq),
        [2],
      );
      assert.deepEqual({ ...found.progress }, { lastSeq: 3, windows: 3, messages: 4, lastEnd });

      // The recovery's own settle, half-way done before: some messages and windows are gone.
      const settled = found.finished.map((window) => ({
        window,
        messages: messages.filter(({ id }) => window.messageIds.includes(id)),
      }));
      await other.settle(taken, settled.slice(0, 1), { groups: found.groups, keep: false });
      const again = await other.recover(taken);
      assert.deepEqual(
        again.finished.map(({ seq }) => seq),
        [settled[1]!.window.seq],
      );
      await other.settle(taken, settled, { groups: found.groups, keep: false });
      assert.deepEqual((await other.recover(taken)).finished, []);
      assert.deepEqual(ids(await read(other)), ids(messages.slice(2, 4)));
    });

    it('calls windows of an earlier commit open no more when the next commit follows', async () => {
      const { store } = context;
      await register(store, 'default');
      await append(store, ...numbers(3));
      const lease = await hold(store);
      const messages = await read(store);
      for (const seq of [1, 2, 3]) await finish(store, lease, seq, [messages[seq - 1]!]);
      const found = await store.recover(lease);
      assert.deepEqual([found.open, found.finished], [[], []]);
      assert.equal(found.progress.lastSeq, 3);
      assert.deepEqual(await read(store), []);
    });

    it('has no window of a zombie that claims after the adoption', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'default');
      await append(store, ...numbers(4));
      const zombie = await hold(store);
      const messages = await read(store);
      await store.claim(zombie, [windowOf(1, messages.slice(0, 1))]);

      const taken = await hold(other, key(), 'b');
      await other.claim(taken, [windowOf(2, messages.slice(1, 2))]);
      // Either it is told at once, or its window is void.
      await store
        .claim(zombie, [windowOf(3, messages.slice(2)), windowOf(2, messages.slice(2))])
        .catch(() => undefined);
      assert.deepEqual(
        (await other.recover(taken)).open.map(({ seq, messageIds }) => [seq, messageIds]),
        [
          [1, ids(messages.slice(0, 1))],
          [2, ids(messages.slice(1, 2))],
        ],
      );
      const third = await acquire(store, key(), 'c');
      assert.deepEqual(await openSeqs(store, third), [1, 2]);
    });

    it('loses no window when the new holder dies before or after it adopted them', async () => {
      const { store } = context;
      await register(store, 'default');
      await append(store, ...numbers(4));
      const first = await hold(store);
      const messages = await read(store);
      await store.claim(first, [windowOf(1, messages.slice(0, 2))]);
      await acquire(store, key(), 'dies before recover');
      const third = await hold(store, key(), 'dies after recover');
      assert.deepEqual(await openSeqs(store, third), [1]);
      await store.claim(third, [windowOf(2, messages.slice(2))]);
      const last = await acquire(store, key(), 'lives');
      assert.deepEqual(await openSeqs(store, last), [1, 2]);
    });

    it('stores attempt, next try, error and recoveries of an open window', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'default');
      await append(store, ...numbers(2));
      const lease = await hold(store);
      const window = windowOf(1, await read(store));
      await store.claim(lease, [window]);
      const failed = { ...window, attempt: 2, recoveries: 1, nextTry: new Date(NOON + 1000), error: 'Error: no ✈' };
      await store.reschedule(lease, failed);
      await store.reschedule(lease, failed);
      const taken = await acquire(other, key(), 'b');
      assert.deepEqual(plain((await other.recover(taken)).open), plain([failed]));
    });

    it('knows the open windows of a group by their ids', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'default');
      await append(store, ...numbers(4));
      const lease = await hold(store);
      const messages = await read(store);
      const [first, second] = [windowOf(1, messages.slice(0, 2)), windowOf(2, messages.slice(2))];
      assert.equal(await other.findWindow(key(), first.id), undefined);
      await store.claim(lease, [first, second]);
      const found = await Promise.all([first, second].map(({ id }) => other.findWindow(key(), id)));
      assert.deepEqual(plain(found), plain([first, second]));
      const blocked = { ...first, attempt: 2, blockedSinks: ['Ledger', 'Mail'] };
      await store.reschedule(lease, blocked);
      assert.deepEqual(plain(await other.findWindow(key(), first.id)), plain(blocked));
      assert.equal(await other.findWindow(key('another'), first.id), undefined);
      assert.equal(await other.findWindow(key('default', 'another'), first.id), undefined);
      assert.equal(await other.findWindow(key(), 'missing'), undefined);
    });

    it('stores where a window that is taken apart stands, and removes what is absent', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'default');
      await append(store, ...numbers(8));
      const lease = await hold(store);
      const messages = await read(store);
      const stored = async () => plain((await other.recover(lease)).open);
      const fresh = windowOf(1, messages.slice(0, 6), { start: new Date(NOON), part: 2 });
      const failed = { ...fresh, attempt: 5, recoveries: 1, nextTry: new Date(NOON + 1), error: 'Error: no ✈' };
      const split = {
        pending: [
          { from: 0, to: 1 },
          { from: 4, to: 6 },
        ],
        alone: [{ from: 2, to: 3 }],
        again: [
          { from: 1, to: 2 },
          { from: 3, to: 4 },
        ],
        last: true,
      };
      const apart = {
        ...fresh,
        attempt: 6,
        recoveries: 0,
        split,
        aside: new Date(NOON + 2),
        blockedSinks: ['Mail'],
        starts: [{ at: new Date(NOON), cost: 6 }],
      };
      const nothing = { pending: [], alone: [], again: [], last: false };
      const whole = windowOf(2, messages.slice(6), { split: nothing, aside: new Date(NOON + 3) });
      await store.claim(lease, [fresh, whole]);
      await store.reschedule(lease, failed);
      assert.deepEqual(await stored(), plain([failed, whole]));
      await store.reschedule(lease, apart);
      assert.deepEqual(await stored(), plain([apart, whole]));
      const { split: _split, aside: _aside, ...again } = whole;
      const many = Array.from({ length: 5_000 }, (_, index) => ({ from: 2 * index, to: 2 * index + 1 }));
      const later = { ...apart, split: { pending: split.pending.slice(1), alone: [], again: many, last: false } };
      await store.reschedule(lease, later);
      await store.reschedule(lease, again);
      const taken = await acquire(other, key(), 'b');
      assert.deepEqual(plain((await other.recover(taken)).open), plain([later, again]));
    });

    it('does not bring a settled window back by a late reschedule', async () => {
      const { store } = context;
      await register(store, 'default');
      await append(store, ...numbers(2));
      const lease = await hold(store);
      const messages = await read(store);
      const { window, groups } = await claimAndCommit(store, lease, 1, messages);
      await store.settle(lease, [{ window, messages }], { groups, keep: false });
      await store.reschedule(lease, { ...window, attempt: 2 }).catch(() => undefined);
      assert.deepEqual((await store.recover(lease)).open, []);
      const { open, finished } = await store.recover(await acquire(store, key(), 'b'));
      assert.deepEqual([open, finished], [[], []], 'and the next holder does not find it either');
      assert.equal((await store.stats([key().stream]))[0]?.consumers[0]?.openWindows, 0);
    });
  });
}
