import fc from 'fast-check';
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FAULTS } from './protocol-faults.spec.support.js';
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

  for (const [name, planted] of Object.entries(FAULTS)) {
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
