import assert from 'node:assert/strict';
import { beforeEach, describe, expect, it } from 'vitest';
import { ErrorCode } from '../errors/minibatch.error.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import type { ConsumerKey, Lease, LeaseOwner, LeaseState, Renewal } from '../storage/stream-store.interface.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { type StoreCall, wrapStore } from '../testing/wrapped-store.js';
import { isLeaseLost, LeaseKeeper } from './lease-keeper.js';

/** Lease time. A lease is due for renewal after a third of it, and doubtful after four fifths. */
const TIME = 15_000;
const key = (stream = 's'): ConsumerKey => ({ stream, group: 'default', partition: 0 });
const owner = (id: string): LeaseOwner => ({ id, host: 'here', bootId: 'boot', pid: 1, startTime: '1' });

describe('a lease keeper', () => {
  let clock: VirtualClock;
  let store: MemoryStreamStore;

  beforeEach(async () => {
    clock = new VirtualClock();
    store = new MemoryStreamStore(new MemoryDatabase());
    for (const stream of ['s', 't']) await store.registerGroup(key(stream));
  });

  /** One process's keeper, all that it tells, and all that it asks of the store. */
  function keeper(
    id: string,
    { streams = ['s'], dead = [] as readonly string[], around = (call: StoreCall) => call.proceed() } = {},
  ) {
    const told: unknown[] = [];
    const leases = new Map<string, Lease>();
    const calls: StoreCall[] = [];
    const asked: string[] = [];
    const watched = wrapStore(store, (call) => {
      calls.push(call);
      return around(call);
    });
    const isDead = (other: LeaseOwner) => {
      asked.push(other.id);
      return dead.includes(other.id);
    };
    const made = new LeaseKeeper(watched, clock, owner(id), { leaseTime: TIME }, isDead, {
      acquired: ({ stream }, lease, clean) => {
        leases.set(stream, lease);
        told.push({ acquired: stream, fence: lease.fence, clean });
      },
      lost: ({ stream }) => void told.push({ lost: stream }),
      wentTo: ({ stream }, other) => void told.push({ wentTo: other?.id, of: stream }),
      missing: ({ stream }) => void told.push({ missing: stream }),
      wanted: ({ stream }, _lease, heir) => void told.push({ wanted: stream, by: heir?.id }),
      note: () => undefined,
      overfull: (held) => void told.push({ overfull: held }),
    });
    for (const stream of streams) made.add(key(stream));
    const lease = (stream = 's'): Lease => {
      const found = leases.get(stream);
      assert.ok(found, `no lease of ${stream}`);
      return found;
    };
    const renewals = () =>
      calls.flatMap(({ method, args }) => (method === 'renewLeases' ? [args[0] as Renewal[]] : []));
    return { keeper: made, told, calls, asked, lease, renewals };
  }
  const state = async (stream = 's'): Promise<LeaseState> => {
    const [found] = await store.readLeases([key(stream)]);
    assert.ok(found);
    return found;
  };

  describe('with a free lease', () => {
    it('takes it at once, and says that nobody was cut off', async () => {
      const a = keeper('a', { streams: ['s', 't'] });
      expect(a.keeper.pause).toBe(10);
      await a.keeper.round();
      expect(a.told).toEqual([
        { acquired: 's', fence: 1, clean: true },
        { acquired: 't', fence: 1, clean: true },
      ]);
      expect(a.calls.map(({ method }) => method)).toEqual(['readLeases', 'acquireLease', 'acquireLease']);
      expect(await state()).toMatchObject({ owner: { id: 'a' }, fence: 1 });
      // It has all: nothing to ask.
      await a.keeper.round();
      expect(a.calls).toHaveLength(3);
    });

    it('has a pause also without any', () => {
      const { keeper: made } = keeper('a', { streams: [] });
      expect([made.pause, made.renewalPause]).toEqual([TIME / 3, TIME / 3]);
    });

    it('has it although the answer was lost', async () => {
      let fails = 1;
      const a = keeper('a', {
        around: async (call) => {
          const result = await call.proceed();
          if (call.method === 'acquireLease' && fails-- > 0) throw new Error('no answer');
          return result;
        },
      });
      await expect(a.keeper.round()).rejects.toThrow('no answer');
      expect(a.told).toEqual([]);
      await a.keeper.round();
      expect(a.told).toEqual([{ acquired: 's', fence: 1, clean: true }]);
    });

    it('does not take for its own what it held in an earlier fence', async () => {
      const a = keeper('a');
      await a.keeper.round();
      // Another process of the same name: what it has is not known here.
      const b = keeper('a');
      await b.keeper.round();
      await clock.advance(TIME - 1);
      await b.keeper.round();
      expect(b.told).toEqual([]);
      await clock.advance(1);
      await b.keeper.round();
      expect(b.told).toEqual([{ acquired: 's', fence: 2, clean: true }]);
    });

    it('leaves it to one that was quicker, and watches that one for a whole lease time', async () => {
      const b = keeper('b');
      let isQuicker = true;
      const a = keeper('a', {
        around: async (call) => {
          if (call.method === 'acquireLease' && isQuicker) {
            isQuicker = false;
            await b.keeper.round();
          }
          return call.proceed();
        },
      });
      await a.keeper.round();
      expect(b.told).toEqual([{ acquired: 's', fence: 1, clean: true }]);
      await clock.advance(TIME - 1);
      await a.keeper.round();
      expect(a.told).toEqual([]);
      await clock.advance(TIME);
      await a.keeper.round();
      expect(a.told).toEqual([{ acquired: 's', fence: 2, clean: false }]);
    });

    it('gives it back if the consumer was removed meanwhile', async () => {
      const a = keeper('a', {
        around: async (call) => {
          if (call.method === 'acquireLease') await a.keeper.leave(key());
          return call.proceed();
        },
      });
      await a.keeper.round();
      expect(a.told).toEqual([]);
      expect((await state()).owner).toBeUndefined();
    });

    it('takes the others although one try fails', async () => {
      const a = keeper('a', {
        streams: ['s', 't'],
        around: (call) => {
          if (call.method === 'acquireLease' && (call.args[0] as ConsumerKey).stream === 's') throw new Error('no');
          return call.proceed();
        },
      });
      await expect(a.keeper.round()).rejects.toThrow('no');
      expect(a.told).toEqual([{ acquired: 't', fence: 1, clean: true }]);
    });
  });

  describe("with another process's lease", () => {
    it('waits for one lease time without a renewal, by its own clock, and says that the holder was cut off', async () => {
      const [a, b] = [keeper('a'), keeper('b')];
      await a.keeper.round();
      await b.keeper.round();
      expect(b.keeper.pause).toBe(TIME / 6);
      await clock.advance(TIME - 100);
      expect(b.keeper.pause).toBe(100);
      await a.keeper.round(); // Renews.
      await clock.advance(100);
      await b.keeper.round();
      expect(b.keeper.pause).toBe(TIME / 6);
      await clock.advance(TIME - 1);
      await b.keeper.round();
      expect(b.told).toEqual([]);
      expect(b.keeper.pause).toBe(10);
      await clock.advance(1);
      await b.keeper.round();
      expect(b.told).toEqual([{ acquired: 's', fence: 2, clean: false }]);
    });

    it('waits for as long as the lease says', async () => {
      const [a, b] = [keeper('a'), keeper('b')];
      await a.keeper.round();
      await store.renewLeases([{ ...a.lease(), holdTime: 2 * TIME }]);
      await b.keeper.round();
      await clock.advance(2 * TIME - 1_000);
      expect(b.keeper.pause).toBe(1_000);
      await clock.advance(999);
      await b.keeper.round();
      expect(b.told).toEqual([]);
      await clock.advance(1);
      await b.keeper.round();
      expect(b.told).toEqual([{ acquired: 's', fence: 2, clean: false }]);
    });

    it('takes those of a dead process at once, and asks once about it', async () => {
      const a = keeper('a', { streams: ['s', 't'] });
      await a.keeper.round();
      const b = keeper('b', { streams: ['s', 't'], dead: ['a'] });
      await b.keeper.round();
      expect(b.asked).toEqual(['a']);
      expect(b.told).toEqual([
        { acquired: 's', fence: 2, clean: false },
        { acquired: 't', fence: 2, clean: false },
      ]);
      const c = keeper('c', { streams: ['s', 't'] });
      await c.keeper.round();
      expect(c.asked).toEqual(['b']);
      expect(c.told).toEqual([]);
    });

    it('takes one that was given back, and nobody was cut off', async () => {
      const [a, b] = [keeper('a'), keeper('b')];
      await a.keeper.round();
      await b.keeper.round();
      await a.keeper.leave(key());
      await b.keeper.round();
      expect(b.told).toEqual([{ acquired: 's', fence: 2, clean: true }]);
    });
  });

  describe('that holds a lease', () => {
    it('renews all in one command when one is due, and with it what would be due soon', async () => {
      const a = keeper('a', { streams: ['s'] });
      await a.keeper.round();
      await clock.advance(1_000);
      a.keeper.add(key('t'));
      await a.keeper.round();
      expect(a.keeper.renewalPause).toBe(TIME / 3 - 1_000);
      expect(a.keeper.pause).toBe(TIME / 3 - 1_000);
      await clock.advance(2_999);
      await a.keeper.round();
      expect(a.renewals()).toEqual([]);
      await clock.advance(1_001);
      expect(a.keeper.renewalPause).toBe(10);
      await a.keeper.round();
      expect(a.renewals()).toEqual([[a.lease('s'), a.lease('t')]]);
      expect(a.keeper.renewalPause).toBe(TIME / 3);
      expect(await state('t')).toMatchObject({ owner: { id: 'a' }, fence: 1, counter: 2 });
      await clock.advance(3_999);
      await a.keeper.round();
      expect(a.renewals()).toHaveLength(1);
      await clock.advance(1);
      await a.keeper.round();
      expect(a.renewals()).toHaveLength(2);
    });

    it('is told of what is lost, once, and then to whom it went', async () => {
      const a = keeper('a', { streams: ['s', 't'] });
      await a.keeper.round();
      const b = keeper('b', { dead: ['a'] });
      await b.keeper.round();
      await clock.advance(TIME / 3);
      await a.keeper.round();
      expect(a.told.slice(2)).toEqual([{ lost: 's' }, { wentTo: 'b', of: 's' }]);
      expect(a.keeper.isFresh(a.lease('s'))).toBe(false);
      expect(a.keeper.isFresh(a.lease('t'))).toBe(true);
      await a.keeper.round();
      a.keeper.drop(a.lease('s'));
      expect(a.told).toHaveLength(4);
    });

    it('is told that it went to nobody', async () => {
      const a = keeper('a');
      await a.keeper.round();
      await store.releaseLease(a.lease());
      a.keeper.drop(a.lease());
      await a.keeper.round();
      expect(a.told.slice(1)).toEqual([
        { lost: 's' },
        { wentTo: undefined, of: 's' },
        { acquired: 's', fence: 2, clean: true },
      ]);
    });

    it('is not told that it went elsewhere while it is still its own', async () => {
      const a = keeper('a');
      await a.keeper.round();
      a.keeper.drop(a.lease());
      await a.keeper.round();
      expect(a.told.slice(1)).toEqual([{ lost: 's' }]);
    });

    it('is told when the store knows nothing of it any more, and asks no more', async () => {
      const a = keeper('a');
      await a.keeper.round();
      await store.dropStream('s');
      await clock.advance(TIME / 3);
      await a.keeper.round();
      expect(a.told.slice(1)).toEqual([{ lost: 's' }, { missing: 's' }]);
      const asked = a.calls.length;
      await a.keeper.round();
      expect(a.calls).toHaveLength(asked);
    });

    it('gives it back when it leaves, and has nothing to give back twice', async () => {
      const a = keeper('a');
      await a.keeper.leave(key());
      expect(a.calls).toEqual([]);
      a.keeper.add(key());
      await a.keeper.round();
      await a.keeper.leave(key());
      await a.keeper.leave(key());
      expect(a.calls.filter(({ method }) => method === 'releaseLease')).toHaveLength(1);
      expect((await state()).owner).toBeUndefined();
      expect(a.keeper.isFresh(a.lease())).toBe(false);
    });
  });

  describe('before something irrevocable', () => {
    it('asks nothing while the lease is fresh, renews it when it is doubtful', async () => {
      const a = keeper('a');
      await a.keeper.round();
      await clock.advance(0.8 * TIME - 1);
      await a.keeper.ensure(a.lease());
      expect(a.renewals()).toEqual([]);
      await clock.advance(1);
      expect(a.keeper.isFresh(a.lease())).toBe(false);
      await a.keeper.ensure(a.lease());
      expect(a.renewals()).toEqual([[a.lease()]]);
      expect(a.keeper.isFresh(a.lease())).toBe(true);
      expect(a.told).toHaveLength(1);
    });

    it('is refused when the lease is lost', async () => {
      const a = keeper('a');
      await a.keeper.round();
      await clock.advance(TIME);
      await keeper('b', { dead: ['a'] }).keeper.round();
      const refused = a.keeper.ensure(a.lease());
      await expect(refused).rejects.toMatchObject({ code: ErrorCode.LeaseLost, details: key() });
      await expect(refused).rejects.toSatisfy(isLeaseLost);
      expect(a.told.slice(1)).toEqual([{ lost: 's' }]);
      // It is known now.
      await expect(a.keeper.ensure(a.lease())).rejects.toSatisfy(isLeaseLost);
      expect(a.renewals()).toHaveLength(1);
    });

    it('does not take an older lease for the one that is held', async () => {
      const a = keeper('a');
      await a.keeper.round();
      const old = a.lease();
      a.keeper.drop(old);
      await store.releaseLease(old);
      await a.keeper.round();
      expect(a.lease().fence).toBe(2);
      expect(a.keeper.isFresh(old)).toBe(false);
      a.keeper.drop(old);
      expect(a.keeper.isFresh(a.lease())).toBe(true);
      await clock.advance(TIME);
      a.keeper.renewed(old, clock.monotonic());
      expect(a.keeper.isFresh(a.lease())).toBe(false);
    });

    it('goes by the latest renewal, whichever is answered last', async () => {
      const a = keeper('a');
      await a.keeper.round();
      const earlier = clock.monotonic();
      await clock.advance(0.8 * TIME);
      a.keeper.renewed(a.lease(), clock.monotonic());
      a.keeper.renewed(a.lease(), earlier);
      expect(a.keeper.isFresh(a.lease())).toBe(true);
    });

    it('is refused when the lease is dropped while it is renewed', async () => {
      const a = keeper('a', {
        around: async (call) => {
          const result = await call.proceed();
          if (call.method === 'renewLeases') a.keeper.drop(a.lease());
          return result;
        },
      });
      await a.keeper.round();
      await clock.advance(TIME);
      await expect(a.keeper.ensure(a.lease())).rejects.toSatisfy(isLeaseLost);
      expect(a.told.slice(1)).toEqual([{ lost: 's' }]);
    });
  });

  describe('whose process was silent', () => {
    it('asks candidates to wait for longer, at once, and for an hour', async () => {
      const a = keeper('a');
      await a.keeper.round();
      expect(a.keeper.lengthen(key(), 20_000)).toBe(55_000);
      expect(a.keeper.lengthen(key(), 1_000)).toBe(55_000);
      await a.keeper.round();
      expect(a.renewals()).toEqual([[{ ...a.lease(), holdTime: 55_000 }]]);
      expect((await state()).holdTime).toBe(55_000);
      // Nothing new to say.
      await a.keeper.round();
      expect(a.renewals()).toHaveLength(1);
      // Candidates wait for so long: it is sure of it for longer, too.
      await clock.advance(0.8 * 55_000 - 1);
      expect(a.keeper.isFresh(a.lease())).toBe(true);
      await clock.advance(1);
      expect(a.keeper.isFresh(a.lease())).toBe(false);
      await a.keeper.round();
      await clock.advance(3_600_000 - 44_000 - 1);
      await a.keeper.round();
      expect((await state()).holdTime).toBe(55_000);
      await clock.advance(1);
      await a.keeper.round();
      expect((await state()).holdTime).toBe(TIME);
      await a.keeper.round();
      expect(a.renewals()).toHaveLength(4);
    });

    it('asks for ten minutes at the most', () => {
      expect(keeper('a').keeper.lengthen(key(), 3_600_000)).toBe(600_000);
    });

    it('asks for it also after it has lost the lease and gained it anew', async () => {
      const a = keeper('a');
      await a.keeper.round();
      a.keeper.lengthen(key(), 20_000);
      await store.releaseLease(a.lease());
      a.keeper.drop(a.lease());
      await a.keeper.round();
      expect(await state()).toMatchObject({ owner: { id: 'a' }, fence: 2, holdTime: 55_000 });
      await a.keeper.round();
      expect(a.renewals()).toEqual([]);
    });

    it('answers for a consumer that it does not know, too', () => {
      expect(keeper('a', { streams: [] }).keeper.lengthen(key(), 1_000)).toBe(17_000);
    });
  });
});
