import { invalidOption } from '../common/checks.js';
import { appendOptions, refusedCall } from './append-options.js';

/**
 * The messages of a call that appends many, each with its options. A hole in the list counts as undefined, so it is refused with
 * its call; `map` would leave it a hole, and take the calls along that are written with it.
 *
 * @throws AppendError `InvalidOptions` if it is no array, or if the options of a message are wrong
 */
export function messagesOf<T, O extends object>(
  stream: string,
  data: readonly T[],
  each: ((item: T, index: number) => O) | undefined,
): { data: T; options: Partial<O> | undefined }[] {
  const where = `appendMany to '${stream}'`;
  return listOf(where, data).map((item, index) => {
    const options = each?.(item, index) ?? undefined;
    return { data: item, options: options && appendOptions(`${where}, message ${index}`, options, 'each') };
  });
}

function listOf<T>(where: string, data: readonly T[]): T[] {
  try {
    if (Array.isArray(data)) return Array.from(data as readonly T[]);
    throw invalidOption(where, 'data', data, 'an array');
  } catch (error) {
    throw refusedCall(where, error);
  }
}
