import { describe, expect, it } from 'vitest';
import { delay } from '../common/clock.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import type { StoreCall } from '../testing/wrapped-store.js';
import type { RateLimit } from './engine.interface.js';
import { type ConsumerChoice, LEASE, Process, STREAM, turns } from './process.spec.support.js';

const some = () => turns(() => false, 20);

/** A store whose writes of a start take as long as the test says; milliseconds. */
function setUp(times: number[], options: ConsumerChoice = {}) {
  const database = new MemoryDatabase();
  const clock = new VirtualClock();
  const began: number[] = [];
  const slow = async ({ method, proceed }: StoreCall) => {
    const answer = await proceed();
    if (method === 'reschedule') await delay(clock, times.shift() ?? 0);
    return answer;
  };
  const begin = (more: ConsumerChoice = {}) =>
    new Process(database, { clock, around: slow }).consumer({
      ...(options.interval === undefined && { size: 1 }),
      ...options,
      ...more,
      handler: (window) => {
        began.push(clock.monotonic());
        return (more.handler ?? options.handler)?.(window);
      },
    });
  return { clock, began, begin };
}

/** The most runs that began within one period. */
const most = (began: readonly number[], per: number) =>
  Math.max(...began.map((from) => began.filter((time) => time >= from && time < from + per).length));

async function stop(p: Process, timeout = 0): Promise<void> {
  const stopping = p.engine.stop(timeout);
  await p.clock.advance(100, some);
  await stopping;
}

describe('a start that counts against a rate limit', () => {
  const limit: RateLimit = { unit: 'windows', most: 3, per: 1_000 };

  for (const workers of [1, 3]) {
    it(`is the moment in which the handler begins, however long the store takes before: ${workers} workers`, async () => {
      const { clock, began, begin } = setUp([900, 900, 900], { rateLimit: limit, workers });
      const p = await begin().start();
      await p.put(...Array.from({ length: 12 }, (_, index) => index));
      await clock.advance(10_000, some);
      expect(began).toHaveLength(12);
      expect(most(began, limit.per)).toBe(3);
      await stop(p);
    });
  }

  it('is the same moment for the next process, after a crash', async () => {
    const long: RateLimit = { unit: 'windows', most: 1, per: 10 * LEASE };
    const { clock, began, begin } = setUp([LEASE / 2], { rateLimit: long });
    const first = await begin({ handler: () => new Promise(() => undefined) }).start();
    await first.put(1);
    await clock.advance(LEASE, some);
    first.kill();
    expect(began).toEqual([LEASE / 2]);
    const [second] = await Promise.all([begin().start(), clock.advance(20 * LEASE, some)]);
    expect(began).toHaveLength(2);
    expect((began[1] ?? 0) - (began[0] ?? 0)).toBeGreaterThanOrEqual(long.per);
    await stop(second);
  });

  it('is counted for each of several workers, after a crash', async () => {
    const two: RateLimit = { unit: 'windows', most: 2, per: 10 * LEASE };
    const { clock, began, begin } = setUp([], { rateLimit: two, workers: 2 });
    const first = await begin({ handler: () => new Promise(() => undefined) }).start();
    await first.put(1, 2);
    await clock.advance(100, some);
    first.kill();
    expect(began).toEqual([0, 0]);
    const [second] = await Promise.all([begin().start(), clock.advance(20 * LEASE, some)]);
    expect(most(began, two.per)).toBe(2);
    expect(began).toHaveLength(4);
    await stop(second);
  });

  it('is given back by a window that an operator gives up before it begins', async () => {
    const release: (() => void)[] = [];
    const database = new MemoryDatabase();
    const clock = new VirtualClock();
    let holds = true;
    const p = await new Process(database, {
      clock,
      around: async ({ method, proceed }) => {
        const answer = await proceed();
        if (method === 'reschedule' && holds) await new Promise<void>((resolve) => release.push(resolve));
        return answer;
      },
    })
      .consumer({ size: 1, rateLimit: { unit: 'windows', most: 1, per: 60_000 } })
      .start();
    await p.put(1);
    await some();
    const window = [
      ...(database.streams
        .get(STREAM)
        ?.consumer({ stream: STREAM, group: 'default', partition: 0 })
        ?.windows.values() ?? []),
    ][0];
    await p.store.updateStream(STREAM, {
      request: { group: 'default', window: window?.id ?? '', action: 'giveUp' },
    });
    void p.engine.refresh(STREAM);
    await some();
    holds = false;
    for (const resolve of release) resolve();
    await some();
    await p.put(2);
    await clock.advance(1_000, some);
    expect(p.values).toEqual([2]);
    await stop(p);
  });
});

