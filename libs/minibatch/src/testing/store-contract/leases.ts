import assert from 'node:assert/strict';
import { ErrorCode } from '../../errors/minibatch.error.js';
import type { LeaseState, StreamStore } from '../../storage/stream-store.interface.js';
import type { ContractContext, TestFunctions } from './context.js';
import {
  acquire,
  append,
  hold,
  key,
  numbers,
  owner,
  partitioned,
  progress,
  read,
  register,
  rejectsWith,
  STREAM,
  windowOf,
} from './fixtures.js';

export function leaseContract({ describe, it }: TestFunctions, context: ContractContext): void {
  describe('leases', () => {
    it('starts with none', async () => {
      const { store } = context;
      await register(store, 'default');
      const [state, unknown] = await store.readLeases([key(), key('x', 'missing')]);
      assert.equal(state?.fence, 0);
      assert.equal(state?.owner, undefined);
      assert.equal(unknown?.fence, 0);
      assert.equal(unknown?.owner, undefined);
    });

    it('says who holds it', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'default', 'b');
      const lease = await acquire(store, key(), 'me');
      assert.equal(lease.fence, 1);
      assert.deepEqual(lease.key, key());
      const states = await other.readLeases([key('b'), key()]);
      assert.equal(states.length, 2);
      assert.equal(states[0]?.fence, 0);
      assert.equal(states[1]?.fence, 1);
      assert.deepEqual({ ...states[1]?.owner }, owner('me'));
    });

    it('shows how long its holder may be silent, until another one has it', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'default');
      const lease = await acquire(store);
      const hold = async () => (await other.readLeases([key()]))[0]?.holdTime;
      assert.equal(await hold(), undefined);
      assert.deepEqual(await store.renewLeases([{ ...lease, holdTime: 45_000 }]), []);
      assert.equal(await hold(), 45_000);
      await store.renewLeases([lease]);
      await store.commit(lease, { finished: [], progress: progress(0) });
      assert.equal(await hold(), 45_000);
      const [seen] = await store.readLeases([key()]);
      assert.ok(seen);
      assert.ok(await store.acquireLease(key(), owner('b'), seen, 30_000));
      assert.equal(await hold(), 30_000);
      await acquire(store, key(), 'c');
      assert.equal(await hold(), undefined);
    });

    it('keeps what its holder says of its work, also when another one has it', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'default', 'b');
      const notes = async () => {
        const [stats] = await other.stats([STREAM]);
        return Object.fromEntries(stats?.consumers.map(({ group, note }) => [group, note]) ?? []);
      };
      const [lease, second] = [await acquire(store), await acquire(store, key('b'))];
      assert.deepEqual(await notes(), { default: undefined, b: undefined });
      const long = JSON.stringify({ text: 'ü"\\😀\n'.repeat(300) });
      assert.deepEqual(
        await store.renewLeases([
          { ...lease, note: 'a' },
          { ...second, note: long },
        ]),
        [],
      );
      assert.deepEqual(await notes(), { default: 'a', b: long });
      // What is absent stays.
      await store.renewLeases([lease, { ...second, note: '' }]);
      await store.commit(lease, { finished: [], progress: progress(0) });
      await store.releaseLease(lease);
      const next = await acquire(store, key(), 'c');
      await store.renewLeases([{ ...lease, note: 'too late' }]);
      assert.deepEqual(await notes(), { default: 'a', b: '' });
      await store.renewLeases([{ ...next, note: 'c', holdTime: 45_000 }]);
      assert.equal((await notes())['default'], 'c');
      assert.equal((await store.readLeases([key()]))[0]?.holdTime, 45_000);
      await store.removeGroup(STREAM, 'b');
      await register(store, 'b');
      assert.deepEqual(await notes(), { default: 'c', b: undefined });
    });

    it('has one winner among twenty', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'default');
      for (const fence of [1, 2]) {
        const [seen] = await store.readLeases([key()]);
        assert.ok(seen);
        const tries = Array.from({ length: 20 }, (_, n) =>
          (n % 2 === 0 ? store : other).acquireLease(key(), owner(`${fence}-${n}`), seen),
        );
        const won = (await Promise.all(tries)).filter((lease) => lease !== undefined);
        assert.equal(won.length, 1);
        assert.equal(won[0]?.fence, fence);
        const [state] = await store.readLeases([key()]);
        assert.equal(state?.owner?.id, won[0]?.owner.id);
      }
    });

    it('is not taken by who saw an older fence or counter', async () => {
      const { store } = context;
      await register(store, 'default');
      const [first] = await store.readLeases([key()]);
      const lease = await acquire(store, key(), 'a');
      assert.equal(await store.acquireLease(key(), owner('b'), first!), undefined);
      const [second] = await store.readLeases([key()]);
      assert.deepEqual(await store.renewLeases([lease]), []);
      assert.equal(await store.acquireLease(key(), owner('b'), second!), undefined, 'the owner has renewed it');
      const [third] = await store.readLeases([key()]);
      assert.ok(third!.counter > second!.counter);
      assert.equal((await store.acquireLease(key(), owner('b'), third!))?.fence, 2);
    });

    it('is not taken by who expects another fence or counter than it has', async () => {
      const { store } = context;
      await register(store, 'default');
      await store.releaseLease(await acquire(store, key(), 'a'));
      const [seen] = await store.readLeases([key()]);
      for (const other of [
        { ...seen!, fence: seen!.fence - 1 },
        { ...seen!, fence: seen!.fence + 1 },
        { ...seen!, counter: seen!.counter - 1 },
        { ...seen!, counter: seen!.counter + 1 },
      ]) {
        assert.equal(await store.acquireLease(key(), owner('b'), other), undefined);
      }
      assert.deepEqual(await store.readLeases([key()]), [seen]);
    });

    it('is not to be had for a group or a stream that is not there', async () => {
      const { store } = context;
      await register(store, 'default');
      for (const missing of [key('missing'), key('default', 'missing')]) {
        const [seen] = await store.readLeases([missing]);
        assert.equal(await store.acquireLease(missing, owner('a'), seen!), undefined);
        const lease = { key: missing, owner: owner('a'), fence: 1 };
        assert.deepEqual(await store.renewLeases([lease]), [lease]);
        await store.releaseLease(lease);
        await rejectsWith(ErrorCode.LeaseLost, store.commit(lease, { finished: [], progress: progress(0) }));
        await rejectsWith(ErrorCode.LeaseLost, store.recover(lease));
      }
    });

    it('grows by one fence when an acquisition is repeated because its answer was lost', async () => {
      const { store } = context;
      await register(store, 'default');
      const [seen] = await store.readLeases([key()]);
      const lease = await store.acquireLease(key(), owner('a'), seen!);
      assert.deepEqual(await store.acquireLease(key(), owner('a'), seen!), lease);
      assert.equal((await store.readLeases([key()]))[0]?.fence, 1);
      assert.deepEqual(await store.renewLeases([lease!]), []);
    });

    it('is not given for an older look to who has taken it again since', async () => {
      const { store } = context;
      await register(store, 'default');
      const [seen] = await store.readLeases([key()]);
      await store.releaseLease(await acquire(store, key(), 'a'));
      const lease = await acquire(store, key(), 'a');
      assert.equal(await store.acquireLease(key(), owner('a'), seen!), undefined);
      assert.equal((await store.readLeases([key()]))[0]?.fence, lease.fence);
    });

    it('of an earlier fence does not count, though the same process has it again', async () => {
      const { store } = context;
      await register(store, 'default');
      await append(store, ...numbers(2));
      const old = await acquire(store, key(), 'a');
      await store.recover(old);
      await store.releaseLease(old);
      const lease = await hold(store, key(), 'a');
      assert.deepEqual(await store.renewLeases([old]), [old]);
      const messages = await read(store);
      // Refused, or void: either will do.
      await store.claim(old, [windowOf(1, messages)]).catch(() => undefined);
      await rejectsWith(ErrorCode.LeaseLost, store.commit(old, { finished: [1], progress: progress(1) }));
      await store.releaseLease(old);
      assert.deepEqual(await store.renewLeases([lease]), []);
      const recovery = await store.recover(lease);
      assert.equal(recovery.progress.lastSeq, 0);
      assert.deepEqual([recovery.open, recovery.finished], [[], []]);
    });

    it('that was given back is not taken by who looked before', async () => {
      const { store } = context;
      await register(store, 'default');
      const lease = await acquire(store, key(), 'a');
      const [first] = await store.readLeases([key()]);
      await store.renewLeases([lease]);
      const [second] = await store.readLeases([key()]);
      await store.releaseLease(lease);
      for (const seen of [first, second]) {
        assert.equal(await store.acquireLease(key(), owner('b'), seen!), undefined);
      }
      assert.equal((await store.readLeases([key()]))[0]?.owner, undefined);
    });

    it('renews in bulk and says which are lost', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'a', 'b', 'c', 'd');
      const leases = [];
      for (const group of ['a', 'b', 'c', 'd']) leases.push(await acquire(store, key(group), 'me'));
      await acquire(other, key('b'), 'you');
      await other.removeGroup(key().stream, 'd');
      const before = await store.readLeases(leases.map((lease) => lease.key));
      const lost = await store.renewLeases(leases);
      assert.deepEqual(lost.map((lease) => lease.key.group).sort(), ['b', 'd']);
      const after = await store.readLeases(leases.map((lease) => lease.key));
      assert.deepEqual(
        after.map((state, n) => state.counter > before[n]!.counter),
        [true, false, true, false],
      );
      assert.equal(after[1]?.owner?.id, 'you');
      assert.deepEqual(await store.renewLeases([]), []);
    });

    it('is given back', async () => {
      const { store } = context;
      await register(store, 'default');
      const lease = await acquire(store, key(), 'a');
      await store.releaseLease(lease);
      await store.releaseLease(lease);
      const [state] = await store.readLeases([key()]);
      assert.equal(state?.owner, undefined);
      assert.equal(state?.fence, 1);
      const next = await acquire(store, key(), 'b');
      assert.equal(next.fence, 2);
      await store.releaseLease(lease);
      assert.equal((await store.readLeases([key()]))[0]?.owner?.id, 'b', 'a lost lease is not given back');
    });

    it('is lost to who gave it back', async () => {
      const { store } = context;
      await register(store, 'default');
      await append(store, ...numbers(2));
      const lease = await hold(store);
      const window = windowOf(1, await read(store));
      await store.claim(lease, [window]);
      await store.releaseLease(lease);
      const given = await store.readLeases([key()]);
      assert.deepEqual(await store.renewLeases([lease]), [lease]);
      await rejectsWith(ErrorCode.LeaseLost, store.commit(lease, { finished: [1], progress: progress(1, 2) }));
      await rejectsWith(ErrorCode.LeaseLost, store.recover(lease));
      assert.deepEqual(await store.readLeases([key()]), given, 'what is given back is not touched by its last holder');
      const next = await hold(store, key(), 'b');
      const { open, progress: recorded } = await store.recover(next);
      assert.deepEqual(
        open.map(({ seq }) => seq),
        [1],
      );
      assert.equal(recorded.lastSeq, 0);
    });

    it('does not come back with its group: one from before the group was removed is lost', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'default');
      await append(store, ...numbers(2));
      const before = await hold(store);
      const messages = await read(store);
      const isLost = async () => {
        await rejectsWith(ErrorCode.LeaseLost, store.commit(before, { finished: [1], progress: progress(1, 2) }));
        await rejectsWith(ErrorCode.LeaseLost, store.recover(before));
        assert.deepEqual(await store.renewLeases([before]), [before]);
      };
      await other.removeGroup(key().stream, 'default');
      await isLost();
      await other.registerGroup(key());
      await isLost();
      const after = await hold(other, key(), 'b');
      await isLost();
      // Either it is told at once, or its window is void.
      await store.claim(before, [windowOf(7, messages)]).catch(() => undefined);
      const { open, progress: recorded } = await other.recover(after);
      assert.deepEqual(open, []);
      assert.deepEqual({ ...recorded }, progress(0));
      await store.releaseLease(before);
      assert.equal((await other.readLeases([key()]))[0]?.owner?.id, 'b');
      assert.equal((await read(other)).length, 2);
    });

    it('shows who asks for it, until the one who asked, or another one, has it', async () => {
      const { store } = context;
      if (!store.requestLease) return;
      const other = await context.another();
      await register(store, 'default');
      const lease = await acquire(store, key(), 'a');
      const before = await state(store);
      assert.equal(before.heir, undefined);
      assert.equal(await other.requestLease!(key(), owner('b'), before), true);
      const asked = await state(store);
      assert.deepEqual({ ...asked.heir }, owner('b'));
      assert.deepEqual({ ...asked.owner }, owner('a'));
      assert.deepEqual([asked.fence, asked.counter], [before.fence, before.counter], 'a request is no renewal');
      assert.equal(
        await other.requestLease!(key(), owner('b'), before),
        true,
        'the answer was lost, and it asks again',
      );

      await store.releaseLease(lease);
      const given = await state(store);
      assert.equal(given.owner, undefined);
      assert.equal(given.heir?.id, 'b');
      assert.ok(await other.acquireLease(key(), owner('b'), given, 20_000));
      assert.equal((await state(store)).heir, undefined);

      assert.equal(await store.requestLease(key(), owner('a'), await state(store)), true);
      await acquire(store, key(), 'c');
      assert.equal((await state(store)).heir, undefined, 'what was asked of the owner before counts no more');
    });

    it('that is asked for is renewed, and its owner is told', async () => {
      const { store } = context;
      if (!store.requestLease) return;
      const other = await context.another();
      await register(store, 'a', 'b', 'c', 'd');
      const leases = [];
      for (const group of ['a', 'b', 'c', 'd']) leases.push(await acquire(store, key(group), 'me'));
      const keys = leases.map((lease) => lease.key);
      const before = await store.readLeases(keys);
      assert.equal(await other.requestLease!(key('b'), owner('you'), before[1]!), true);
      assert.equal(await other.requestLease!(key('c'), owner('other'), before[2]!), true);
      await acquire(other, key('d'), 'you');
      const told = await store.renewLeases(leases.map((lease) => ({ ...lease, holdTime: 20_000 })));
      const named = told.map(({ key: { group }, fence, heir }) => [group, fence, heir?.id]);
      assert.deepEqual(named.sort(), [
        ['b', 1, 'you'],
        ['c', 1, 'other'],
        ['d', 1, undefined],
      ]);
      assert.deepEqual({ ...told.find(({ heir }) => heir?.id === 'you')?.heir }, owner('you'));
      const after = await store.readLeases(keys);
      assert.deepEqual(
        after.map(({ counter, holdTime }, n) => [counter > before[n]!.counter, holdTime]),
        [
          [true, 20_000],
          [true, 20_000],
          [true, 20_000],
          [true, undefined],
        ],
      );
      // One that is lost does not hide one that is asked for.
      assert.deepEqual((await store.renewLeases(leases.slice(2))).length, 2);
      assert.deepEqual(await store.renewLeases([leases[0]!]), []);
      // What was asked for is held until it is given back.
      const window = windowOf(1, []);
      await store.recover(leases[1]!);
      await store.claim(leases[1]!, [window]);
      await store.commit(leases[1]!, { finished: [1], progress: progress(1) });
      assert.equal((await store.readLeases([key('b')]))[0]?.heir?.id, 'you');
    });

    it('is asked for by one at a time', async () => {
      const { store } = context;
      if (!store.requestLease) return;
      const other = await context.another();
      await register(store, 'default');
      await acquire(store, key(), 'a');
      const seen = await state(store);
      const asked = await Promise.all(
        Array.from({ length: 10 }, (_, n) => (n % 2 ? store : other).requestLease!(key(), owner(`${n}`), seen)),
      );
      assert.equal(asked.filter((isHeir) => isHeir).length, 1);
      const now = await state(store);
      assert.equal(now.heir?.id, `${asked.indexOf(true)}`);
      // Whoever has seen the heir may take its place, once.
      const replaced = await Promise.all(['x', 'y'].map((id) => other.requestLease!(key(), owner(id), now)));
      assert.deepEqual(replaced.toSorted(), [false, true]);
      assert.equal((await state(store)).heir?.id, replaced[0] ? 'x' : 'y');
    });

    it('is not asked for where nobody has it, or another one than was seen', async () => {
      const { store } = context;
      if (!store.requestLease) return;
      await register(store, 'default');
      const free = await state(store);
      assert.equal(await store.requestLease(key(), owner('b'), free), false);
      const lease = await acquire(store, key(), 'a');
      assert.equal(await store.requestLease(key(), owner('b'), free), false);
      const seen = await state(store);
      await acquire(store, key(), 'c');
      assert.equal(await store.requestLease(key(), owner('b'), seen), false);
      const [unknown] = await store.readLeases([key('x', 'missing')]);
      assert.equal(await store.requestLease(key('x', 'missing'), owner('b'), unknown!), false);
      await store.removeGroup(key().stream, 'default');
      assert.equal(await store.requestLease(key(), owner('b'), { ...seen, fence: lease.fence + 1 }), false);
      assert.equal((await state(store)).heir, undefined);
    });

    it('is asked for no more by who withdraws', async () => {
      const { store } = context;
      if (!store.requestLease) return;
      await register(store, 'default');
      const lease = await acquire(store, key(), 'a');
      const before = await state(store);
      await store.requestLease(key(), owner('b'), before);
      const asked = await state(store);
      await store.requestLease(key(), undefined, { ...asked, heir: owner('c') });
      await store.requestLease(key(), undefined, { ...asked, fence: asked.fence + 1 });
      assert.equal((await state(store)).heir?.id, 'b', 'only its own');
      assert.equal(await store.requestLease(key(), undefined, asked), true);
      assert.deepEqual(await state(store), before);
      assert.deepEqual(await store.renewLeases([lease]), []);
      // Also when the owner has given it back.
      await store.requestLease(key(), owner('b'), before);
      await store.releaseLease(lease);
      assert.equal(await store.requestLease(key(), undefined, asked), true);
      const given = await state(store);
      assert.deepEqual([given.owner, given.heir], [undefined, undefined]);
    });

    it('has no heir any more when its group was replaced', async () => {
      const { store } = context;
      if (!store.requestLease) return;
      await register(store, 'default');
      await acquire(store, key(), 'a');
      await store.requestLease(key(), owner('b'), await state(store));
      await store.registerGroup(key('next'), { replaces: 'default' });
      const [next] = await store.readLeases([key('next')]);
      assert.deepEqual([next?.owner, next?.heir], [undefined, undefined]);
    });

    it('keeps partitions apart', async () => {
      const { store } = context;
      await partitioned(store, 2, 'default');
      const other = key('default', key().stream, 1);
      await acquire(store, key(), 'a');
      const lease = await acquire(store, other, 'b');
      assert.equal(lease.fence, 1);
      assert.deepEqual(
        (await store.readLeases([key(), other])).map((state) => state.owner?.id),
        ['a', 'b'],
      );
    });

    it('is lost for good once another has it', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'default');
      await append(store, ...numbers(4));
      const lease = await hold(store);
      const messages = await read(store);
      const window = windowOf(1, messages.slice(0, 2));
      await store.claim(lease, [window]);
      const taken = await hold(other, key(), 'b');

      await rejectsWith(ErrorCode.LeaseLost, store.commit(lease, { finished: [1], progress: progress(1, 2) }));
      await rejectsWith(ErrorCode.LeaseLost, store.recover(lease));
      await rejectsWith(ErrorCode.LeaseLost, store.reschedule(lease, { ...window, attempt: 2 }));
      assert.equal((await store.renewLeases([lease])).length, 1);
      const { open, finished, progress: recorded } = await other.recover(taken);
      assert.deepEqual(
        open.map(({ seq, attempt }) => [seq, attempt]),
        [[1, 1]],
      );
      assert.deepEqual(finished, []);
      assert.equal(recorded.lastSeq, 0);
      assert.equal((await read(other)).length, 4);
    });
  });
}

async function state(store: StreamStore): Promise<LeaseState> {
  const [found] = await store.readLeases([key()]);
  assert.ok(found);
  return found;
}
