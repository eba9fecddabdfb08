import fc from 'fast-check';
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type {
  ConsumerKey,
  Lease,
  MessageId,
  Recovery,
  StateRow,
  StreamStore,
} from '../storage/stream-store.interface.js';
import type { MemoryDatabase } from '../storage/memory/memory.database.js';
import { applyEffects } from '../storage/memory/state.js';
import { type StoreCall, wrapStore } from '../testing/wrapped-store.js';
import { isLeaseLost } from './lease-keeper.js';
import { plan, type Plan } from './protocol-plan.spec.support.js';
import type { Planted } from './protocol-doubles.spec.support.js';
import { World } from './protocol.spec.support.js';

/** `FC_RUNS=5000` for a long search; `FC_SEED` (and `FC_PATH`) repeat one that failed. */
const RUNS = Number(process.env['FC_RUNS'] ?? 200);
const options = {
  ...(process.env['FC_SEED'] ? { seed: Number(process.env['FC_SEED']) } : {}),
  ...(process.env['FC_PATH'] ? { path: process.env['FC_PATH'] } : {}),
};

/** Backoffs have jitter: the same plan is to take the same course. */
function seedRandom(): void {
  let state = 1;
  vi.mocked(Math.random).mockImplementation(() => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  });
}

/** Plans that broke a promise once. */
const FOUND: Readonly<Record<string, Plan>> = {
  'a window that was set aside is released before older ones that a takeover brought': {
    groups: [{ kind: 'count', size: 1, interval: 500, workers: 1, sinks: 0, maxSize: 2, empty: false }],
    readAhead: 3,
    totalOrder: false,
    late: false,
    cache: 0,
    outage: 0,
    poison: 4,
    handlers: [],
    puts: [],
    steps: [
      { do: 'append', slot: 0, count: 2, hidden: 0, wakes: false },
      { do: 'start', slot: 1 },
      { do: 'append', slot: 0, count: 2, hidden: 2, wakes: false },
      { do: 'hold', slot: 0, method: 'commit' },
      { do: 'advance', ms: 7900 },
      { do: 'kill', slot: 0 },
      { do: 'advance', ms: 9376 },
      { do: 'advance', ms: 1797 },
      { do: 'outage', slot: 0, when: 'before', calls: 1 },
      { do: 'start', slot: 0 },
      { do: 'advance', ms: 927 },
      { do: 'wake', slot: 0 },
    ],
  },
  'the messages of one commit of a stage leave while those of the commit before have not': {
    groups: [{ kind: 'stage', size: 1, interval: 500, workers: 1, sinks: 0, maxSize: 2, empty: false }],
    readAhead: 3,
    totalOrder: false,
    late: true,
    cache: 0,
    outage: 0,
    poison: 0,
    handlers: [],
    puts: [],
    steps: [
      { do: 'crashIn', slot: 0, method: 'settle', count: 6 },
      { do: 'hold', slot: 0, method: 'acquireLease' },
      { do: 'kill', slot: 0 },
      { do: 'reveal' },
      { do: 'advance', ms: 1 },
    ],
  },
};

describe('the protocol', () => {
  const rejections: unknown[] = [];
  const onRejection = (reason: unknown) => void rejections.push(reason);
  process.on('unhandledRejection', onRejection);
  afterAll(() => void process.off('unhandledRejection', onRejection));
  beforeEach(() => void vi.spyOn(Math, 'random'));
  afterEach(() => void vi.restoreAllMocks());

  const violations = async (given: Plan, planted?: Planted): Promise<readonly string[]> => {
    seedRandom();
    rejections.length = 0;
    const found = await new World(given, planted).live();
    return [...found, ...rejections.map((reason) => `unhandled rejection: ${String(reason)}`)];
  };

  it('keeps its promises, whatever happens', { timeout: RUNS * 1_000 + 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(plan, async (given) => {
        expect(await violations(given)).toEqual([]);
      }),
      { numRuns: RUNS, ...options },
    );
  });

  it.each(Object.entries(FOUND))('keeps its promises, although %s', async (_what, given) => {
    expect(await violations(given)).toEqual([]);
  });

  // A check that can't fail says nothing: each of these faults has to be found.
  for (const [name, planted] of Object.entries(faults())) {
    it(`would find: ${name}`, { timeout: 600_000 }, async () => {
      const found: string[] = [];
      const result = await fc.check(
        fc.asyncProperty(plan, async (given) => {
          found.splice(0, found.length, ...(await violations(given, planted)));
          return found.length === 0;
        }),
        { numRuns: 2_000, endOnFailure: true, seed: 1 },
      );
      expect(result.failed, `not found in ${result.numRuns} runs`).toBe(true);
      expect(found).not.toEqual([]);
    });
  }
});

