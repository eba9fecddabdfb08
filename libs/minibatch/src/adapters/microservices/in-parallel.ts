import { asError } from '../../errors/error-text.js';
/**
 * Works on all items, begun in their order, a few of them at the same time. One that fails does not hold up the others; but none is
 * begun after the signal aborted. Resolves with the errors.
 */
export async function inParallel<I>(
  items: readonly I[],
  concurrency: number,
  signal: AbortSignal,
  work: (item: I) => Promise<void>,
): Promise<readonly Error[]> {
  const failures: Error[] = [];
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const item = items[next] as I;
      next += 1;
      try {
        signal.throwIfAborted();
        await work(item);
      } catch (error) {
        failures.push(asError(error));
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, items.length) }, worker));
  return failures;
}
