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

/** Milliseconds. Node fires a longer timer at once. Also the most to hand to a library that sets timers of its own. */
export const LONGEST_TIMER = 2 ** 31 - 1;

/** The only place that sets timers: lint refuses them elsewhere. */
export class SystemClock implements Clock {
  /** @param holds whether a timer keeps the process alive */
  constructor(private readonly holds = true) {}

  now(): number {
    return Date.now();
  }

  monotonic(): number {
    return performance.now();
  }

  schedule(ms: number, callback: () => void): () => void {
    let timer: NodeJS.Timeout;
    const arm = (rest: number) => {
      // Node cuts fractions off: the timer would fire early, and what asks the clock then would have to wait again.
      const wait = Math.max(Math.ceil(rest), 0);
      timer =
        wait > LONGEST_TIMER
          ? setTimeout(() => arm(due - this.monotonic()), LONGEST_TIMER)
          : setTimeout(callback, wait);
      if (!this.holds) timer.unref();
    };
    const due = this.monotonic() + ms;
    arm(ms);
    return () => clearTimeout(timer);
  }
}

/** For what has no virtual clock: connections to servers and files. */
export const SYSTEM_CLOCK = new SystemClock();
/** The same; its timers do not keep the process alive. */
export const BACKGROUND_CLOCK = new SystemClock(false);

/** Calls `callback` every `ms`, until the answer is called. */
export function every(clock: Clock, ms: number, callback: () => void): () => void {
  let cancel = (): void => undefined;
  const arm = () => {
    cancel = clock.schedule(ms, () => {
      arm();
      callback();
    });
  };
  arm();
  return () => cancel();
}

/** The same clock, with timers that do not keep the process alive. */
export function background(clock: Clock): Clock {
  return clock instanceof SystemClock ? new SystemClock(false) : clock;
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

/**
 * Resolves when the work is done, but no later than in `ms` milliseconds.
 *
 * @throws what the work rejects with, if it does so in time
 */
export async function within(clock: Clock, ms: number, work: Promise<unknown>): Promise<void> {
  const done = new AbortController();
  try {
    await Promise.race([work, delay(clock, ms, done.signal)]);
  } finally {
    done.abort();
  }
}