function faults(): Record<string, Planted> {
  const around = (
    method: StoreCall['method'],
    instead: (call: StoreCall, store: StreamStore, database: MemoryDatabase) => Promise<unknown>,
  ): Planted => ({
    store: (store, database) =>
      wrapStore(store, (call) => (call.method === method ? instead(call, store, database) : call.proceed())),
  });

  return {
    'messages leave before the commit point': around('commit', async (call, store, database) => {
      const [lease, { finished }] = call.args as Parameters<StreamStore['commit']>;
      const groups = [lease.key.group];
      const windows = database.streams.get(lease.key.stream)?.consumer(lease.key)?.windows;
      const settled = finished.flatMap((seq) => {
        const window = windows?.get(seq);
        return window ? [{ window: { ...window, seq: -1 }, ids: window.messageIds }] : [];
      });
      const present = presentLease(database, lease.key);
      if (present) {
        for (const { window, ids } of settled) {
          const messages = await store.load(lease.key, ids);
          await store.settle(present, [{ window, messages }], { groups, keep: false });
        }
      }
      return call.proceed();
    }),
    'a commit point that does not look at the fence': around('commit', async (call, store, database) => {
      const [lease, commit] = call.args as Parameters<StreamStore['commit']>;
      try {
        return await call.proceed();
      } catch (error) {
        const present = presentLease(database, lease.key);
        if (!isLeaseLost(error) || !present) throw error;
        return store.commit(present, commit);
      }
    }),
    'reads that resume where the last one ended': {
      store: (store) => {
        const cursors = new Map<string, MessageId>();
        return wrapStore(store, async (call) => {
          if (call.method !== 'fetch') return call.method === 'scan' ? [] : call.proceed();
          const [key, after, limits] = call.args as Parameters<StreamStore['fetch']>;
          const block = await store.fetch(key, after ?? cursors.get(key.group), limits);
          const last = block.messages.at(-1);
          if (last) cursors.set(key.group, last.id);
          return block;
        });
      },
    },
    'a recovery that forgets the open windows': around('recover', async (call) => {
      return { ...((await call.proceed()) as Recovery), open: [] };
    }),
    'a recovery that takes finished windows for open ones': around('recover', async (call) => {
      const { finished, open, ...rest } = (await call.proceed()) as Recovery;
      return { ...rest, finished: [], open: [...finished, ...open].sort((a, b) => a.seq - b.seq) };
    }),
    'claims that are not stored': around('claim', () => Promise.resolve()),
    'a poll that sees nothing': around('poll', (call) => Promise.resolve((call.args[0] as unknown[]).map(() => ''))),
    'a commit before the handler is through': { hastyHandler: true },
    'effects before the commit point': around('commit', (call, _store, database) => {
      const [{ key }, { effects }] = call.args as Parameters<StreamStore['commit']>;
      const consumer = database.streams.get(key.stream)?.consumer(key);
      if (consumer && effects) applyEffects(database, consumer, effects);
      return call.proceed();
    }),
    'effects that the next holder does not apply': { late: { forgetsOthers: true } },
    'effects that append a message twice': { late: { withoutIds: true } },
    'rows that are read as they were before the last window': {
      store: (store) => {
        const stale = new Map<string, readonly StateRow[]>();
        return wrapStore(store, async (call) => {
          if (call.method !== 'readState') return call.proceed();
          const [key, slots] = call.args as [ConsumerKey, readonly string[]];
          const name = `${key.group} ${slots.join()}`;
          const rows = (await call.proceed()) as readonly StateRow[];
          const before = stale.get(name) ?? rows;
          stale.set(name, rows);
          return before;
        });
      },
    },
  };
}

/** The lease as stored in the database, no matter who holds it. */
function presentLease(database: MemoryDatabase, key: ConsumerKey): Lease | undefined {
  const consumer = database.streams.get(key.stream)?.consumer(key);
  return consumer?.owner && { key, owner: consumer.owner, fence: consumer.fence };
}
