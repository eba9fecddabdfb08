import { describe, expect, it } from 'vitest';
import { Activity } from '../common/activity.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import type { RateLimit } from './engine.interface.js';
import { LEASE, Process, turns } from './process.spec.support.js';
import { RateLimiter } from './rate-limit.js';

const some = () => turns(() => false, 20);
/** By so much a start of 10 s is stored later than it was. */
const MARGIN = 100;
const LIMIT: RateLimit = { unit: 'windows', most: 1, per: 60_000 };

function setUp() {
  const database = new MemoryDatabase();
  const clock = new VirtualClock();
  const began: number[] = [];
  const begin = (handler?: () => unknown, limit = LIMIT) =>
    new Process(database, { clock }).consumer({
      size: 1,
      rateLimit: limit,
      retry: { base: 1_000, max: 1_000, jitter: 0, attempts: 5 },
      handler: () => {
        began.push(clock.monotonic());
        return handler?.();
      },
    });
  return { clock, began, begin };
}

async function stop(p: Process): Promise<void> {
  const stopping = p.engine.stop(0);
  await p.clock.advance(100, some);
  await stopping;
}

const gaps = (times: readonly number[]) => times.slice(1).map((time, index) => time - (times[index] ?? 0));

describe('a rate limit', () => {
  it('holds over restarts, and is used up', async () => {
    const { clock, began, begin } = setUp();
    for (let i = 0; i < 10; i += 1) {
      const p = await begin().start();
      if (i === 0) await p.append(1, 2, 3, 4);
      await clock.advance(15_000, some);
      await stop(p);
    }
    expect(began).toHaveLength(3);
    // A new process may look a moment late.
    for (const gap of gaps(began)) {
      expect(gap).toBeGreaterThanOrEqual(60_000);
      expect(gap).toBeLessThan(76_000);
    }
  });

  it('counts runs that failed before a restart', async () => {
    const { clock, began, begin } = setUp();
    const fail = () => {
      throw new Error('no');
    };
    for (let i = 0; i < 5; i += 1) {
      const p = await begin(fail).start();
      if (i === 0) await p.append(1);
      await clock.advance(15_000, some);
      await stop(p);
    }
    expect(began).toHaveLength(2);
    expect(gaps(began)[0]).toBeGreaterThanOrEqual(60_000);
  });

  it('counts the run in which a process died', async () => {
    const { clock, began, begin } = setUp();
    const limit: RateLimit = { ...LIMIT, per: 10 * LEASE };
    const first = await begin(() => new Promise(() => undefined), limit).start();
    await first.put(1, 2);
    await some();
    first.kill();
    const [second] = await Promise.all([begin(undefined, limit).start(), clock.advance(3 * LEASE, some)]);
    await clock.advance(20 * LEASE, some);
    expect(began).toHaveLength(3);
    // By 1 % of the period, but no more than a second, later than in the same process: the write of a start takes its time.
    expect(began.slice(0, 2)).toEqual([0, 10 * LEASE + 1_000]);
    expect(gaps(began)[1]).toBeGreaterThanOrEqual(10 * LEASE);
    await stop(second);
  });

  it('stores a bounded number of starts, none of them earlier than it was', async () => {
    const clock = new VirtualClock();
    const limit: RateLimit = { unit: 'windows', most: 1_000, per: 10_000 };
    const { signal } = new AbortController();
    const limiter = new RateLimiter(limit, clock, new Activity());
    const times: number[] = [];
    for (let i = 0; i < 1_000; i += 1) {
      const admission = await limiter.admit(1, signal);
      if (admission) limiter.begin(admission);
      times.push(clock.now());
      await clock.advance(5);
    }
    const stored = limiter.stored();
    expect(stored.length).toBeLessThanOrEqual(64);
    expect(stored.reduce((sum, { cost }) => sum + cost, 0)).toBe(1_000);
    let before = 0;
    for (const { at, cost } of stored) {
      before += cost;
      expect(times.filter((time) => time <= at.getTime() - MARGIN).length).toBe(before);
    }
    const next = new RateLimiter(limit, clock, new Activity());
    next.restore(stored);
    let admitted = false;
    void next.admit(1, signal).then(() => (admitted = true));
    await clock.advance(4_900);
    expect(admitted).toBe(false);
    await clock.advance(300);
    expect(admitted).toBe(true);
  });

  it('does not wait longer than it must for a time that lies in the future', async () => {
    const clock = new VirtualClock();
    const limiter = new RateLimiter(LIMIT, clock, new Activity());
    limiter.restore([{ at: new Date(clock.now() + 3_600_000), cost: 1 }]);
    let admitted = false;
    void limiter.admit(1, new AbortController().signal).then(() => (admitted = true));
    await clock.advance(59_999);
    expect(admitted).toBe(false);
    await clock.advance(1);
    expect(admitted).toBe(true);
  });
});
