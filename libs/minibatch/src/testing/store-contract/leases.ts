import assert from 'node:assert/strict';
import { ErrorCode } from '../../errors/minibatch.error.js';
import type { ContractContext, TestFunctions } from './context.js';
import {
  acquire,
  append,
  hold,
  key,
  numbers,
  owner,
  progress,
  read,
  register,
  rejectsWith,
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

    it('keeps partitions apart', async () => {
      const { store } = context;
      await register(store, 'default');
      const other = key('default', key().stream, 1);
      await store.registerGroup(other);
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
