/**
 * A result that is kept for a sink which may have to be tried again. Sinks take arrays apart as they deliver them (`splice`, `shift`), and one
 * that then fails has to get all of it the next time. It is the same array at each try: some sinks note by it what they have delivered.
 */
export class SteadyResult {
  private readonly all: readonly unknown[] | undefined;

  constructor(private readonly result: unknown) {
    this.all = Array.isArray(result) ? result.slice() : undefined;
  }

  /** For the next try: an array has the elements that it had at first. */
  get value(): unknown {
    if (this.all) restore(this.result as unknown[], this.all);
    return this.result;
  }

  /** For another sink, which is not to see what this one does to an array. */
  copy(): SteadyResult {
    return new SteadyResult(this.all ? this.all.slice() : this.result);
  }
}

/** Writes nothing if nothing is different, for the array may be frozen. */
export function restore(array: unknown[], all: readonly unknown[]): void {
  if (array.length === all.length && all.every((each, index) => Object.is(each, array[index]))) return;
  array.length = all.length;
  for (const [index, each] of all.entries()) array[index] = each;
}
