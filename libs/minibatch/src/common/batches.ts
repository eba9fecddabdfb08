/** What one write, command or window may hold. A single item may exceed the bytes: it goes alone. */
export interface BatchLimits {
  readonly items: number;
  readonly bytes: number;
}

export interface Batch<I> {
  readonly items: readonly I[];
  readonly bytes: number;
}

/** The items in batches within the limits, in order; each batch has at least one item, however large that is. */
export function batchesOf<I>(
  items: readonly I[],
  limits: BatchLimits,
  bytesOf: (item: I) => number,
): readonly Batch<I>[] {
  const batches: Batch<I>[] = [];
  let from = 0;
  let sum = 0;
  for (const [index, item] of items.entries()) {
    const bytes = bytesOf(item);
    if (index > from && (index - from >= limits.items || sum + bytes > limits.bytes)) {
      batches.push({ items: items.slice(from, index), bytes: sum });
      from = index;
      sum = 0;
    }
    sum += bytes;
  }
  // Most often all fit into one, which needs no copy.
  if (items.length > 0) batches.push({ items: from === 0 ? items : items.slice(from), bytes: sum });
  return batches;
}

/** How many of the first units make one batch within the limits; at least one, if there is any. A unit counts as several items. */
export function batchLength<U>(
  units: Iterable<U>,
  limits: BatchLimits,
  itemsOf: (unit: U) => number,
  bytesOf: (unit: U) => number,
): number {
  let length = 0;
  let items = 0;
  let bytes = 0;
  for (const unit of units) {
    items += itemsOf(unit);
    bytes += bytesOf(unit);
    if (length > 0 && (items > limits.items || bytes > limits.bytes)) break;
    length += 1;
  }
  return length;
}
