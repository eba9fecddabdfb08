import { changed, isBuiltIn, type Untyped, usesFunctions } from './aggregates.js';
import { type ContentKind, type Held, heldOf } from './content.js';
import { copyOf, isPlainData } from './plain-copy.js';
import type { FailedItem, FiredWindow, TimedItem } from './window-logic.js';

export interface AccumulatorLimit {
  /** Most bytes of an accumulator. */
  readonly most: number;
  /** Bytes of a value as stored. @throws if it can't be stored */
  readonly sizeOf: (value: unknown) => number;
  /** What an item failed with that made an accumulator too large. */
  readonly tooLarge: (bytes: number) => unknown;
}

/** A `merge` of the application has thrown. */
export class MergeFailed extends Error {
  constructor(
    readonly parts: readonly unknown[],
    override readonly cause: unknown,
  ) {
    super('merge');
  }
}

/** All in one; they are not changed. @throws what a `merge` of the application throws */
export function mergeAll(aggregate: Untyped, [first, ...others]: readonly unknown[]): unknown {
  let value = copyOf(first);
  // What is merged into may keep parts of what is merged.
  for (const from of others) value = changed(value, aggregate.merge?.(value, copyOf(from)));
  return value;
}

/** Accumulators of an aggregate. */
export class AggregateContent implements ContentKind {
  readonly revises = true;
  /** An item is added once more when a batch is: what `add` has done to it must not be seen then. */
  private readonly dataFor: (item: TimedItem) => unknown;
  private readonly isStorable: boolean;

  constructor(
    private readonly aggregate: Untyped,
    private readonly limit: AccumulatorLimit,
  ) {
    this.isStorable = isBuiltIn(aggregate) && !usesFunctions(aggregate);
    this.dataFor = isBuiltIn(aggregate) ? ({ data }) => data : ({ data }) => copyOf(data);
  }

  empty(): Held {
    return heldOf(this.aggregate.init(), false);
  }

  load(value: unknown): Held {
    return heldOf(value, false);
  }

  add(held: Held, item: TimedItem): void {
    if (!held.isOwn) {
      held.before = held.value;
      held.value = copyOf(held.value);
      held.isOwn = true;
    }
    try {
      held.value = this.with(held.value, item);
      held.added.push(item);
    } catch (error) {
      // It may have changed half of the accumulator: once more, without it.
      held.value = this.replay(held.before, held.added);
      throw error;
    }
  }

  /** @throws MergeFailed */
  merge(held: readonly Held[]): Held {
    if (held.length === 0) return this.empty();
    const parts = held.map(({ value }) => value);
    try {
      return heldOf(mergeAll(this.aggregate, parts), false);
    } catch (error) {
      throw new MergeFailed(parts, error);
    }
  }

  seal(): boolean {
    return false;
  }

  given({ value }: Held): Pick<FiredWindow, 'value' | 'failed' | 'parts'> {
    const parts = [value];
    try {
      // A result may be part of the accumulator, and a function may change what it is given.
      return { value: this.aggregate.result(copyOf(value)), parts };
    } catch (failed) {
      return { failed, parts };
    }
  }

  rows(): readonly string[] {
    return [];
  }

  finish(held: Held, _chunks: unknown, isLight = false): readonly FailedItem[] {
    // What this package makes of data that can be stored can be stored.
    if (isLight && (this.isStorable || isPlainData(held.value))) return [];
    if (held.added.length === 0 || this.reason(held.value) === undefined) return [];
    const failed: FailedItem[] = [];
    let value = copyOf(held.before);
    for (const item of held.added) {
      const before = copyOf(value);
      value = this.with(value, item);
      const error = this.reason(value);
      if (error === undefined) continue;
      value = before;
      failed.push({ item, error });
    }
    return failed;
  }

  private with(value: unknown, item: TimedItem): unknown {
    return changed(value, this.aggregate.add(value, this.dataFor(item), item.message, item));
  }

  private replay(before: unknown, items: readonly TimedItem[]): unknown {
    let value = copyOf(before);
    for (const item of items) value = this.with(value, item);
    return value;
  }

  /** Why it can't be stored. */
  private reason(value: unknown): unknown {
    try {
      const bytes = this.limit.sizeOf(value);
      return bytes > this.limit.most ? this.limit.tooLarge(bytes) : undefined;
    } catch (error) {
      return error;
    }
  }
}
