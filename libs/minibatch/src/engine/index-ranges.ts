import type { IndexRange } from '../storage/stream-store.interface.js';

/** A set of indices as ranges, in order: a run of a thousand failed messages takes no more room than one of them. */
export class IndexRanges {
  private ranges: IndexRange[];

  constructor(ranges: readonly IndexRange[] = []) {
    this.ranges = [...ranges];
  }

  get isEmpty(): boolean {
    return this.ranges.length === 0;
  }

  get first(): IndexRange | undefined {
    return this.ranges[0];
  }

  add(index: number): void {
    const last = this.ranges.at(-1);
    // Nearly always behind the others: parts are tried in order.
    if (!last || index > last.to) this.ranges.push({ from: index, to: index + 1 });
    else if (index === last.to) this.ranges[this.ranges.length - 1] = { from: last.from, to: index + 1 };
    else this.insert(index);
  }

  get size(): number {
    return this.ranges.reduce((sum, { from, to }) => sum + to - from, 0);
  }

  /** Takes the n-th index out, counted from 0. */
  take(n: number): number | undefined {
    let rest = n;
    for (const [at, { from, to }] of this.ranges.entries()) {
      if (rest >= to - from) {
        rest -= to - from;
        continue;
      }
      const index = from + rest;
      const left = [
        { from, to: index },
        { from: index + 1, to },
      ];
      this.ranges.splice(at, 1, ...left.filter((range) => range.to > range.from));
      return index;
    }
    return undefined;
  }

  shift(): IndexRange | undefined {
    return this.ranges.shift();
  }

  /** Takes the first index out. */
  shiftIndex(): void {
    const first = this.ranges.shift();
    if (first && first.to - first.from > 1) this.ranges.unshift({ from: first.from + 1, to: first.to });
  }

  toArray(): readonly IndexRange[] {
    return [...this.ranges];
  }

  private insert(index: number): void {
    const merged: { from: number; to: number }[] = [];
    for (const { from, to } of [...this.ranges, { from: index, to: index + 1 }].sort((a, b) => a.from - b.from)) {
      const last = merged.at(-1);
      if (last && from <= last.to) last.to = Math.max(last.to, to);
      else merged.push({ from, to });
    }
    this.ranges = merged;
  }
}
