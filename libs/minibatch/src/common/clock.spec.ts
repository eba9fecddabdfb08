import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { delay, every, SystemClock } from './clock.js';

const DAY = 24 * 60 * 60 * 1_000;

describe('SystemClock', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  // Node's timers end after 24.8 days.
  it.each([25, 49.8, 400])('holds a time of %d days', (days) => {
    const fired: number[] = [];
    const clock = new SystemClock();
    const began = clock.monotonic();
    clock.schedule(days * DAY, () => fired.push(clock.monotonic() - began));
    vi.advanceTimersByTime(days * DAY - 1);
    expect(fired).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(fired).toEqual([days * DAY]);
  });

  it('cancels a timer that was armed again', () => {
    let fired = false;
    const cancel = new SystemClock().schedule(60 * DAY, () => (fired = true));
    vi.advanceTimersByTime(30 * DAY);
    cancel();
    expect(vi.getTimerCount()).toBe(0);
    vi.advanceTimersByTime(60 * DAY);
    expect(fired).toBe(false);
  });

  it('lets a delay without end last until its signal aborts', async () => {
    const stop = new AbortController();
    let over = false;
    const waiting = delay(new SystemClock(), Number.POSITIVE_INFINITY, stop.signal).then(() => (over = true));
    await vi.advanceTimersByTimeAsync(100 * DAY);
    expect(over).toBe(false);
    stop.abort();
    await waiting;
    expect(vi.getTimerCount()).toBe(0);
  });

  it('repeats until it is told to stop', () => {
    let count = 0;
    const stop = every(new SystemClock(), 1_000, () => (count += 1));
    vi.advanceTimersByTime(3_500);
    expect(count).toBe(3);
    stop();
    expect(vi.getTimerCount()).toBe(0);
  });
});
