import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { FixedTimeWindow } from '../windows/fixed-time.window.js';
import type { Window } from '../windows/window.js';
import { type ConsumerChoice, Process, STREAM } from './process.spec.support.js';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;

/** `created` is set by the producer's clock, which may be wrong; how long a message waits is a matter of the consumer's clock. */
describe('when the clock of a producer is wrong', () => {
  let database: MemoryDatabase;
  let p: Process;
  let windows: { readonly size: number; readonly at: number; readonly window: Window }[];

  const begin = async (options: ConsumerChoice, to = new Process(database)) => {
    p = to.consumer({
      ...options,
      handler: (window) => void windows.push({ size: window.data.length, at: p.clock.now(), window }),
    });
    await p.start();
  };
  /** The clock of the producer is so far ahead. */
  const put = async (ahead: number, ...data: unknown[]) => {
    const created = new Date(p.clock.now() + ahead);
    await p.store.append(data.map((each) => ({ stream: STREAM, data: each, created })));
    p.engine.wake(STREAM);
    await p.engine.settled();
  };
  const flow = async (perSecond: number, seconds: number, ahead: (index: number) => number) => {
    for (let i = 0; i < perSecond * seconds; i += 1) {
      await put(ahead(i), i);
      await p.advance(SECOND / perSecond);
    }
  };
  const stop = async (process: Process) => {
    const stopping = process.engine.stop(0);
    await process.clock.advance(10 * SECOND);
    await stopping;
  };

  beforeEach(() => {
    database = new MemoryDatabase();
    windows = [];
  });
  afterEach(() => stop(p));

  for (const [name, skew] of [
    ['behind', -MINUTE],
    ['ahead', MINUTE],
  ] as const) {
    it(`${name}, a count window with a longest wait gathers for that time`, async () => {
      await begin({ size: 1_000, interval: SECOND });
      await flow(50, 10, () => skew);
      await p.advance(2 * SECOND);
      const sizes = windows.map(({ size }) => size);
      expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(500);
      expect(Math.min(...sizes.slice(1, -1))).toBeGreaterThanOrEqual(45);
      expect(Math.max(...sizes)).toBeLessThanOrEqual(60);
    });

    it(`${name}, one producer of two does not change that`, async () => {
      await begin({ size: 1_000, interval: SECOND });
      await flow(50, 10, (index) => (index % 2 === 0 ? skew : 0));
      await p.advance(2 * SECOND);
      const sizes = windows.map(({ size }) => size);
      expect(Math.min(...sizes.slice(1, -1))).toBeGreaterThanOrEqual(45);
      expect(Math.max(...sizes)).toBeLessThanOrEqual(60);
    });

    it(`${name}, relaxed windows have all that has come since the last one`, async () => {
      await begin({ interval: SECOND });
      await flow(50, 10, (index) => (index % 2 === 0 ? skew : 0));
      await p.advance(2 * SECOND);
      const sizes = windows.map(({ size }) => size);
      expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(500);
      expect(Math.min(...sizes.slice(1, -1))).toBeGreaterThanOrEqual(45);
    });

    it(`${name}, a relaxed window takes all of a backlog that is read in many blocks`, async () => {
      const first = new Process(database, { engine: { readAhead: 10 } });
      await begin({ interval: 10 * SECOND }, first);
      await p.advance(SECOND);
      for (let i = 0; i < 20; i += 1) {
        await put(0, ...Array.from({ length: 9 }, () => i));
        await put(skew, i);
      }
      await p.advance(11 * SECOND);
      expect(windows.map(({ size }) => size)).toEqual([200]);
    });
  }

  it('behind, a message that has truly waited is due at once', async () => {
    await begin({ size: 10, interval: MINUTE });
    await stop(p);
    const { clock } = p;
    await put(-MINUTE, 1);
    await clock.advance(2 * MINUTE);
    const before = clock.now();
    await begin({ size: 10, interval: MINUTE }, new Process(database, { clock }));
    await p.advance(SECOND);
    expect(windows.map(({ size }) => size)).toEqual([1]);
    expect((windows[0]?.at ?? 0) - before).toBeLessThanOrEqual(SECOND);
  });

  it('behind, messages that wait for a busy worker are due when it is free', async () => {
    await begin({ size: 1_000, interval: SECOND, rateLimit: { unit: 'windows', most: 1, per: 10 * SECOND } });
    await put(0, 1);
    await p.advance(2 * SECOND);
    await put(-MINUTE, 2);
    await p.advance(4 * SECOND);
    await put(-MINUTE, 3);
    await p.advance(6 * SECOND);
    expect(windows.map(({ size }) => size)).toEqual([1, 2]);
  });

  it('ahead, a fixed window has a message within the time that is allowed to be ahead; far ahead, it counts as created on arrival', async () => {
    for (const ahead of [30 * SECOND, 10 * MINUTE]) {
      database = new MemoryDatabase();
      windows = [];
      await begin({ interval: 10 * SECOND, emitter: new FixedTimeWindow() });
      await p.advance(5 * SECOND);
      const arrived = p.clock.now();
      await put(ahead, 1);
      await p.advance(2 * MINUTE);
      expect(windows.map(({ size, window: { late } }) => [size, late])).toEqual([[1, false]]);
      expect((windows[0]?.at ?? 0) - arrived).toBeLessThanOrEqual(MINUTE + 10 * SECOND);
      if (ahead < MINUTE) await stop(p);
    }
  });

  it('behind, a fixed window that comes late says so, and comes once', async () => {
    await begin({ interval: 10 * SECOND, emitter: new FixedTimeWindow() });
    await put(0, 0);
    await p.advance(30 * SECOND);
    windows = [];
    await flow(10, 10, () => -MINUTE);
    await p.advance(30 * SECOND);
    expect(windows.length).toBeLessThanOrEqual(4);
    expect(windows.every(({ window: { late } }) => late)).toBe(true);
    expect(windows.reduce((sum, { size }) => sum + size, 0)).toBe(100);
  });
});
