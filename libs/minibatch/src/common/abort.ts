import type { Clock } from './clock.js';

/** Resolves when the signal aborts. @param forget aborts when nobody waits for it any more; removes the listener */
export function aborted(signal: AbortSignal, forget?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true, ...(forget ? { signal: forget } : {}) });
  });
}

/** Time that work gets to finish after its signal has aborted. */
export interface Grace {
  readonly clock: Clock;
  /** Milliseconds. */
  readonly ms: number;
}

/** What the promise settles with, or undefined if the signal aborts first. How the promise settles later is ignored. */
export function unlessAborted<R>(promise: Promise<R>, signal: AbortSignal, grace?: Grace): Promise<R | undefined> {
  return raceAbort<R | undefined>(promise, signal, (resolve) => {
    if (grace) return grace.clock.schedule(grace.ms, () => resolve(undefined));
    resolve(undefined);
    return undefined;
  });
}

/** What the promise settles with. @throws what `reason` makes, if the signal aborts first */
export function orAborted<R>(promise: Promise<R>, signal: AbortSignal, reason: () => unknown): Promise<R> {
  return raceAbort(promise, signal, (_, reject) => {
    reject(reason());
    return undefined;
  });
}

/** @param onAbort settles the race; returns what cancels that, if it takes a while */
function raceAbort<R>(
  promise: Promise<R>,
  signal: AbortSignal,
  onAbort: (resolve: (value: R) => void, reject: (reason: unknown) => void) => (() => void) | undefined,
): Promise<R> {
  return new Promise((resolve, reject) => {
    let cancel: (() => void) | undefined;
    const abort = () => {
      cancel = onAbort(resolve, reject);
    };
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
    const settled = () => {
      signal.removeEventListener('abort', abort);
      cancel?.();
    };
    promise.then(resolve, reject).finally(settled);
  });
}
