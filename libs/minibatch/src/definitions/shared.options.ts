import type { StringValue } from 'ms';
import type { BackoffOptions } from '../common/backoff.js';
import { checkDuration, checkInteger, checkKeys, invalidOption } from '../common/checks.js';

/** A number is milliseconds; a string is read by the `ms` package: `'5s'`, `'2 minutes'`. */
export type Duration = number | StringValue;

/** Waits between the attempts of a failed window, the tries of a failed sink, and the starts of a failed source. */
export interface RetryOptions {
  /** Wait before the first retry; doubles with each further one. Milliseconds, or a string like `'1s'`. @default '1s' */
  readonly backoff?: Duration;
  /** Longest wait before a retry: milliseconds, or a string like `'1 minute'`. @default '1 minute' */
  readonly maxBackoff?: Duration;
  /** Share of the wait that is random, 0 to 1, so that replicas do not retry in step. @default 0.5 */
  readonly jitter?: number;
}

/** The same for a consumer: how often its method is tried with a window before the bad messages in it are isolated. */
export interface AttemptRetryOptions extends RetryOptions {
  /**
   * Runs of the method with the whole window. Then the window is taken apart: good messages get through, bad ones become dead
   * letters. @default 5
   */
  readonly attempts?: number;
  /**
   * A run that takes longer counts as failed, and aborts `window.signal`. The next one starts when it has settled, so a method that may
   * hang has to observe the signal: see `onTimeout`. Milliseconds, or a string like `'30s'`. @default no limit
   */
  readonly timeout?: Duration;
  /**
   * A sink's `put` that takes longer counts as a failed try and aborts `window.signal`; it is retried, and the result of the late one
   * is ignored. Sinks of this package stop their work then; a custom sink has to observe the signal. Milliseconds, or a string like
   * `'30s'`. @default no limit
   */
  readonly sinkTimeout?: Duration;
  /**
   * What becomes of a run, or a `put`, that continues after its timeout. `'wait'`: it keeps its worker until it settles, so there are never
   * more runs than `workers`; one that never settles stops the worker for good, and status and health name it. `'abandon'`: the next run
   * starts alongside it. Then `workers` no longer limits anything: two runs may work on the same messages at the same time, and runs that hang
   * pile up until the process is out of memory. @default 'wait'
   */
  readonly onTimeout?: 'wait' | 'abandon';
}

/** Together with everything that has a limit of its own, this fits into the 10 s that `docker stop` waits. */
export const SHUTDOWN_TIMEOUT = 5_000;

export const DEFAULT_RETRY: BackoffOptions & {
  readonly attempts: number;
  readonly timeout?: number;
  readonly sinkTimeout?: number;
  readonly onTimeout?: 'wait' | 'abandon';
} = {
  base: 1000,
  max: 60_000,
  jitter: 0.5,
  attempts: 5,
};

const BACKOFF_OPTIONS = ['backoff', 'maxBackoff', 'jitter'];

/** Fills what is not given from `defaults`. @throws MinibatchError `InvalidOptions` */
export function resolveRetry(
  where: string,
  retry: RetryOptions | undefined,
  defaults: BackoffOptions = DEFAULT_RETRY,
): BackoffOptions {
  if (retry === undefined) return defaults;
  checkKeys(`${where}: retry`, retry, BACKOFF_OPTIONS);
  return backoffOf(where, retry, defaults);
}

/** As `resolveRetry`, for consumers. @throws MinibatchError `InvalidOptions` */
export function resolveAttempts(
  where: string,
  retry: AttemptRetryOptions | undefined,
  defaults: ResolvedAttempts = DEFAULT_RETRY,
): ResolvedAttempts {
  if (retry === undefined) return defaults;
  checkKeys(`${where}: retry`, retry, [...BACKOFF_OPTIONS, 'attempts', 'timeout', 'sinkTimeout', 'onTimeout']);
  const limit = (option: 'timeout' | 'sinkTimeout') =>
    retry[option] === undefined ? defaults[option] : checkDuration(where, `retry.${option}`, retry[option], { min: 1 });
  const timeout = limit('timeout');
  const sinkTimeout = limit('sinkTimeout');
  const onTimeout = retry.onTimeout ?? defaults.onTimeout;
  if (onTimeout !== undefined && onTimeout !== 'wait' && onTimeout !== 'abandon')
    throw invalidOption(where, 'retry.onTimeout', onTimeout, "'wait' or 'abandon'");
  return {
    ...backoffOf(where, retry, defaults),
    attempts: checkInteger(where, 'retry.attempts', retry.attempts ?? defaults.attempts, 1),
    ...(timeout === undefined ? {} : { timeout }),
    ...(sinkTimeout === undefined ? {} : { sinkTimeout }),
    ...(onTimeout === undefined ? {} : { onTimeout }),
  };
}

export type ResolvedAttempts = typeof DEFAULT_RETRY;

function backoffOf(where: string, retry: RetryOptions, defaults: BackoffOptions): BackoffOptions {
  const base = checkDuration(where, 'retry.backoff', retry.backoff ?? defaults.base, { min: 1 });
  const max = checkDuration(where, 'retry.maxBackoff', retry.maxBackoff ?? Math.max(defaults.max, base), { min: 1 });
  if (max < base)
    throw invalidOption(where, 'retry.maxBackoff', retry.maxBackoff, `at least retry.backoff (${base} ms)`);
  const jitter: unknown = retry.jitter ?? defaults.jitter;
  if (typeof jitter !== 'number' || !(jitter >= 0 && jitter <= 1)) {
    throw invalidOption(where, 'retry.jitter', jitter, 'a number from 0 to 1');
  }
  return { base, max, jitter };
}
