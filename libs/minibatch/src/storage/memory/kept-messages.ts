import type { MessageId } from '../stream-store.interface.js';
import type { BufferedEntry } from './message-list.js';

/** A message that was kept after its commit. */
export interface KeptEntry {
  readonly settled: Date;
  readonly entry: BufferedEntry;
}

/** Kept messages in the order of their ids. */
export class KeptMessages {
  private entries: KeptEntry[] = [];

  get size(): number {
    return this.entries.length;
  }

  add(kept: KeptEntry): void {
    this.entries.splice(this.placeAfter(kept.entry.id), 0, kept);
  }

  *after(after: MessageId | undefined): Generator<BufferedEntry> {
    const from = after === undefined ? 0 : this.placeAfter(after);
    for (const { entry } of this.entries.slice(from)) yield entry;
  }

  /** Removes those that were settled before the time; how many that were. */
  sweep(before: Date): number {
    const { size } = this;
    this.entries = this.entries.filter(({ settled }) => settled >= before);
    return size - this.size;
  }

  /** They are kept in nearly the order of their ids, so the place is near the end. */
  private placeAfter(id: MessageId): number {
    let low = 0;
    let high = this.entries.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.entries[middle]!.entry.id <= id) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
