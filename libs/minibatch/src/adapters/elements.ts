/**
 * What is made of a result: of each element of an array, otherwise of the result. Undefined, and undefined elements, give nothing. A result may
 * be anything that a method has returned, so reading it may throw.
 *
 * @param unreadable the error for an element, or for all of the result if there is no index
 */
export function eachElement<T>(
  result: unknown,
  make: (element: unknown, index: number | undefined) => T,
  unreadable: (index: number | undefined, cause: unknown) => Error,
): readonly T[] {
  const read = <V>(index: number | undefined, work: () => V): V => {
    try {
      return work();
    } catch (cause) {
      throw unreadable(index, cause);
    }
  };
  const list = read(undefined, () => (Array.isArray(result) ? (result as readonly unknown[]) : undefined));
  if (!list) return result === undefined ? [] : [make(result, undefined)];
  const made: T[] = [];
  const length = read(undefined, () => list.length);
  for (let index = 0; index < length; index += 1) {
    const element = read(index, () => list[index]);
    if (element !== undefined) made.push(make(element, index));
  }
  return made;
}

/** The entries of an object that a function of the user's has returned. @throws what its getters throw */
export function entriesOf(given: unknown): readonly (readonly [name: string, value: unknown])[] {
  return given === undefined || given === null ? [] : Object.entries(given);
}
