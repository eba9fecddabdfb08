import { asError } from '../../errors/error-text.js';

export interface FailedWork<I> {
  readonly item: I;
  readonly error: Error;
}

/**
 * Works on all items, started in their order, a few of them at the same time. One that fails does not hold up the others; but none is
 * started after the signal aborted. Resolves with the items that failed, in their order.
 */
export async function inParallel<I>(
  items: readonly I[],
  concurrency: number,
  signal: AbortSignal,
  work: (item: I) => Promise<void>,
): Promise<readonly FailedWork<I>[]> {
  const failures: FailedWork<I>[] = [];
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const item = items[next] as I;
      next += 1;
      try {
        signal.throwIfAborted();
        await work(item);
      } catch (error) {
        failures.push({ item, error: asError(error) });
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, items.length) }, worker));
  return failures;
}
