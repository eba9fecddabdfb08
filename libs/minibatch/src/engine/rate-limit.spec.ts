import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Activity } from '../common/activity.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import type { RateLimit } from './engine.interface.js';
import { Process, STREAM } from './process.spec.support.js';
import { RateLimiter } from './rate-limit.js';

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index);
const WINDOWS: RateLimit = { unit: 'windows', most: 2, per: 1_000 };

/** When each of the runs began. */
async function starts(limit: RateLimit, costs: readonly number[], at: readonly number[] = []): Promise<number[]> {
  const clock = new VirtualClock();
  const activity = new Activity();
  const limiter = new RateLimiter(limit, clock, activity);
  const began: number[] = [];
  const { signal } = new AbortController();
  for (const [index, cost] of costs.entries()) {
    clock.schedule(at[index] ?? 0, () => {
      void activity.track(async () => {
        const admission = await limiter.admit(cost, signal);
        if (!admission) throw new Error('not admitted');
        limiter.begin(admission);
        began[index] = clock.monotonic();
      });
    });
  }
  await clock.advance(1_000_000);
  expect(limiter.waiting).toBe(0);
  return began;
}

describe('RateLimiter', () => {
  it('admits no more than the limit in any period', async () => {
    expect(await starts(WINDOWS, [1, 1, 1, 1, 1])).toEqual([0, 0, 1_000, 1_000, 2_000]);
    expect(await starts(WINDOWS, [1, 1, 1, 1], [0, 900, 1_000, 1_001])).toEqual([0, 900, 1_000, 1_900]);
  });

  it('counts messages, also of windows that are larger than the limit', async () => {
    const limit: RateLimit = { unit: 'messages', most: 100, per: 1_000 };
    expect(await starts(limit, [40, 60, 1, 99])).toEqual([0, 0, 1_000, 1_000]);
    expect(await starts(limit, [250, 10])).toEqual([0, 3_000]);
    expect(await starts(limit, [10, 250, 0, 10])).toEqual([0, 1_000, 1_000, 4_000]);
  });

  it('keeps any sequence within the limit, in its order, and wastes nothing', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ cost: fc.integer({ min: 1, max: 5 }), at: fc.integer({ min: 0, max: 5_000 }) }), {
          maxLength: 30,
        }),
        fc.integer({ min: 5, max: 9 }),
        async (runs, most) => {
          const sorted = runs.toSorted((a, b) => a.at - b.at);
          const costs = sorted.map(({ cost }) => cost);
          const began = await starts(
            { unit: 'messages', most, per: 1_000 },
            costs,
            sorted.map(({ at }) => at),
          );
          expect(began).toEqual(began.toSorted((a, b) => a - b));
          for (const from of began) {
            const inside = began.map((time, i) => (time >= from && time < from + 1_000 ? (costs[i] ?? 0) : 0));
            expect(inside.reduce((sum, cost) => sum + cost, 0)).toBeLessThanOrEqual(most);
          }
        },
      ),
      { numRuns: 100 },
    );
  });

  it('lets go when it is told to', async () => {
    const clock = new VirtualClock();
    const limiter = new RateLimiter({ ...WINDOWS, most: 1 }, clock, new Activity());
    const stop = new AbortController();
    expect(await limiter.admit(1, stop.signal)).toBeDefined();
    const waiting = limiter.admit(1, stop.signal);
    stop.abort();
    expect(await waiting).toBeUndefined();
  });
});

describe('rateLimit', () => {
  it('holds windows back, retries too, and says so', async () => {
    const began: number[] = [];
    let failures = 1;
    const p: Process = new Process(new MemoryDatabase()).consumer({
      size: 10,
      rateLimit: { unit: 'windows', most: 2, per: 10_000 },
      handler: () => {
        began.push(p.clock.monotonic());
        if (failures-- > 0) throw new Error('once');
      },
    });
    await p.start();
    await p.append(...range(0, 40));
    await p.advance(1_500);
    expect(began).toEqual([0, 1_000]);
    expect(p.engine.status()[0]?.activity).toBe('throttled');
    await p.advance(30_000);
    expect(began).toEqual([0, 1_000, 10_000, 11_000, 20_000]);
    expect((await p.store.stats([STREAM]))[0]?.buffered).toBe(0);
    const stopping = p.engine.stop(0);
    await p.clock.advance(10_000);
    await stopping;
  });

  it('does not hold up a stop', async () => {
    const p = await new Process(new MemoryDatabase())
      .consumer({ size: 1, rateLimit: { unit: 'windows', most: 1, per: 3_600_000 } })
      .start();
    await p.append(1, 2);
    await p.advance(1_000);
    const stopping = p.engine.stop(5_000);
    await p.clock.advance(100);
    expect(await stopping).toEqual({ drained: 0, abandoned: 0 });
    expect(p.values).toEqual([1]);
  });
});
