import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { delay } from '../common/clock.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { FixedTimeWindow } from '../windows/fixed-time.window.js';
import { type MessageView, WindowEmitter } from '../windows/window-emitter.js';
import type { Window } from '../windows/window.js';
import { type ConsumerChoice, LEASE, Process, STREAM, turns } from './process.spec.support.js';

interface Handled {
  readonly at: number;
  readonly size: number;
  /** Milliseconds that the first message had waited when its handler began. */
  readonly waited: number;
}

/** A window that is due, but not full, has not begun while no worker is free: it grows instead. */
describe('windows that are due while all workers are busy', () => {
  let p: Process;
  let handled: Handled[];
  /** Releases handlers that wait for it. */
  let go: (() => void)[];
  let appended: number;

  const busy = (ms: number) => async (window: Window) => {
    const now = p.clock.now();
    const first = window.messages[0]?.created.getTime() ?? now;
    handled.push({ at: now, size: window.data.length, waited: now - first });
    await delay(p.clock, ms);
  };
  const held = (window: Window) => {
    handled.push({ at: p.clock.now(), size: window.data.length, waited: 0 });
    return new Promise<void>((resolve) => go.push(resolve));
  };
  const begin = async (options: ConsumerChoice) => {
    await p.consumer(options).start();
  };
  const put = async (count: number) => {
    await p.put(...Array.from({ length: count }, () => (appended += 1)));
  };
  /** Appends one message at a time, at this rate per second. */
  const flow = async (perSecond: number, seconds: number) => {
    const start = p.clock.now();
    for (let i = 1; i <= perSecond * seconds; i += 1) {
      await put(1);
      await p.clock.advance(start + Math.round((i * 1_000) / perSecond) - p.clock.now());
    }
  };
  const rest = () => p.clock.advance(0);
  const sizes = () => handled.map(({ size }) => size);

  beforeEach(() => {
    p = new Process(new MemoryDatabase());
    handled = [];
    go = [];
    appended = 0;
  });
  afterEach(async () => {
    const stopping = p.engine.stop(0);
    for (const resolve of go) resolve();
    await p.clock.advance(10_000);
    await stopping;
  });

  for (const [name, options] of [
    ['count windows with a longest wait', { size: 1_000, interval: 100 }],
    ['relaxed time windows', { interval: 100 }],
  ] as const) {
    it(`${name} take what has gathered, and nothing waits for long`, async () => {
      await begin({ ...options, handler: busy(500) });
      await flow(95, 30);
      const steady = handled.slice(2);
      expect(steady.length).toBeGreaterThan(50);
      expect(Math.min(...steady.map(({ size }) => size))).toBeGreaterThanOrEqual(45);
      expect(Math.max(...steady.map(({ size }) => size))).toBeLessThanOrEqual(60);
      expect(Math.max(...handled.map(({ waited }) => waited))).toBeLessThanOrEqual(600);
    });
  }

  it('with several workers, one of them waits for the next due window at a time', async () => {
    await begin({ size: 1_000, interval: 100, workers: 3, handler: busy(500) });
    await flow(95, 20);
    expect(Math.max(...handled.map(({ waited }) => waited))).toBeLessThanOrEqual(300);
    expect(handled.slice(3).reduce((sum, { size }) => sum + size, 0) / (handled.length - 3)).toBeGreaterThan(15);
  });

  it('full windows are claimed ahead, and what is left of them waits', async () => {
    await begin({ size: 10, interval: 100, handler: held });
    await put(35);
    await rest();
    await p.clock.advance(1_000);
    expect(sizes()).toEqual([10]);
    expect(p.engine.status()[0]).toMatchObject({ inFlight: 3, buffered: 5 });
    await put(4);
    await p.clock.advance(1_000);
    for (let i = 0; i < 4; i += 1) {
      go.shift()?.();
      await rest();
    }
    expect(sizes()).toEqual([10, 10, 10, 9]);
  });

  it('an idle worker takes a due window at once', async () => {
    await begin({ size: 10, interval: 100, workers: 2, handler: held });
    await put(3);
    await p.clock.advance(100);
    await put(4);
    await p.clock.advance(100);
    await put(5);
    await p.clock.advance(100);
    expect(sizes()).toEqual([3, 4]);
    expect(p.engine.status()[0]).toMatchObject({ inFlight: 2, buffered: 5 });
  });

  it('a worker that a run of an earlier term keeps is not free', async () => {
    const database = new MemoryDatabase();
    p = new Process(database);
    await begin({ size: 10, interval: 100, handler: held });
    await put(1);
    await p.clock.advance(100);
    const other = new Process(database);
    // Its window is taken over and committed there; then the lease comes back.
    other.consumer({ size: 10, interval: 100 });
    p.clock.sleep(2 * LEASE);
    void other.engine.start();
    await other.clock.advance(2 * LEASE);
    await other.engine.stop(0);
    await p.clock.advance(LEASE);
    expect(other.seen).toHaveLength(1);
    await put(3);
    await p.clock.advance(200);
    await put(4);
    await p.clock.advance(200);
    expect([sizes(), p.engine.status()[0]?.buffered]).toEqual([[1], 7]);
    go.shift()?.();
    await turns(() => handled.length > 1);
    expect(sizes()).toEqual([1, 7]);
  });

  it('a flush does not wait for a worker', async () => {
    await begin({ size: 10, interval: 100, handler: held });
    await put(3);
    await p.clock.advance(100);
    await put(4);
    await p.store.updateStream(STREAM, { flush: true });
    void p.engine.refresh(STREAM);
    await rest();
    await put(2);
    await p.clock.advance(1_000);
    expect(p.engine.status()[0]).toMatchObject({ inFlight: 2, buffered: 2 });
    for (let i = 0; i < 3; i += 1) {
      go.shift()?.();
      await rest();
    }
    expect(sizes()).toEqual([3, 4, 2]);
  });

  it('a window in backoff keeps its worker, and the next one grows', async () => {
    let fails = true;
    await begin({
      size: 1_000,
      interval: 100,
      handler: ({ data, attempt }) => {
        if (fails) throw new Error('not now');
        handled.push({ at: p.clock.now(), size: data.length, waited: attempt });
      },
    });
    await flow(50, 2);
    fails = false;
    await flow(50, 2);
    await p.clock.advance(1_000);
    const [retried, next] = handled;
    expect(retried).toMatchObject({ size: 5, waited: 3 });
    expect(next?.size).toBeGreaterThan(100);
  });

  it('while windows are set aside, the next ones are tried all the same', async () => {
    const bad = new Set([1, 2]);
    await begin({
      size: 1_000,
      interval: 100,
      retry: { base: 1_000, max: 2_000, jitter: 0, attempts: 1 },
      handler: ({ data }) => {
        if (data.some((value) => bad.has(value as number))) throw new Error('bad');
      },
    });
    await put(1);
    await p.clock.advance(200);
    await put(1);
    await p.clock.advance(10_000);
    expect(p.engine.status()[0]).toMatchObject({ activity: 'blocked', committedMessages: 0 });
    await put(1);
    await p.clock.advance(10_000);
    expect(p.engine.status()[0]).toMatchObject({ deadLettered: 1, committedMessages: 2 });
    await put(1);
    await p.clock.advance(10_000);
    expect(p.engine.status()[0]).toMatchObject({ deadLettered: 2, committedMessages: 4, inFlight: 0 });
  });

  it('a fixed interval has the same messages, whether or not a worker is free', async () => {
    await begin({ interval: 1_000, emitter: new FixedTimeWindow(), handler: held });
    for (let i = 0; i < 4; i += 1) {
      await put(2);
      await p.clock.advance(1_000);
    }
    await p.clock.advance(2_000);
    for (let i = 0; i < 4; i += 1) {
      go.shift()?.();
      await rest();
    }
    expect(sizes()).toEqual([2, 2, 2, 2]);
  });

  it('a custom strategy is told whether a worker is free', async () => {
    class Due extends WindowEmitter {
      windowReady({ length, workerFree }: MessageView) {
        return length > 0 && workerFree;
      }
      query(view: MessageView) {
        return view.messages;
      }
    }
    await begin({ emitter: new Due(), handler: held });
    await put(1);
    await rest();
    await put(2);
    await rest();
    await put(3);
    await rest();
    expect(sizes()).toEqual([1]);
    go.shift()?.();
    await turns(() => handled.length > 1);
    expect(sizes()).toEqual([1, 5]);
  });

  it('a larger window than is read ahead is read to its end while another worker is busy', async () => {
    await begin({ size: 5_000, workers: 2, handler: held });
    await put(5_000);
    await rest();
    for (let i = 0; i < 50; i += 1) await put(100);
    await rest();
    expect(sizes()).toEqual([5_000, 5_000]);
  });
});