describe('a window that is due while the rate limit is used up', () => {
  const limit: RateLimit = { unit: 'windows', most: 1, per: 1_000 };
  const flow = async (p: Process, perSecond: number, seconds: number) => {
    for (let i = 0; i < perSecond * seconds; i += 1) {
      await p.put(i);
      await p.clock.advance(1_000 / perSecond);
    }
  };
  const sizes = (p: Process) => p.seen.map(({ data }) => data.length);

  for (const [name, options] of [
    ['a relaxed time window', { interval: 100 }],
    ['a count window with a longest wait', { size: 1_000, interval: 100 }],
  ] as const) {
    it(`takes all that waits, when it may begin: ${name}`, async () => {
      const { began, begin } = setUp([], { ...options, rateLimit: limit });
      const p = await begin().start();
      await flow(p, 50, 10);
      expect(Math.min(...sizes(p).slice(1))).toBeGreaterThanOrEqual(45);
      expect(Math.max(...sizes(p).slice(1))).toBeLessThanOrEqual(60);
      expect(began.length).toBe(10);
      await stop(p);
    });

    it(`holds no worker and is no window yet, and the status says what it waits for: ${name}`, async () => {
      const { clock, begin } = setUp([], { ...options, rateLimit: { ...limit, per: 60_000 } });
      const p = await begin().start();
      await p.put(1);
      await clock.advance(200, some);
      expect(sizes(p)).toEqual([1]);
      await p.put(2, 3);
      await clock.advance(1_000, some);
      expect(p.engine.status()[0]).toMatchObject({ activity: 'throttled', inFlight: 0 });
      await p.put(4);
      await clock.advance(60_000, some);
      expect(sizes(p)).toEqual([1, 3]);
      await clock.advance(60_000, some);
      expect(p.engine.status()[0]).toMatchObject({ activity: 'waiting', inFlight: 0, buffered: 0 });
      await stop(p);
    });
  }

  it('counts messages until one fits', async () => {
    const { clock, began, begin } = setUp([], {
      interval: 100,
      rateLimit: { unit: 'messages', most: 10, per: 1_000 },
    });
    const p = await begin().start();
    await p.put(...Array.from({ length: 10 }, (_, index) => index));
    await clock.advance(200, some);
    await p.put(10, 11);
    await clock.advance(500, some);
    await p.put(12);
    await clock.advance(1_000, some);
    expect(sizes(p)).toEqual([10, 3]);
    expect((began[1] ?? 0) - (began[0] ?? 0)).toBeGreaterThanOrEqual(1_000);
    await stop(p);
  });

  it('does not wait when the tail is to be emitted', async () => {
    const { clock, begin } = setUp([], { interval: 100, rateLimit: { ...limit, per: 10_000 } });
    const p = await begin().start();
    await p.put(1);
    await clock.advance(200, some);
    await p.put(2);
    await p.store.updateStream(STREAM, { flush: true });
    void p.engine.refresh(STREAM);
    await clock.advance(0, some);
    expect(p.engine.status()[0]).toMatchObject({ inFlight: 1 });
    await p.put(3);
    await clock.advance(20_500, some);
    expect(sizes(p)).toEqual([1, 1, 1]);
    await stop(p);
  });
});
