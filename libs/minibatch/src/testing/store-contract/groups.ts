import assert from 'node:assert/strict';
import { ErrorCode } from '../../errors/minibatch.error.js';
import type { ContractContext, TestFunctions } from './context.js';
import {
  append,
  claimAndCommit,
  finish,
  hold,
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
} from './fixtures.js';

export function groupsContract({ describe, it }: TestFunctions, context: ContractContext): void {
  describe('groups', () => {
    it('registers a group once', async () => {
      const { store } = context;
      const other = await context.another();
      await store.ensureStream(STREAM);
      await Promise.all([store, other, store].map((each) => each.registerGroup(key('a'))));
      await other.registerGroup(key('b'));
      assert.deepEqual([...((await store.describeStream(STREAM))?.groups ?? [])].sort(), ['a', 'b']);
    });

    it('keeps progress, windows and lease of a group that registers again', async () => {
      const { store } = context;
      await register(store, 'default');
      await append(store, ...numbers(3));
      const lease = await hold(store);
      const messages = await read(store);
      await finish(store, lease, 1, messages.slice(0, 1));
      await store.claim(lease, [windowOf(2, messages.slice(1))]);
      await store.registerGroup(key());
      const { progress, open } = await store.recover(lease);
      assert.equal(progress.lastSeq, 1);
      assert.deepEqual(
        open.map(({ seq }) => seq),
        [2],
      );
    });

    it('shows every message to every group', async () => {
      const { store } = context;
      await register(store, 'a', 'b');
      await append(store, ...numbers(4));
      await finish(store, await hold(store, key('a')), 1, await read(store, key('a')));
      assert.deepEqual(await read(store, key('a')), []);
      assert.deepEqual(ns(await read(store, key('b'))), [0, 1, 2, 3]);
    });

    it('keeps for a late group everything that was appended after its registration', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'a');
      const lease = await hold(store, key('a'));
      await append(store, ...numbers(2));
      await finish(store, lease, 1, await read(store, key('a')));

      await other.registerGroup(key('late'));
      await append(store, message({ n: 7 }), message({ n: 8 }));
      // The process of `a` has not heard of the other group before its commit point tells it.
      const { window, groups } = await claimAndCommit(store, lease, 2, await read(store, key('a')));
      assert.deepEqual([...groups].sort(), ['a', 'late']);
      await store.settle(lease, [{ window, messages: await read(store, key('a')) }], { groups, keep: false });
      assert.deepEqual(await read(store, key('a')), []);
      assert.deepEqual(ns(await read(store, key('late'))).slice(-2), [7, 8]);
    });

    it('shows a new group what others have committed and what still waits for one of them', async () => {
      const { store } = context;
      await register(store, 'a', 'slow');
      await append(store, ...numbers(3));
      await finish(store, await hold(store, key('a')), 1, await read(store, key('a')));
      await store.registerGroup(key('new'));
      assert.deepEqual(ns(await read(store, key('new'))), [0, 1, 2]);
      assert.deepEqual(await read(store, key('a')), []);
      await finish(store, await hold(store, key('slow'), 's'), 1, await read(store, key('slow')));
      assert.deepEqual(ns(await read(store, key('new'))), [0, 1, 2]);
      await finish(store, await hold(store, key('new'), 'n'), 1, await read(store, key('new')));
      assert.equal((await store.stats([STREAM]))[0]?.buffered, 0);
    });

    it('lets messages leave that were marked without knowing of a group that came meanwhile', async () => {
      const { store } = context;
      await register(store, 'a', 'b');
      await append(store, ...numbers(2));
      const lease = await hold(store, key('a'));
      const messages = await read(store, key('a'));
      const { window, groups } = await claimAndCommit(store, lease, 1, messages);
      await store.registerGroup(key('new'));
      await store.settle(lease, [{ window, messages }], { groups, keep: false });
      await finish(store, await hold(store, key('b'), 'b'), 1, await read(store, key('b')));
      await finish(store, await hold(store, key('new'), 'n'), 1, await read(store, key('new')));
      assert.equal((await store.stats([STREAM]))[0]?.buffered, 0);
    });

    it('hands a group over with progress, open windows and done marks', async () => {
      const { store } = context;
      await register(store, 'default', 'b');
      await append(store, ...numbers(6));
      const lease = await hold(store);
      const messages = await read(store);
      await finish(store, lease, 1, messages.slice(0, 2));
      await store.claim(lease, [windowOf(2, messages.slice(2, 4))]);

      await store.registerGroup(key('report'), { replaces: 'default' });
      await store.registerGroup(key('report'), { replaces: 'default' });
      assert.deepEqual([...((await store.describeStream(STREAM))?.groups ?? [])].sort(), ['b', 'report']);
      const taken = await hold(store, key('report'), 'b');
      const { progress, open } = await store.recover(taken);
      assert.equal(progress.lastSeq, 1);
      assert.equal(progress.messages, 2);
      assert.deepEqual(
        open.map(({ seq, messageIds }) => [seq, messageIds.length]),
        [[2, 2]],
      );
      assert.deepEqual(ns(await read(store, key('report'))), [2, 3, 4, 5]);
      await rejectsWith(ErrorCode.LeaseLost, store.commit(lease, { finished: [], progress: { ...progress } }));
    });

    it('hands a group over to one that was registered before and has done nothing', async () => {
      const { store } = context;
      await register(store, 'default', 'report');
      await append(store, ...numbers(3));
      const lease = await hold(store);
      await finish(store, lease, 1, (await read(store)).slice(0, 1));
      await store.registerGroup(key('report'), { replaces: 'default' });
      assert.deepEqual((await store.describeStream(STREAM))?.groups, ['report']);
      const { progress } = await store.recover(await hold(store, key('report'), 'b'));
      assert.equal(progress.lastSeq, 1);
      assert.deepEqual(ns(await read(store, key('report'))), [1, 2]);
      assert.equal((await store.stats([STREAM]))[0]?.buffered, 2);
    });

    it('changes nothing for a group that is to replace itself', async () => {
      const { store } = context;
      await register(store, 'default', 'b');
      await append(store, ...numbers(4));
      const lease = await hold(store);
      const messages = await read(store);
      await finish(store, lease, 1, messages.slice(0, 1));
      await store.claim(lease, [windowOf(2, messages.slice(1, 2))]);
      await store.registerGroup(key(), { replaces: 'default' });
      assert.deepEqual([...((await store.describeStream(STREAM))?.groups ?? [])].sort(), ['b', 'default']);
      assert.deepEqual(await store.renewLeases([lease]), []);
      const { progress, open } = await store.recover(lease);
      assert.equal(progress.lastSeq, 1);
      assert.deepEqual(
        open.map(({ seq }) => seq),
        [2],
      );
      assert.deepEqual(ns(await read(store)), [1, 2, 3]);
    });

    it('registers a group whose predecessor is not there', async () => {
      const { store } = context;
      await store.ensureStream(STREAM);
      await store.registerGroup(key('report'), { replaces: 'default' });
      assert.deepEqual((await store.describeStream(STREAM))?.groups, ['report']);
    });

    it('removes a group with what only it held back', async () => {
      const { store } = context;
      await register(store, 'a', 'slow');
      await append(store, ...numbers(5));
      const lease = await hold(store, key('a'));
      await finish(store, lease, 1, (await read(store, key('a'))).slice(0, 3));
      assert.equal((await store.stats([STREAM]))[0]?.buffered, 5);
      const slow = await hold(store, key('slow'), 's');
      await store.claim(slow, [windowOf(1, (await read(store, key('slow'))).slice(0, 1))]);

      await store.removeGroup(STREAM, 'slow');
      assert.deepEqual((await store.describeStream(STREAM))?.groups, ['a']);
      const [stats] = await store.stats([STREAM]);
      assert.equal(stats?.buffered, 2);
      assert.deepEqual(
        stats?.consumers.map(({ group }) => group),
        ['a'],
      );
      assert.deepEqual(ns(await read(store, key('a'))), [3, 4]);
      await rejectsWith(ErrorCode.LeaseLost, store.commit(slow, { finished: [1], progress: progress(1, 1) }));

      // What was left of it does not come back with the name.
      await store.registerGroup(key('slow'));
      const again = await store.recover(await hold(store, key('slow'), 't'));
      assert.deepEqual(again.open, []);
      assert.equal(again.progress.windows, 0);
    });

    it('keeps for each of the others what it has not had when a group is removed', async () => {
      const { store } = context;
      await register(store, 'a', 'b', 'c');
      await append(store, ...numbers(3));
      await finish(store, await hold(store, key('a')), 1, await read(store, key('a')));
      await store.removeGroup(STREAM, 'c');
      assert.deepEqual(ns(await read(store, key('b'))), [0, 1, 2]);
      assert.deepEqual(await read(store, key('a')), []);
    });

    it('keeps for one of the others what is missing from what it has had, when a group is removed', async () => {
      const { store } = context;
      await register(store, 'a', 'b', 'c');
      await append(store, ...numbers(3));
      const messages = await read(store, key('b'));
      await finish(store, await hold(store, key('a')), 1, await read(store, key('a')));
      await finish(store, await hold(store, key('b'), 'b'), 1, messages.slice(2));
      await store.removeGroup(STREAM, 'c');
      assert.deepEqual(ns(await read(store, key('b'))), [0, 1]);
      assert.deepEqual(await read(store, key('a')), []);
      assert.equal((await store.stats([STREAM]))[0]?.buffered, 2);
    });

    it('does not let the fence of a group go back when the group is removed and registered again', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'a', 'b');
      await hold(store, key('a'), 'first');
      const before = await hold(store, key('a'), 'second');
      await store.removeGroup(STREAM, 'a');
      await other.registerGroup(key('a'));
      const [state] = await store.readLeases([key('a')]);
      assert.ok(state !== undefined && state.fence >= before.fence, `fence ${before.fence}, then ${state?.fence}`);
      assert.equal(state.owner, undefined);
      // Under the same owner, so that the fence alone tells the two lives of the group apart.
      const after = await hold(store, key('a'), 'second');
      assert.ok(after.fence > before.fence, `fence ${before.fence}, then ${after.fence}`);
      await rejectsWith(ErrorCode.LeaseLost, store.commit(before, { finished: [1], progress: progress(1, 1) }));
    });

    it('does not let the fence of a group go back when another group has replaced it', async () => {
      const { store } = context;
      await register(store, 'old', 'new');
      await hold(store, key('old'), 'first');
      const before = await hold(store, key('old'), 'second');
      await store.registerGroup(key('new'), { replaces: 'old' });
      const heir = await hold(store, key('new'), 'second');
      assert.ok(heir.fence > before.fence, `fence ${before.fence}, then ${heir.fence}`);
      await store.registerGroup(key('old'));
      const after = await hold(store, key('old'), 'second');
      assert.ok(after.fence > before.fence, `fence ${before.fence}, then ${after.fence}`);
    });

    it('frees the lease of a group that is replaced, above all fences that the new name has had', async () => {
      const { store } = context;
      await register(store, 'old', 'new');
      for (let n = 0; n < 4; n += 1) await hold(store, key('new'), 'first');
      const before = await hold(store, key('new'), 'first');
      const old = await hold(store, key('old'), 'second');
      await store.removeGroup(STREAM, 'new');
      await store.registerGroup(key('new'), { replaces: 'old' });
      const [state] = await store.readLeases([key('new')]);
      assert.equal(state?.owner, undefined, 'nobody has to wait for it to expire');
      assert.deepEqual(await store.renewLeases([before, old]), [before, old]);
      const heir = await hold(store, key('new'), 'first');
      assert.ok(heir.fence > before.fence, `fence ${before.fence}, then ${heir.fence}`);
      await rejectsWith(ErrorCode.LeaseLost, store.commit(before, { finished: [1], progress: progress(1, 1) }));
    });

    it('still hands a group over to one that came back and has done nothing since', async () => {
      const { store } = context;
      await register(store, 'old', 'back');
      await append(store, ...numbers(3));
      await hold(store, key('back'), 'b');
      await store.removeGroup(STREAM, 'back');
      await store.registerGroup(key('back'));
      await finish(store, await hold(store, key('old')), 1, (await read(store, key('old'))).slice(0, 1));
      await store.registerGroup(key('back'), { replaces: 'old' });
      const { progress } = await store.recover(await hold(store, key('back'), 'b'));
      assert.equal(progress.lastSeq, 1);
      assert.deepEqual(ns(await read(store, key('back'))), [1, 2]);
    });

    it('lets messages leave though a group that was to commit them was removed meanwhile', async () => {
      const { store } = context;
      await register(store, 'a', 'gone');
      await append(store, ...numbers(2));
      const lease = await hold(store, key('a'));
      const messages = await read(store, key('a'));
      const { window, groups } = await claimAndCommit(store, lease, 1, messages);
      await store.removeGroup(STREAM, 'gone');
      await store.settle(lease, [{ window, messages }], { groups, keep: false });
      assert.deepEqual(await read(store, key('a')), []);
      assert.equal((await store.stats([STREAM]))[0]?.buffered, 0);
    });

    it('refuses to remove a group that is not there', async () => {
      const { store } = context;
      await store.ensureStream(STREAM);
      await rejectsWith(ErrorCode.UnknownGroup, store.removeGroup(STREAM, 'missing'));
      await rejectsWith(ErrorCode.UnknownGroup, store.removeGroup('missing', 'default'));
    });
  });
}
