import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../errors/minibatch.error.js';
import type { SplitState, WindowRecord } from '../storage/stream-store.interface.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { Service, setUp } from './evidence.spec.support.js';
import { type ConsumerChoice, LEASE, Process, stop, turns } from './process.spec.support.js';
import { range } from './processes.spec.support.js';

const retry = { base: 1_000, max: 60_000, jitter: 0, attempts: 1 };
const some = () => turns(() => false, 60);

describe("the rest of a window taken apart, with onAllFailed: 'block'", () => {
  const choice = { size: 4, retry, onAllFailed: 'block' } as const;

  /** A process is stopped when the first half of a window has gone through, and the next one begins in an outage. */
  async function inOutage() {
    const context = setUp();
    const service = new Service();
    service.bad.add(3);
    const first: Process = new Process(context.database);
    first.consumer({
      ...choice,
      handler: (window) => {
        service.handle(window);
        // The second half has to wait for the next process.
        void stop(first);
      },
    });
    await first.start();
    await first.append(...range(0, 4));
    await first.advance(20_000);
    expect(service.done).toEqual([0, 1]);
    service.down = true;
    const p = new Process(context.database, { clock: new VirtualClock(first.clock.now()) });
    p.consumer({ ...choice, handler: service.handle });
    await p.start();
    await p.advance(10_000);
    return { ...context, service, p };
  }

  it('waits as a whole, and is stored so', async () => {
    const { p, service, given, buffered, windows } = await inOutage();
    expect(p.seen.map(({ data }) => data)).toEqual([[2, 3], [2], [3]]);
    expect(p.engine.status()[0]).toMatchObject({ activity: 'blocked', lastError: { code: ErrorCode.AllFailed } });
    const split: SplitState = { pending: [{ from: 2, to: 4 }], alone: [], again: [], last: false };
    expect(windows()).toMatchObject([{ attempt: 2, recoveries: 0, split }]);
    expect(windows()[0]?.nextTry).toBeInstanceOf(Date);

    // Nothing is given up, however long the outage is.
    await p.advance(retry.max);
    expect(p.seen.slice(3)).toMatchObject([
      { attempt: 2, data: [2, 3] },
      { attempt: 2, data: [2] },
      { attempt: 2, data: [3] },
    ]);
    expect(windows()).toMatchObject([{ attempt: 3, split }]);
    expect(await given()).toEqual([]);

    service.down = false;
    await p.advance(retry.max);
    expect(service.done).toEqual([0, 1, 2]);
    expect(await given()).toEqual([3]);
    expect(await buffered()).toBe(0);
    await stop(p);
  });

  it('is tried by the next process as it was stored', async () => {
    const { p, service, database, given, buffered } = await inOutage();
    await stop(p);
    service.down = false;
    service.bad.clear();
    const next = new Process(database, { clock: new VirtualClock(p.clock.now()) });
    next.consumer({ ...choice, handler: service.handle });
    await next.start();
    await next.advance(retry.max);
    expect(next.seen).toMatchObject([{ attempt: 2, data: [2, 3] }]);
    expect(service.done).toEqual(range(0, 4));
    expect(await given()).toEqual([]);
    expect(await buffered()).toBe(0);
    await stop(next);
  });
});

describe('what is known of the parts of a window', () => {
  const SIZE = 64;
  const BAD = SIZE - 1;

  /** Each run takes so long. Tells the splits that were stored, with what was handled before each. */
  function slow(took: number, more: ConsumerChoice = {}) {
    const context = setUp();
    const stored: { readonly handled: number; readonly split: SplitState | undefined }[] = [];
    const handled: number[] = [];
    const p = new Process(context.database, {
      around: ({ method, args, proceed }) => {
        if (method === 'reschedule') {
          stored.push({ handled: handled.length, split: (args[1] as WindowRecord).split });
        }
        return proceed();
      },
    });
    p.consumer({
      size: SIZE,
      retry,
      handler: (window) => {
        const { data } = window;
        p.clock.sleep(took);
        handled.push(data.length);
        if (data.includes(BAD)) throw new Error('bad');
      },
      ...more,
    });
    return { ...context, p, stored, handled };
  }

  it.each([
    // After the first part, since nothing was stored before; then as soon as 100 ms have passed.
    { took: 1, runs: [1, 2] },
    { took: 25, runs: [1, 2, 6, 10, 14] },
    { took: 50, runs: [1, 2, 4, 6, 8, 10, 12, 14] },
    { took: 100, runs: range(1, 15) },
    { took: 300, runs: range(1, 15) },
  ])('is stored after 100 ms, with runs that take $took ms', async ({ took, runs }) => {
    const { p, stored, handled, given, buffered } = slow(took);
    await p.start();
    await p.append(...range(0, SIZE));
    await p.advance(1_000);
    // Whole; then two halves of each that failed; then the bad message for the last time.
    expect(handled).toEqual([64, 32, 32, 16, 16, 8, 8, 4, 4, 2, 2, 1, 1, 1]);
    expect(stored.map(({ handled: before }) => before)).toEqual(runs);
    expect(await given()).toEqual([BAD]);
    expect(await buffered()).toBe(0);
    await stop(p);
  });

  it('is where the next process begins when one dies', async () => {
    const { p, database, stored, given, buffered } = slow(50, {
      handler: ({ data }) => {
        p.clock.sleep(50);
        // In the run after the second one that was stored.
        if (data.length === 4) p.kill();
        if (data.includes(BAD)) throw new Error('bad');
      },
    });
    await p.engine.start();
    await p.put(...range(0, SIZE));
    await turns(() => false, 300);
    const last = stored.at(-1)?.split;
    expect(last?.pending).toEqual([{ from: 56, to: 64 }]);

    const done: unknown[] = [];
    const next = new Process(database, { clock: new VirtualClock(p.clock.now()) });
    next.consumer({
      size: SIZE,
      retry,
      handler: ({ data }) => {
        if (data.includes(BAD)) throw new Error('bad');
        done.push(...data);
      },
    });
    await next.engine.start();
    await next.clock.advance(LEASE * 2, some);
    expect(done).toEqual(range(56, BAD));
    expect(await given()).toEqual([BAD]);
    expect(await buffered()).toBe(0);
    await stop(next);
  });
});
