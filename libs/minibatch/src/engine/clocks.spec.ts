import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { FixedTimeWindow } from '../windows/fixed-time.window.js';
import type { Window } from '../windows/window.js';
import type { Retention } from './engine.interface.js';
import { type ConsumerChoice, Process, type ProcessOptions, STREAM } from './process.spec.support.js';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const YEAR = 365 * 24 * 60 * MINUTE;

/** The wall clock is set forward and back, the monotonic one is not. */
describe('when the clock jumps', () => {
  let database: MemoryDatabase;
  let processes: Process[];
  let windows: Window[];
  const make = (options: ProcessOptions & { retention?: Retention } = {}) => {
    const made = new Process(database, options);
    if (options.retention) made.engine.retain(STREAM, options.retention);
    processes.push(made);
    return made;
  };
  const fixed = (more: ConsumerChoice = {}): ConsumerChoice => ({
    interval: 10 * SECOND,
    emitter: new FixedTimeWindow(),
    handler: (window) => void windows.push(window),
    ...more,
  });
  const stop = async (p: Process) => {
    const stopping = p.engine.stop(0);
    await p.clock.advance(10 * SECOND);
    await stopping;
  };

  beforeEach(() => {
    database = new MemoryDatabase();
    processes = [];
    windows = [];
  });
  afterEach(async () => {
    for (const p of processes) await stop(p);
  });

  for (const restarts of [false, true]) {
    it(`far ahead and back, fixed windows are not late${restarts ? ', nor in the next process' : ''}`, async () => {
      let p = await make().consumer(fixed()).start();
      await p.append(1);
      await p.advance(20 * SECOND);
      p.clock.jump(YEAR);
      await p.append(2);
      await p.advance(20 * SECOND);
      p.clock.jump(-YEAR);
      for (let n = 3; n < 8; n += 1) {
        await p.append(n);
        await p.advance(15 * SECOND);
        if (!restarts || n !== 5) continue;
        await stop(p);
        processes.pop();
        p = await make({ clock: p.clock }).consumer(fixed()).start();
      }
      await p.advance(MINUTE);
      expect(windows.flatMap(({ data }) => data)).toEqual([1, 2, 3, 4, 5, 6, 7]);
      expect(windows.filter(({ late }) => late).map(({ data }) => data)).toEqual([]);
    });
  }

  it('far ahead, no process makes a flood of empty windows, and each continues with them', async () => {
    for (const interval of [SECOND, 10 * SECOND]) {
      windows = [];
      const p = await make({ clock: new VirtualClock() })
        .consumer(fixed({ group: `g${interval}`, interval, empty: true }))
        .start();
      await p.advance(60 * SECOND);
      const usual = windows.length;
      expect(usual).toBeGreaterThan(4);
      p.clock.jump(YEAR);
      await p.advance(60 * SECOND);
      // As many again, and some for the minute that a resting strategy may not look at the clock.
      expect(windows.length).toBeGreaterThan(1.5 * usual);
      expect(windows.length).toBeLessThan(4 * usual);
      const before = windows.length;
      p.clock.jump(-YEAR);
      await p.advance(3 * MINUTE);
      expect(windows.length - before).toBeGreaterThan(usual);
      expect(windows.length - before).toBeLessThan(5 * usual);
    }
  });

  it('relaxed windows continue, whichever way', async () => {
    const p = await make()
      .consumer({ interval: 10 * SECOND, handler: (window) => void windows.push(window) })
      .start();
    let n = 0;
    for (const jump of [0, YEAR, -YEAR, -YEAR, YEAR]) {
      p.clock.jump(jump);
      await p.append((n += 1));
      await p.advance(MINUTE + 10 * SECOND);
      expect(windows.flatMap(({ data }) => data).at(-1)).toBe(n);
    }
    expect(windows.length).toBeLessThanOrEqual(5);
  });

  it('back, a flushed relaxed window ends now and not in a year', async () => {
    const p = await make()
      .consumer({ interval: 10 * MINUTE, handler: (window) => void windows.push(window) })
      .start();
    p.clock.jump(YEAR);
    await p.append(1);
    await p.advance(11 * MINUTE);
    p.clock.jump(-YEAR);
    await p.put(2);
    await p.store.updateStream(STREAM, { flush: true });
    await p.engine.refresh(STREAM);
    await p.engine.settled();
    expect(windows.at(-1)?.data).toEqual([2]);
    expect(windows.at(-1)?.end?.getTime()).toBeLessThanOrEqual(p.clock.now() + 10 * MINUTE);
  });

  it('the longest wait of a count window holds', async () => {
    for (const jump of [YEAR, -YEAR]) {
      const clock = new VirtualClock();
      const p = await make({ clock })
        .consumer({ group: `g${jump}`, size: 10, interval: MINUTE })
        .start();
      await p.append('first');
      clock.jump(jump);
      await p.advance(2 * MINUTE);
      expect(p.values.at(-1)).toBe('first');
    }
  });

  it('back, a retry waits no longer than its backoff, in the next process too', async () => {
    let failures = 0;
    const handler = () => {
      failures += 1;
      if (failures <= 2) throw new Error('broken');
    };
    const consumer = { size: 1, handler, retry: { base: MINUTE, max: MINUTE, jitter: 0, attempts: 9 } };
    const p = await make().consumer(consumer).start();
    p.clock.jump(YEAR);
    await p.append(1);
    p.clock.jump(-YEAR);
    await p.advance(MINUTE + SECOND);
    expect(failures).toBe(2);
    p.clock.jump(-YEAR);
    await stop(p);
    processes.pop();
    const next = await make({ clock: p.clock }).consumer(consumer).start();
    await next.advance(MINUTE + SECOND);
    expect(failures).toBe(3);
    expect(next.values).toEqual([1]);
  });

  it('ahead, nothing is lost as too old before its time, and goes when that has passed', async () => {
    const p = await make({ retention: { buffered: 10 * MINUTE } })
      .consumer({ size: 10 })
      .start();
    await p.append(1, 2);
    await p.advance(MINUTE);
    p.clock.jump(YEAR);
    await p.append(3);
    await p.advance(8 * MINUTE);
    const buffered = async () => (await p.store.stats([STREAM]))[0]?.buffered;
    expect(await buffered()).toBe(3);
    await p.advance(4 * MINUTE);
    expect(await buffered()).toBe(0);
    expect(p.engine.status()[0]?.expired).toBe(3);
  });

  it('ahead, dedupe ids and dead letters are kept for their time', async () => {
    const HOUR = 60 * MINUTE;
    const p = await make({ engine: { dedupeTime: 2 * HOUR }, retention: { deadLetters: 2 * HOUR } })
      .consumer({ size: 1 })
      .start();
    const append = async () => {
      const created = new Date(p.clock.now());
      const [outcome] = await p.store.append([{ stream: STREAM, data: 1, created, dedupeId: 'once' }]);
      p.engine.wake(STREAM);
      await p.engine.settled();
      return outcome?.status;
    };
    expect(await append()).toBe('stored');
    await p.advance(HOUR);
    p.clock.jump(YEAR);
    await p.advance(0.5 * HOUR);
    expect(await append()).toBe('duplicate');
    await p.advance(3 * HOUR);
    expect(await append()).toBe('stored');
  });

  it('rates hold, whichever way', async () => {
    for (const jump of [YEAR, -YEAR]) {
      const clock = new VirtualClock();
      const p = await make({ clock })
        .consumer({ group: `g${jump}`, size: 1, rateLimit: { unit: 'windows', most: 2, per: MINUTE } })
        .start();
      await p.put(1, 2, 3, 4, 5);
      await p.advance(SECOND);
      const begun = p.seen.length;
      expect(begun).toBe(2);
      clock.jump(jump);
      await p.advance(30 * SECOND);
      expect(p.seen.length).toBe(2);
      await p.advance(MINUTE);
      expect(p.seen.length).toBe(4);
      await p.advance(MINUTE);
    }
  });
});
