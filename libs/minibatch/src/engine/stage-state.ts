import type { Clock } from '../common/clock.js';
import type { Effects, StateLimits, StatePage, StateRow, WindowRecord } from '../storage/stream-store.interface.js';
import type { Stage } from './engine.interface.js';
import { isOfEngine } from './fired-slots.js';
import { type Attempted, byDue, costOf, type KnownRows, StateChanges } from './state-changes.js';

/** Rows that one read asks for. */
const READ = 2_000;
/** Of rows that are found by one read. */
const DUE_BYTES = 4 * 1024 * 1024;
/** Of the changes of one window, whatever the store takes: they are in memory until it has left. */
const LARGEST_COMMIT = 64 * 1024 * 1024;

/** Rows as they are in the store. Rejects only when the lease term is over. */
export interface StoredRows {
  read(slots: readonly string[]): Promise<readonly StateRow[]>;
  due(before: Date, after: StateRow | undefined, limits: StateLimits): Promise<readonly StateRow[]>;
  list(after: string | undefined, limits: StateLimits): Promise<StatePage>;
}

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
  /** Number of the first fired window that is not claimed. */
  firstFired = 0;
  /** The ones used last come last. */
  private readonly known = new Map<string, KnownRow>();
  private bytes = 0;

  constructor(
    private readonly fence: number,
    private readonly store: StoredRows,
    private readonly stage: Pick<Stage, 'values' | 'cacheBytes'>,
  ) {}

  /** Begins an attempt at a window. @param room bytes that the store commits together for one window; undefined: any number */
  begin(
    { id, seq }: Pick<WindowRecord, 'id' | 'seq'>,
    window: Pick<Attempted, 'stream' | 'messages' | 'partitions'>,
    clock: Clock,
    room: number | undefined,
  ): StateChanges {
    const began = { now: clock.now(), monotonic: clock.monotonic() };
    const bounds = { limit: Math.min(room ?? Infinity, LARGEST_COMMIT), most: room ?? Infinity };
    const commit = `${id}:${this.fence}.${seq}`;
    return new StateChanges({ ...window, ...bounds, seq, began, commit }, this, this.stage.values);
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
      const rows = new Map((await this.store.read(some)).map((row) => [row.slot, row]));
      for (const slot of some) {
        // A window may have changed it while it was read for an attempt that has timed out.
        if (!this.known.has(slot)) this.know(slot, { row: rows.get(slot), pins: 0 });
        found.set(slot, this.known.get(slot)?.row);
      }
    }
    return found;
  }

  /** Of rows that windows in flight have changed, the store knows only what was before. */
  async due(before: Date, most: number, without: ReadonlyMap<string, unknown>): Promise<readonly StateRow[]> {
    const found: StateRow[] = [];
    const inFlight = new Set<string>();
    for (const [slot, { row, pins }] of this.known) {
      if (pins === 0) continue;
      // Its window may leave the store while that is read.
      inFlight.add(slot);
      if (row?.due && row.due <= before && !without.has(slot)) found.push(row);
    }
    // Those that are passed over may all come first.
    const limits = { rows: Math.min(READ, most + without.size + inFlight.size), bytes: DUE_BYTES };
    for (let after: StateRow | undefined, stored = 0; stored < most;) {
      const page = await this.store.due(before, after, limits);
      for (const row of page) {
        if (without.has(row.slot) || inFlight.has(row.slot)) continue;
        found.push(row);
        stored += 1;
      }
      after = page.at(-1);
      const bytes = page.reduce((sum, { value }) => sum + value.length, 0);
      // The store had room for more: no row is half as large.
      if (after === undefined || (page.length < limits.rows && bytes < DUE_BYTES / 2)) break;
    }
    return found.sort((a, b) => byDue(timesOf(a), timesOf(b))).slice(0, most);
  }

  async *pages(): AsyncIterable<readonly StateRow[]> {
    const inFlight = new Map([...this.known].filter(([, { pins }]) => pins > 0));
    yield [...inFlight.values()].flatMap(({ row }) => (row && !isOfEngine(row.slot) ? row : []));
    for (let after: string | undefined; ;) {
      const page = await this.store.list(after, { rows: READ, bytes: DUE_BYTES });
      yield page.rows.filter(({ slot }) => !inFlight.has(slot) && !isOfEngine(slot));
      if (page.next === undefined) return;
      after = page.next;
    }
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

function timesOf({ slot, due }: StateRow) {
  return { slot, due: due?.getTime() };
}
