import { invalidOption, show } from '../common/checks.js';

/**
 * What becomes of a message that the stream cannot take, or that a function of the options throws for:
 *
 * - `'fail'`: the source fails, and is restarted with backoff until the stream takes the message or it is gone
 * - `'skip'`: the message is left out, counted and logged; upstream it counts as done
 * - a function puts it somewhere else; once it has resolved, the message counts as done. If it throws or rejects, the source fails and is
 *   restarted with backoff, and the message is redelivered
 */
export type UnstorablePolicy<M> = 'fail' | 'skip' | ((message: M, error: Error) => void | Promise<void>);

/**
 * As {@link UnstorablePolicy}, for a broker that acknowledges each message: `'hold'` leaves the message unacknowledged, so that the broker
 * keeps it and redelivers it with the next connection. The others move on.
 */
export type HoldingPolicy<M> = UnstorablePolicy<M> | 'hold';

/** What becomes of a message that is not of the declared format. A function returns the data to append; undefined leaves the message out. */
export type MalformedPolicy<M, T = unknown> = 'keep' | 'skip' | ((message: M, error: Error) => T | undefined);

/** One of the words, or a function. @throws MinibatchError `InvalidOptions` */
export function checkPolicy<V>(where: string, option: string, given: V, words: readonly V[]): V {
  if (typeof given === 'function' || words.includes(given)) return given;
  const hold = given === 'hold' ? "; 'hold' needs a broker that acknowledges each message, as MQTT does" : '';
  throw invalidOption(where, option, given, `${words.map(show).join(', ')}, or a function${hold}`);
}

/** One of the values. @throws MinibatchError `InvalidOptions` */
export function checkOneOf<V extends string | number>(
  where: string,
  option: string,
  given: unknown,
  values: readonly V[],
  more = '',
): V {
  const found = values.find((value) => value === given);
  if (found !== undefined) return found;
  throw invalidOption(where, option, given, `${values.map(show).join(', ')}${more}`);
}

/** @throws MinibatchError `InvalidOptions` */
export function checkFunction(where: string, option: string, given: unknown): void {
  if (given !== undefined && typeof given !== 'function') throw invalidOption(where, option, given, 'a function');
}
