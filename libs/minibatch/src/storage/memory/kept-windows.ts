import type { WindowPage, WindowRecord } from '../stream-store.interface.js';

/** A window that was kept after its commit. */
export interface KeptWindow {
  readonly settled: Date;
  /** Undefined once the group has been removed. */
  readonly group: string | undefined;
  readonly partition: number;
  readonly window: WindowRecord;
}

/** Kept windows in the order of their commits. */
export class KeptWindows {
  /** By a growing number, so that a read can resume after a window that has been swept. */
  private windows = new Map<number, KeptWindow>();
  private last = 0;

  get size(): number {
    return this.windows.size;
  }

  add(window: KeptWindow): void {
    this.last += 1;
    this.windows.set(this.last, window);
  }

  page(group: string, partition: number, after: string | undefined, limit: number): WindowPage {
    const windows: (WindowRecord & { settled: Date })[] = [];
    for (const [number, kept] of this.windows) {
      if (number <= Number(after ?? 0) || kept.group !== group || kept.partition !== partition) continue;
      windows.push({ ...structuredClone(kept.window), settled: new Date(kept.settled) });
      if (windows.length >= limit) return { windows, next: String(number) };
    }
    return { windows };
  }

  /** Removes those that were settled before the time; how many that were. */
  sweep(before: Date): number {
    const { size } = this;
    for (const [number, { settled }] of this.windows) if (settled < before) this.windows.delete(number);
    return size - this.size;
  }

  /** Hands the windows of one group to another, or to none. */
  rename(from: string, to: string | undefined): void {
    for (const [number, kept] of this.windows) {
      if (kept.group === from) this.windows.set(number, { ...kept, group: to });
    }
  }
}
