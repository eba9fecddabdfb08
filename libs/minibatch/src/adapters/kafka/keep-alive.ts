import { asError } from '../../errors/error-text.js';
import { type Clock, delay } from '../../common/clock.js';

/**
 * Keeps a member alive while something takes long: beats until it is stopped.
 *
 * @returns stops it, and resolves with what a beat failed with: a rebalance, as a rule
 */
export function keepAlive(
  beat: () => Promise<void>,
  every: number,
  clock: Clock,
): { stop(): Promise<Error | undefined> } {
  const over = new AbortController();
  const beating = (async () => {
    for (;;) {
      await delay(clock, every, over.signal);
      if (over.signal.aborted) return undefined;
      try {
        await beat();
      } catch (error) {
        return asError(error);
      }
    }
  })();
  return {
    stop: () => {
      over.abort();
      return beating;
    },
  };
}
