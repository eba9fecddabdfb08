import assert from 'node:assert/strict';
import type { ContractContext, TestFunctions } from './context.js';
import {
  ALL,
  append,
  claimAndCommit,
  finish,
  hold,
  HOSTILE_NAMES,
  ids,
  key,
  message,
  NOON,
  ns,
  numbers,
  plain,
  progress,
  read,
  readAllKept,
  readAllWindows,
  register,
  STREAM,
  windowOf,
} from './fixtures.js';

/** What a store may leave out. One that has it keeps these promises. */
export function windowsContract({ describe, it }: TestFunctions, context: ContractContext): void {
  describe('reading kept messages', () => {
    it('returns them in the order of their ids, whatever the order of their commits', async () => {
      const { store } = context;
      if (!store.readKept) return;
      const other = await context.another();
      await register(store, 'default');
      const all = await append(store, ...numbers(8));
      const lease = await hold(store);
      const messages = await read(store);
      await finish(store, lease, 1, messages.slice(4, 6), { keep: true, at: new Date(NOON) });
      await finish(store, lease, 2, messages.slice(0, 2), { keep: true, at: new Date(NOON + 10) });
      await finish(store, lease, 3, messages.slice(2, 4), { keep: false, at: new Date(NOON) });
      await finish(store, lease, 4, messages.slice(6, 7), { keep: true, at: new Date(NOON - 10) });
      for (const each of [store, other]) assert.deepEqual(ns(await readAllKept(each)), [0, 1, 4, 5, 6]);
      assert.deepEqual(ids(await readAllKept(other)), [all[0], all[1], all[4], all[5], all[6]]);
      // The last one waits.
      assert.deepEqual(ids(await read(store)), all.slice(7));
    });

    it('returns what was appended', async () => {
      const { store } = context;
      if (!store.readKept) return;
      await register(store, 'default');
      const created = new Date(NOON - 5);
      await append(
        store,
        message({ n: 1n, list: [1.5, null] }, { key: 'k', headers: { h: 'v ✈' }, created, dedupeId: 'd' }),
        message('text'),
      );
      const before = (await read(store)).map((each) => each.read());
      await finish(store, await hold(store), 1, await read(store), { keep: true });
      const after = await readAllKept(store);
      assert.deepEqual(
        after.map((each) => each.read()),
        before,
      );
      assert.ok(after.every(({ bytes }) => bytes > 0));
      // It is remembered as long as it is there.
      assert.equal((await store.append([message({}, { dedupeId: 'd' })]))[0]?.status, 'duplicate');
    });

    it('resumes after an id, and ends at its limits', async () => {
      const { store } = context;
      if (!store.readKept) return;
      await register(store, 'default');
      const all = await append(store, ...numbers(7));
      await finish(store, await hold(store), 1, await read(store), { keep: true });
      const first = await store.readKept(STREAM, undefined, { ...ALL, messages: 3 });
      assert.deepEqual([ns(first.messages), first.full], [[0, 1, 2], true]);
      const second = await store.readKept(STREAM, all[2], { messages: 10, bytes: 1 });
      assert.deepEqual([ns(second.messages), second.full], [[3], true]);
      const last = await store.readKept(STREAM, all[3], ALL);
      assert.deepEqual([ns(last.messages), last.full], [[4, 5, 6], false]);
      assert.deepEqual(await store.readKept(STREAM, all[6], ALL), { messages: [], full: false });
    });

    it('has a message of several groups when the last of them has committed it', async () => {
      const { store } = context;
      if (!store.readKept) return;
      await register(store, 'keeps', 'other');
      await append(store, ...numbers(2));
      await finish(store, await hold(store, key('keeps')), 1, await read(store, key('keeps')), { keep: true });
      assert.deepEqual(await readAllKept(store), []);
      await finish(store, await hold(store, key('other')), 1, (await read(store, key('other'))).slice(0, 1));
      assert.deepEqual(ns(await readAllKept(store)), [0]);
    });

    it('has nothing that was swept or dropped, and nothing where there is nothing', async () => {
      const { store } = context;
      if (!store.readKept) return;
      assert.deepEqual(await readAllKept(store), []);
      await register(store, 'default');
      assert.deepEqual(await readAllKept(store), []);
      await append(store, ...numbers(2), message({ n: 2 }, { dedupeId: 'd' }), message({ n: 3 }));
      const lease = await hold(store);
      const messages = await read(store);
      await finish(store, lease, 1, messages.slice(0, 3), { keep: true, at: new Date(NOON) });
      await finish(store, lease, 2, messages.slice(3), { keep: true, at: new Date(NOON + 10) });
      await store.sweep(STREAM, { kept: new Date(NOON + 10) });
      assert.deepEqual(ns(await readAllKept(store)), [3]);
      await store.dropStream(STREAM);
      assert.deepEqual(await readAllKept(store), []);
      await register(store, 'default');
      assert.deepEqual(await readAllKept(store), []);
    });

    it('takes any name', async () => {
      const { store } = context;
      if (!store.readKept) return;
      for (const name of HOSTILE_NAMES) {
        const consumer = key(name, name);
        await store.ensureStream(name);
        await store.registerGroup(consumer);
        await append(store, message({ name }, { stream: name }));
        await finish(store, await hold(store, consumer), 1, await read(store, consumer), { keep: true });
      }
      for (const name of HOSTILE_NAMES) {
        assert.deepEqual(
          (await readAllKept(store, name)).map(({ data }) => data),
          [{ name }],
        );
        const [window] = await readAllWindows(store, 'kept', key(name, name));
        assert.equal(window?.id, 'window-1');
      }
    });
  });

  describe('reading windows', () => {
    it('returns the claimed ones in order, with everything known about them', async () => {
      const { store } = context;
      if (!store.readWindows) return;
      const other = await context.another();
      await register(store, 'default', 'other');
      await append(store, ...numbers(7));
      const lease = await hold(store);
      const messages = await read(store);
      const bounds = { start: new Date(NOON), end: new Date(NOON + 10), part: 1, late: true };
      const windows = [
        windowOf(1, messages.slice(0, 2)),
        windowOf(2, messages.slice(2, 4), bounds),
        windowOf(3, messages.slice(4, 6)),
        windowOf(10, messages.slice(6), { dropped: true }),
      ];
      await store.claim(lease, windows);
      const failed = {
        ...windows[2]!,
        attempt: 3,
        recoveries: 1,
        error: 'no ✈',
        nextTry: new Date(NOON + 5),
        aside: new Date(NOON + 4),
        blockedSinks: ['Ledger'],
      };
      await store.reschedule(lease, failed);
      for (const each of [store, other]) {
        const found = await readAllWindows(each, 'claimed');
        assert.deepEqual(
          found.map(plain),
          [windows[0], windows[1], failed, windows[3]].map((window) => plain(window!)),
        );
        assert.deepEqual(await readAllWindows(each, 'claimed', key('other')), []);
        assert.deepEqual(await readAllWindows(each, 'kept'), []);
      }
    });

    it('tells which are committed, until they have left', async () => {
      const { store } = context;
      if (!store.readWindows) return;
      await register(store, 'default');
      await append(store, ...numbers(4));
      const lease = await hold(store);
      const messages = await read(store);
      await store.claim(lease, [windowOf(2, messages.slice(2))]);
      const { window, groups } = await claimAndCommit(store, lease, 1, messages.slice(0, 2));
      const finished = async () =>
        (await readAllWindows(store, 'claimed')).map((each) => [each.seq, each.finished ?? false]);
      assert.deepEqual(await finished(), [
        [1, true],
        [2, false],
      ]);
      await store.settle(lease, [{ window, messages: messages.slice(0, 2) }], { groups, keep: false });
      assert.deepEqual(await finished(), [[2, false]]);
    });

    it('returns each of the kept ones once, page by page', async () => {
      const { store } = context;
      if (!store.readWindows) return;
      await register(store, 'default', 'other');
      await append(store, ...numbers(25));
      for (const group of ['default', 'other']) {
        const lease = await hold(store, key(group), group);
        const messages = await read(store, key(group));
        const windows = messages.map((each, n) => windowOf(n + 1, [each]));
        await store.claim(lease, windows);
        const seqs = windows.map(({ seq }) => seq);
        const groups = await store.commit(lease, { finished: seqs, progress: progress(25, 25) });
        const settled = windows.map((window, n) => ({ window, messages: messages.slice(n, n + 1) }));
        await store.settle(lease, settled, { groups, keep: true, at: new Date(NOON) });
      }
      const found = await readAllWindows(store, 'kept', key(), 4);
      assert.deepEqual(
        found.map(({ seq }) => seq),
        Array.from({ length: 25 }, (_, n) => n + 1),
      );
      assert.ok(found.every(({ messageIds, settled }) => messageIds.length === 1 && settled?.getTime() === NOON));
      assert.deepEqual(await readAllWindows(store, 'claimed'), []);
      await store.sweep(STREAM, { kept: new Date(NOON + 1) });
      assert.deepEqual(await readAllWindows(store, 'kept', key(), 4), []);
    });

    it('returns the kept ones of a group that was replaced under the new name', async () => {
      const { store } = context;
      if (!store.readWindows) return;
      const other = await context.another();
      await register(store, 'old');
      await append(store, ...numbers(4));
      const lease = await hold(store, key('old'));
      const messages = await read(store, key('old'));
      for (const n of [0, 1, 2]) await finish(store, lease, n + 1, messages.slice(n, n + 1), { keep: true });
      await store.registerGroup(key('new'), { replaces: 'old' });
      await store.registerGroup(key('new'), { replaces: 'old' });
      assert.deepEqual(await readAllWindows(other, 'kept', key('old'), 2), []);
      const seqs = async () => (await readAllWindows(store, 'kept', key('new'), 2)).map(({ seq }) => seq);
      assert.deepEqual(await seqs(), [1, 2, 3]);
      await finish(store, await hold(store, key('new'), 'b'), 4, messages.slice(3), { keep: true });
      assert.deepEqual(await seqs(), [1, 2, 3, 4]);
      await store.sweep(STREAM, { kept: new Date(Date.now() + 60_000) });
      assert.deepEqual(await seqs(), []);
    });

    it('returns none of a group that was removed, nor of a later group of its name, and sweeps them', async () => {
      const { store } = context;
      if (!store.readWindows) return;
      const other = await context.another();
      const kept = async () => {
        const found = await Promise.all([store, other].map((each) => readAllWindows(each, 'kept', key('gone'))));
        return found.map((windows) => windows.map(({ messageIds }) => messageIds.length));
      };
      await register(store, 'gone', 'default');
      await append(store, ...numbers(6));
      const messages = await read(store, key('gone'));
      const settled = { keep: true, at: new Date(NOON) };
      await finish(store, await hold(store, key('gone')), 1, messages.slice(0, 2), settled);
      await finish(store, await hold(store), 1, await read(store), settled);
      assert.deepEqual(await kept(), [[2], [2]]);

      await store.removeGroup(STREAM, 'gone');
      assert.deepEqual(await kept(), [[], []]);
      await register(store, 'gone');
      assert.deepEqual(await kept(), [[], []]);
      await append(store, ...numbers(3));
      await finish(store, await hold(store, key('gone'), 'later'), 1, await read(store, key('gone')), settled);
      assert.deepEqual(await kept(), [[3], [3]]);

      assert.equal((await readAllWindows(store, 'kept')).length, 1);
      assert.equal((await store.sweep(STREAM, { kept: new Date(NOON + 1) })).windows, 3);
      assert.deepEqual(await kept(), [[], []]);
    });

    it('has nothing where there is nothing', async () => {
      const { store } = context;
      if (!store.readWindows) return;
      for (const name of ['missing', STREAM]) {
        assert.deepEqual(await readAllWindows(store, 'claimed', key('default', name)), []);
        assert.deepEqual(await readAllWindows(store, 'kept', key('default', name)), []);
        await register(store, 'default');
      }
      assert.equal(await store.describeStream('missing'), undefined);
    });

    it('changes nothing', async () => {
      const { store } = context;
      if (!store.readWindows || !store.readKept) return;
      const other = await context.another();
      await register(store, 'default');
      await append(store, ...numbers(4));
      const lease = await hold(store);
      const messages = await read(store);
      await finish(store, lease, 1, messages.slice(0, 2), { keep: true });
      await store.claim(lease, [windowOf(2, messages.slice(2))]);
      const state = async () => ({
        leases: await store.readLeases([key()]),
        tokens: await store.poll([key()]),
        stats: await store.stats([STREAM]),
      });
      const before = await state();
      for (const wanted of ['claimed', 'kept'] as const) await readAllWindows(other, wanted);
      await readAllKept(other);
      assert.deepEqual(await state(), before);
      const { open } = await store.recover(lease);
      assert.deepEqual(
        open.map(({ seq }) => seq),
        [2],
      );
    });

    it('knows the ids of its messages', async () => {
      const { store } = context;
      if (!store.idPattern) return;
      await store.ensureStream(STREAM);
      const [id] = await append(store, message({}));
      assert.match(id!, store.idPattern);
      for (const text of ['', 'x', `${id}0`, `${id}`.slice(1), `${'z'.repeat(id!.length)}`]) {
        assert.doesNotMatch(text, store.idPattern);
      }
    });
  });
}
