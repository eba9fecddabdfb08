export interface BackoffOptions {
  /** Milliseconds before the first retry. */
  readonly base: number;
  /** Milliseconds no retry waits beyond. */
  readonly max: number;
  /** Share of the wait that is random, 0 to 1, so that replicas do not retry in step. */
  readonly jitter: number;
}

/** Exponential backoff: milliseconds to wait after failure number `failures` (1 is the first). */
export function backoff(options: BackoffOptions, failures: number, random: () => number = Math.random): number {
  const full = Math.min(options.max, options.base * 2 ** Math.min(failures - 1, 30));
  return full * (1 - options.jitter * random());
}
