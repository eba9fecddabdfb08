/**
 * The engine's only way to time. Tests put a virtual clock in its place, so that windows of minutes, backoffs and
 * leases run without waiting.
 */
export interface Clock {
  /** Wall clock, milliseconds since the epoch; may jump. Used for what is stored and compared with `created`. */
  now(): number;
  /** Milliseconds that only go forward; the origin means nothing. Used for leases and durations. */
  monotonic(): number;
  /** Calls `callback` once after `ms`, rounded up to whole ones; the answer cancels it. */
  schedule(ms: number, callback: () => void): () => void;
}

/** Node would fire a longer timer at once. */
const LONGEST_TIMER = 2 ** 31 - 1;

export class SystemClock implements Clock {
  now(): number {
    return Date.now();
  }

  monotonic(): number {
    return performance.now();
  }

  schedule(ms: number, callback: () => void): () => void {
    // Node cuts fractions off: the timer would fire early, and what asks the clock then would have to wait again.
    const timer = setTimeout(callback, Math.min(Math.max(Math.ceil(ms), 0), LONGEST_TIMER));
    return () => clearTimeout(timer);
  }
}

/** Resolves after `ms`, or at once when `signal` aborts: a loop looks at its signal afterwards anyway. */
export function delay(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) {
      resolve();
      return;
    }
    const done = () => {
      cancel();
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const cancel = clock.schedule(ms, done);
    signal?.addEventListener('abort', done, { once: true });
  });
}
