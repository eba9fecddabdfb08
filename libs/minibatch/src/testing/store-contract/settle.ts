import assert from 'node:assert/strict';
import { ErrorCode } from '../../errors/minibatch.error.js';
import type { ContractContext, TestFunctions } from './context.js';
import {
  ALL,
  append,
  bury,
  claimAndCommit,
  die,
  finish,
  hold,
  ids,
  key,
  message,
  ns,
  numbers,
  progress,
  read,
  register,
  rejectsWith,
  STREAM,
  windowOf,
  readAllWindows,
} from './fixtures.js';

export function settleContract({ describe, it }: TestFunctions, context: ContractContext): void {
  describe('commit and settle', () => {
    it('returns the groups, those that another process registered meanwhile too', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'default');
      const lease = await hold(store);
      const commit = { finished: [], progress: progress(0) };
      assert.deepEqual(await store.commit(lease, commit), ['default']);
      await other.registerGroup(key('late'));
      assert.deepEqual([...(await store.commit(lease, commit))].sort(), ['default', 'late']);
      await other.removeGroup(STREAM, 'late');
      assert.deepEqual(await store.commit(lease, commit), ['default']);
    });

    it('says how often consumers were asked for something, from any process, if it can', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'default');
      const lease = await hold(store);
      const atCommit = async () => {
        const counts: number[] = [];
        await store.commit(lease, { finished: [], progress: progress(0) }, (count) => counts.push(count));
        return counts;
      };
      const before = await atCommit();
      if (before.length === 0) return;
      assert.deepEqual(before, [0]);
      const request = { group: 'default', window: 'window-1', action: 'giveUp' } as const;
      const changes = [{ paused: true }, { paused: false }, { flush: true }, { clear: true }, { request }] as const;
      for (const [n, change] of changes.entries()) {
        const { asked } = await other.updateStream(STREAM, change);
        assert.deepEqual([asked, ...(await atCommit())], [n + 1, n + 1], JSON.stringify(change));
      }
      // What nobody has to carry out does not count.
      await other.updateStream(STREAM, { answered: request });
      assert.deepEqual(await atCommit(), [changes.length]);
      assert.equal((await store.describeStream(STREAM))?.asked, changes.length);
    });

    it('renews the lease', async () => {
      const { store } = context;
      await register(store, 'default');
      const lease = await hold(store);
      const [before] = await store.readLeases([key()]);
      await store.commit(lease, { finished: [], progress: progress(0) });
      const [after] = await store.readLeases([key()]);
      assert.ok(after!.counter > before!.counter);
      assert.equal(after!.fence, before!.fence);
    });

    it('takes messages out of the buffer by ids, and nothing between them', async () => {
      const { store } = context;
      await register(store, 'default');
      await append(store, ...numbers(6));
      const lease = await hold(store);
      const messages = await read(store);
      await finish(store, lease, 1, [messages[0]!, messages[4]!]);
      assert.deepEqual(ns(await read(store)), [1, 2, 3, 5]);
      const { open, finished } = await store.recover(lease);
      assert.deepEqual([open, finished], [[], []]);
    });

    it('settles many windows, empty ones among them', async () => {
      const { store } = context;
      await register(store, 'default');
      await append(store, ...numbers(100));
      const lease = await hold(store);
      const messages = await read(store);
      const settled = Array.from({ length: 10 }, (_, n) => {
        const part = messages.slice(n * 10, n * 10 + 10);
        return { window: windowOf(n + 1, part), messages: part };
      });
      settled.push({ window: windowOf(11, []), messages: [] });
      const windows = settled.map(({ window }) => window);
      await store.claim(lease, windows);
      const finished = windows.map(({ seq }) => seq);
      const groups = await store.commit(lease, { finished, progress: progress(11, 100) });
      await store.settle(lease, settled, { groups, keep: false });
      assert.deepEqual(await read(store), []);
      const [stats] = await store.stats([STREAM]);
      assert.equal(stats?.buffered, 0);
      assert.equal(stats?.consumers[0]?.openWindows, 0);
      assert.equal(stats?.consumers[0]?.pending, 0);
    });

    it('takes commit and settle twice', async () => {
      const { store } = context;
      await register(store, 'a', 'b');
      await append(store, ...numbers(4), message({ n: 4 }, { dedupeId: 'x' }));
      for (const group of ['a', 'b']) {
        const lease = await hold(store, key(group), group);
        const messages = await read(store, key(group));
        const window = windowOf(1, messages);
        const commit = { finished: [1], progress: progress(1, 5) };
        await store.claim(lease, [window]);
        await store.commit(lease, commit);
        const groups = await store.commit(lease, commit);
        const settled = [{ window, messages }];
        await store.settle(lease, settled, { groups, keep: false });
        await store.settle(lease, settled, { groups, keep: false });
        const { progress: recorded, open, finished } = await store.recover(lease);
        assert.deepEqual({ ...recorded }, { lastSeq: 1, windows: 1, messages: 5 });
        assert.deepEqual([open, finished], [[], []]);
      }
      const [stats] = await store.stats([STREAM]);
      assert.equal(stats?.buffered, 0);
      assert.deepEqual(
        stats?.consumers.map(({ pending }) => pending),
        [0, 0],
      );
      await append(store, ...numbers(3));
      const [later] = await store.stats([STREAM]);
      assert.equal(later?.buffered, 3);
      assert.deepEqual(
        later?.consumers.map(({ pending }) => pending),
        [3, 3],
      );
    });

    it('removes nothing when the lease is lost', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'default');
      await append(store, ...numbers(2));
      const lease = await hold(store);
      const messages = await read(store);
      await store.claim(lease, [windowOf(1, messages)]);
      await hold(other, key(), 'b');
      await rejectsWith(ErrorCode.LeaseLost, store.commit(lease, { finished: [1], progress: progress(1, 2) }));
      assert.equal((await read(store)).length, 2);
    });

    for (const order of [
      ['a', 'b'],
      ['b', 'a'],
    ] as const) {
      it(`removes a message with the last of two groups: ${order.join(', then ')}`, async () => {
        const { store } = context;
        await register(store, 'a', 'b');
        const all = await append(store, ...numbers(3), message({ n: 3 }, { dedupeId: 'x' }));
        const [first, second] = order;
        const lease = await hold(store, key(first));
        await finish(store, lease, 1, await read(store, key(first)));
        assert.deepEqual(await read(store, key(first)), []);
        assert.deepEqual(await store.scan(key(first), undefined, undefined, 10), []);
        assert.deepEqual(await store.load(key(first), all), []);
        assert.deepEqual(ids(await store.load(key(second), all)), all);
        let [stats] = await store.stats([STREAM]);
        assert.equal(stats?.buffered, 4);
        assert.equal(stats?.consumers.find(({ group }) => group === first)?.pending, 0);
        assert.equal(stats?.consumers.find(({ group }) => group === second)?.pending, 4);

        const other = await hold(store, key(second));
        const messages = await read(store, key(second));
        await finish(store, other, 1, messages.slice(0, 1));
        assert.equal((await store.stats([STREAM]))[0]?.buffered, 3);
        await finish(store, other, 2, messages.slice(1));
        [stats] = await store.stats([STREAM]);
        assert.equal(stats?.buffered, 0);
        assert.deepEqual(
          stats?.consumers.map(({ pending }) => pending),
          [0, 0],
        );
        assert.equal((await store.append([message({}, { dedupeId: 'x' })]))[0]?.status, 'duplicate');
      });
    }

    it('interleaves two groups that each take other windows', async () => {
      const { store } = context;
      await register(store, 'a', 'b');
      await append(store, ...numbers(20));
      const a = await hold(store, key('a'));
      const b = await hold(store, key('b'));
      // Seven windows of three for one group, five of four for the other, and the look that finds both at their end.
      const most = 8;
      let seq = 1;
      for (; seq <= most; seq += 1) {
        const forA = (await store.fetch(key('a'), undefined, { ...ALL, messages: 3 })).messages;
        const forB = (await read(store, key('b'))).slice(-4);
        if (forA.length === 0 && forB.length === 0) break;
        await finish(store, a, seq, forA);
        await finish(store, b, seq, forB);
      }
      assert.ok(
        seq <= most,
        `fetch still shows messages after ${most} rounds: what was settled has to leave its group`,
      );
      assert.equal(seq, most);
      const [stats] = await store.stats([STREAM]);
      assert.equal(stats?.buffered, 0);
      assert.deepEqual(
        stats?.consumers.map(({ pending }) => pending),
        [0, 0],
      );
      await append(store, message({ n: 20 }));
      assert.deepEqual(ns(await read(store, key('a'))), [20]);
      assert.deepEqual(ns(await read(store, key('b'))), [20]);
    });

    it('keeps what is to be kept, out of sight, until it is swept', async () => {
      const { store } = context;
      await store.ensureStream(STREAM);
      await store.registerGroup(key(), { timeOrder: true });
      const all = await append(store, ...numbers(3));
      const lease = await hold(store);
      const before = new Date(Date.now() - 60_000);
      await finish(store, lease, 1, (await read(store)).slice(0, 2), { keep: true });
      assert.deepEqual(ids(await read(store)), all.slice(2));
      assert.deepEqual(await store.scan(key(), undefined, undefined, 10), all.slice(2));
      assert.deepEqual(ids((await store.fetchByTime(key(), {}, undefined, ALL)).messages), all.slice(2));
      assert.deepEqual(ids(await store.load(key(), all)), all.slice(2));
      const { open, finished } = await store.recover(lease);
      assert.deepEqual([open, finished], [[], []]);
      const [stats] = await store.stats([STREAM]);
      assert.equal(stats?.buffered, 1);
      assert.equal(stats?.consumers[0]?.pending, 1);
      assert.equal(stats?.consumers[0]?.openWindows, 0);

      assert.deepEqual(await store.sweep(STREAM, { kept: before }), { tombstones: 0, messages: 0, windows: 0 });
      const later = new Date(Date.now() + 60_000);
      assert.deepEqual(await store.sweep(STREAM, { tombstones: later }), { tombstones: 0, messages: 0, windows: 0 });
      assert.deepEqual(await store.sweep(STREAM, { kept: later }), { tombstones: 0, messages: 2, windows: 1 });
      assert.deepEqual(await store.sweep(STREAM, { kept: later }), { tombstones: 0, messages: 0, windows: 0 });
      assert.deepEqual(ids(await read(store)), all.slice(2));
    });

    it('keeps each window and message once when the settle is repeated', async () => {
      const { store } = context;
      await register(store, 'default', 'b');
      await append(store, ...numbers(2), message({ n: 2 }, { dedupeId: 'd' }));
      for (const group of ['default', 'b']) {
        const lease = await hold(store, key(group), group);
        const messages = await read(store, key(group));
        const { window, groups } = await claimAndCommit(store, lease, 1, messages);
        const settle = () => store.settle(lease, [{ window, messages }], { groups, keep: true });
        await settle();
        await settle();
        if (store.readWindows) {
          const windows = await readAllWindows(store, 'kept', key(group));
          assert.deepEqual(
            windows.map(({ id, messageIds }) => [id, messageIds]),
            [[window.id, window.messageIds]],
          );
        }
      }
      assert.equal((await store.stats([STREAM]))[0]?.buffered, 0);
      const later = new Date(Date.now() + 60_000);
      assert.deepEqual(await store.sweep(STREAM, { kept: later }), { tombstones: 0, messages: 3, windows: 2 });
    });

    for (const late of ['before', 'after'] as const) {
      it(`keeps a window once if a former holder settles it, too, ${late} the new one`, async () => {
        const { store } = context;
        const other = await context.another();
        await register(store, 'default');
        await append(store, ...numbers(3));
        const former = await hold(store);
        const messages = await read(store);
        const settled = messages.map((each, n) => ({ window: windowOf(n + 1, [each]), messages: [each] }));
        await store.claim(
          former,
          settled.map(({ window }) => window),
        );
        const groups = await store.commit(former, { finished: [1, 2], progress: progress(2, 2) });
        const holder = await hold(other, key(), 'b');
        const committed = settled.slice(0, 2);
        // A store that checks the lease refuses it.
        const settleLate = () =>
          store.settle(former, committed, { groups, keep: true }).catch((error: unknown) => {
            assert.equal((error as { code?: unknown }).code, ErrorCode.LeaseLost);
          });
        if (late === 'before') await settleLate();
        await other.settle(holder, committed, { groups, keep: true });
        if (late === 'after') await settleLate();
        const { open, finished } = await other.recover(holder);
        assert.deepEqual([open.map(({ seq }) => seq), finished], [[3], []]);
        if (store.readWindows) {
          const kept = await readAllWindows(store, 'kept');
          assert.deepEqual(
            kept.map(({ id, messageIds }) => [id, messageIds]),
            committed.map(({ window }) => [window.id, window.messageIds]),
          );
        }
        const later = new Date(Date.now() + 60_000);
        assert.deepEqual(await store.sweep(STREAM, { kept: later }), { tombstones: 0, messages: 2, windows: 2 });
      });
    }

    it('keeps what a group has kept, also if the group is removed before the others are through', async () => {
      const { store } = context;
      await register(store, 'default', 'other');
      await append(store, ...numbers(4));
      const messages = await read(store);
      const other = await hold(store, key('other'));
      await finish(store, await hold(store), 1, messages.slice(0, 2), { keep: true });
      await finish(store, other, 1, messages.slice(1, 3));
      await store.removeGroup(STREAM, 'default');
      // The third one waited for the removed group alone.
      assert.deepEqual(ns(await read(store, key('other'))), [0, 3]);
      // In its next life the group has committed nothing, and keeps nothing.
      await register(store, 'default');
      assert.deepEqual(ns(await read(store)), [0, 3]);
      await finish(store, other, 2, await read(store, key('other')));
      await finish(store, await hold(store), 1, await read(store));
      assert.equal((await store.stats([STREAM]))[0]?.buffered, 0);
      const later = new Date(Date.now() + 60_000);
      assert.deepEqual(await store.sweep(STREAM, { kept: later }), { tombstones: 0, messages: 2, windows: 1 });
    });

    it('keeps a redriven message for the groups that commit it, not for those that had it before', async () => {
      const { store } = context;
      await register(store, 'keeps', 'fails');
      const keeps = await hold(store, key('keeps'));
      const fails = await hold(store, key('fails'), 'b');
      const later = new Date(Date.now() + 60_000);
      const sweptMessages = async () => (await store.sweep(STREAM, { kept: later })).messages;
      // The keeper commits before the redrive, then after it; a group that is registered while the message waits commits it, too.
      for (const [seq, commitsFirst, newGroup] of [
        [1, true, undefined],
        [2, false, undefined],
        [3, true, { keep: false }],
        [4, true, { keep: true }],
      ] as const) {
        await append(store, ...numbers(3));
        const messages = await read(store, key('fails'));
        const commit = () => finish(store, keeps, seq, messages, { keep: true });
        if (commitsFirst) await commit();
        await bury(store, fails, messages.slice(1, 2));
        await finish(store, fails, seq * 2, messages);
        assert.equal(await store.redrive(STREAM, {}), 1);
        if (!commitsFirst) await commit();
        const group = `new ${seq}`;
        if (newGroup) {
          await store.registerGroup(key(group));
          const lease = await hold(store, key(group), group);
          await finish(store, lease, 1, await read(store, key(group)), newGroup);
        }
        const back = await read(store, key('fails'));
        assert.deepEqual(ns(back), [1]);
        await finish(store, fails, seq * 2 + 1, back);
        assert.equal((await store.stats([STREAM]))[0]?.buffered, 0);
        assert.equal(await sweptMessages(), newGroup?.keep ? 4 : 3, `round ${seq}`);
        if (newGroup) await store.removeGroup(STREAM, group);
      }
      // Its own group keeps it, also if it has not kept the message that died.
      await append(store, ...numbers(1));
      const messages = await read(store, key('fails'));
      await die(store, fails, 10, messages);
      await store.redrive(STREAM, {});
      await finish(store, fails, 11, await read(store, key('fails')), { keep: true });
      assert.equal(await sweptMessages(), 1);
      await finish(store, keeps, 5, await read(store, key('keeps')), { keep: true });
      assert.equal(await sweptMessages(), 1);
    });

    it('keeps nothing for removed groups but what they asked to keep', async () => {
      const { store } = context;
      await register(store, 'plain', 'keeps', 'last');
      await append(store, ...numbers(4));
      const [plain, keeper, last] = [
        await hold(store, key('plain')),
        await hold(store, key('keeps'), 'b'),
        await hold(store, key('last'), 'c'),
      ];
      const messages = await read(store, key('last'));
      await finish(store, plain, 1, messages.slice(0, 3));
      await finish(store, keeper, 1, messages.slice(2), { keep: true });
      await store.removeGroup(STREAM, 'plain');
      await store.removeGroup(STREAM, 'keeps');
      await finish(store, last, 1, messages);
      assert.equal((await store.stats([STREAM]))[0]?.buffered, 0);
      const { messages: kept } = await store.sweep(STREAM, { kept: new Date(Date.now() + 60_000) });
      assert.equal(kept, 2);
    });

    it('keeps what a removed group has kept when the last group reads it later, and nothing else', async () => {
      const { store } = context;
      await register(store, 'keeps', 'last');
      await append(store, ...numbers(3));
      const keeper = await hold(store, key('keeps'));
      await finish(store, keeper, 1, (await read(store, key('keeps'))).slice(1, 2), { keep: true });
      await store.removeGroup(STREAM, 'keeps');
      await finish(store, await hold(store, key('last'), 'b'), 1, await read(store, key('last')));
      assert.equal((await store.stats([STREAM]))[0]?.buffered, 0);
      const { messages: kept } = await store.sweep(STREAM, { kept: new Date(Date.now() + 60_000) });
      assert.equal(kept, 1);
    });

    it('lets messages leave with the last of several groups, each of which has read what those before it did', async () => {
      const { store } = context;
      const groups = ['a', 'b', 'c', 'd'];
      await register(store, ...groups);
      await append(store, ...numbers(2));
      for (const group of groups) {
        assert.equal((await store.stats([STREAM]))[0]?.buffered, 2);
        const messages = await read(store, key(group));
        assert.deepEqual(ns(messages), [0, 1], group);
        await finish(store, await hold(store, key(group), group), 1, messages);
      }
      assert.equal((await store.stats([STREAM]))[0]?.buffered, 0);
    });

    it('keeps a redriven message for its own group, also if another one commits it last', async () => {
      const { store } = context;
      await register(store, 'default', 'had');
      await append(store, ...numbers(2));
      const lease = await hold(store);
      const messages = await read(store);
      await finish(store, await hold(store, key('had'), 'h'), 1, await read(store, key('had')));
      await bury(store, lease, messages.slice(0, 1));
      await finish(store, lease, 1, messages);
      assert.equal((await store.stats([STREAM]))[0]?.buffered, 0);
      assert.equal(await store.redrive(STREAM, {}), 1);
      await store.registerGroup(key('later'));
      await finish(store, lease, 2, await read(store), { keep: true });
      assert.equal((await store.stats([STREAM]))[0]?.buffered, 1);
      await finish(store, await hold(store, key('later'), 'b'), 1, await read(store, key('later')));
      assert.equal((await store.stats([STREAM]))[0]?.buffered, 0);
      const { messages: kept } = await store.sweep(STREAM, { kept: new Date(Date.now() + 60_000) });
      assert.equal(kept, 1);
    });

    it('keeps what a removed group has kept, also for groups that had read it before', async () => {
      const { store } = context;
      await register(store, 'keeps', 'b', 'c');
      await append(store, ...numbers(3), message({ n: 3 }, { dedupeId: 'd' }));
      const [keeper, b, c] = [
        await hold(store, key('keeps')),
        await hold(store, key('b')),
        await hold(store, key('c')),
      ];
      const [forB, forC] = [await read(store, key('b')), await read(store, key('c'))];
      await finish(store, keeper, 1, (await read(store, key('keeps'))).slice(1), { keep: true });
      await store.removeGroup(STREAM, 'keeps');
      await finish(store, b, 1, forB.slice(0, 2));
      await finish(store, c, 1, forC);
      // By now nobody else is left to wait for them.
      await store.removeGroup(STREAM, 'c');
      await finish(store, b, 2, forB.slice(2));
      assert.equal((await store.stats([STREAM]))[0]?.buffered, 0);
      const later = new Date(Date.now() + 60_000);
      assert.equal((await store.sweep(STREAM, { kept: later })).messages, 3);
    });

    it('keeps what a group has kept when another repeats its settle', async () => {
      const { store } = context;
      await register(store, 'keeps', 'other');
      await append(store, ...numbers(2), message({ n: 2 }, { dedupeId: 'd' }));
      const [keeper, other] = [await hold(store, key('keeps')), await hold(store, key('other'))];
      const messages = await read(store, key('other'));
      const kept = await read(store, key('keeps'));
      const { window, groups } = await claimAndCommit(store, other, 1, messages);
      const settle = () => store.settle(other, [{ window, messages }], { groups, keep: false });
      await settle();
      await finish(store, keeper, 1, kept, { keep: true });
      await settle();
      if (store.readKept) {
        const block = await store.readKept(STREAM, undefined, ALL);
        assert.deepEqual(ids(block.messages), ids(messages));
      }
      const later = new Date(Date.now() + 60_000);
      assert.equal((await store.sweep(STREAM, { kept: later })).messages, 3);
    });

    it('settles windows whose messages are gone', async () => {
      const { store } = context;
      await register(store, 'default');
      await append(store, ...numbers(2));
      const lease = await hold(store);
      const messages = await read(store);
      const { window, groups } = await claimAndCommit(store, lease, 1, messages);
      await store.settle(lease, [{ window, messages: [] }], { groups, keep: false });
      const { open, finished } = await store.recover(lease);
      assert.deepEqual([open, finished], [[], []]);
      assert.equal((await read(store)).length, 2);
    });
  });
}
