import { SYSTEM_CLOCK } from '../../common/clock.js';
/** Milliseconds that are left for what is under way when a source is told to stop; after a second it is left behind. */
export const GRACE = 400;

/** Resolves with the promise's value, or with undefined a moment after the signal aborted. */
export async function inTime<R>(
  promise: Promise<R>,
  signal: AbortSignal,
  grace: number = GRACE,
): Promise<R | undefined> {
  let cancel: (() => void) | undefined;
  let aborted: () => void = () => undefined;
  const late = new Promise<undefined>((resolve) => {
    aborted = () => {
      cancel = SYSTEM_CLOCK.schedule(grace, () => resolve(undefined));
    };
    if (signal.aborted) aborted();
    else signal.addEventListener('abort', aborted, { once: true });
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    cancel?.();
    signal.removeEventListener('abort', aborted);
    // It may fail later, when nobody listens any more.
    promise.catch(() => undefined);
  }
}
