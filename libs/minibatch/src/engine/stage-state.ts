import type { Effects, StateRow } from '../storage/stream-store.interface.js';
import type { Stage } from './engine.interface.js';
import { costOf, type KnownRows, StateChanges } from './state-changes.js';

/** Rows that one read asks for. */
const READ = 2_000;

/** A row as it is in the store, or will be as soon as the windows in flight are committed. */
interface KnownRow {
  /** Undefined: there is no such row. */
  readonly row: StateRow | undefined;
  /** Windows in flight that have changed it: the store does not have it yet. */
  readonly pins: number;
}

/**
 * The state of one consumer, as the holder of its lease knows it. Windows change it one after another; what one changes is visible to the
 * next at once, and is committed in the same order. It ends with the lease term, and nothing is left of what was not committed.
 */
export class StageState implements KnownRows {
  /** The ones used last come last. */
  private readonly known = new Map<string, KnownRow>();
  private bytes = 0;

  constructor(
    /** The rows with these slots that are in the store. Rejects only when the lease term is over. */
    private readonly read: (slots: readonly string[]) => Promise<readonly StateRow[]>,
    private readonly stage: Pick<Stage, 'values' | 'cacheBytes'>,
  ) {}

  /** Begins an attempt at a window. */
  begin(window: string): StateChanges {
    return new StateChanges(window, this, this.stage.values);
  }

  /** The rows with these slots; undefined for those that do not exist. Rejects only when the lease term is over. */
  async load(slots: Iterable<string>): Promise<ReadonlyMap<string, StateRow | undefined>> {
    const found = new Map<string, StateRow | undefined>();
    const missing: string[] = [];
    for (const slot of new Set(slots)) {
      const known = this.known.get(slot);
      if (!known) missing.push(slot);
      else {
        this.know(slot, known);
        found.set(slot, known.row);
      }
    }
    for (let from = 0; from < missing.length; from += READ) {
      const some = missing.slice(from, from + READ);
      const rows = new Map((await this.read(some)).map((row) => [row.slot, row]));
      for (const slot of some) {
        // A window may have changed it while it was read for an attempt that has timed out.
        if (!this.known.has(slot)) this.know(slot, { row: rows.get(slot), pins: 0 });
        found.set(slot, this.known.get(slot)?.row);
      }
    }
    return found;
  }

  /** The window is through: what it has changed counts for the next ones. */
  apply({ put = [], remove = [] }: Effects): void {
    for (const row of put) this.know(row.slot, { row, pins: this.pinsOf(row.slot) + 1 });
    for (const slot of remove) this.know(slot, { row: undefined, pins: this.pinsOf(slot) + 1 });
  }

  /** The window has left the store, which has its rows from now on. */
  left({ put = [], remove = [] }: Effects): void {
    for (const { slot } of put) this.unpin(slot);
    for (const slot of remove) this.unpin(slot);
    this.forget();
  }

  private unpin(slot: string): void {
    const found = this.known.get(slot);
    if (found) this.known.set(slot, { ...found, pins: found.pins - 1 });
  }

  private pinsOf(slot: string): number {
    return this.known.get(slot)?.pins ?? 0;
  }

  private know(slot: string, row: KnownRow): void {
    const before = this.known.get(slot);
    if (before) this.bytes -= costOf(slot, before.row?.value);
    this.known.delete(slot);
    this.known.set(slot, row);
    this.bytes += costOf(slot, row.row?.value);
  }

  /** Attempts have what they have loaded in hand. */
  private forget(): void {
    for (const [slot, { row, pins }] of this.known) {
      if (this.bytes <= this.stage.cacheBytes) return;
      if (pins > 0) continue;
      this.known.delete(slot);
      this.bytes -= costOf(slot, row?.value);
    }
  }
}
