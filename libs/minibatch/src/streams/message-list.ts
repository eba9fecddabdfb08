import { invalidOption } from '../internal/checks.js';

/**
 * The messages of a call that appends many, each with its options. A hole in the list counts as undefined, so it is refused with
 * its call; `map` would leave it a hole, and take the calls along that are written with it.
 *
 * @throws MinibatchError `InvalidOptions` if it is no array
 */
export function messagesOf<T, O extends object>(
  stream: string,
  data: readonly T[],
  each: ((item: T, index: number) => O) | undefined,
): { data: T; options: O | Record<never, never> }[] {
  if (!Array.isArray(data)) throw invalidOption(`appendMany to '${stream}'`, 'data', data, 'an array');
  return Array.from(data as readonly T[], (item, index) => ({ data: item, options: each?.(item, index) ?? {} }));
}
