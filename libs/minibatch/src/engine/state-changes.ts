import type { Mutable } from '../common/mutable.js';
import type { Effects, NewMessage, StateRow } from '../storage/stream-store.interface.js';
import type { StageChanges, StageRow, ValueCodec } from './engine.interface.js';

/** What a row costs apart from its content; bytes. */
const OVERHEAD = 64;
/** The same of a message, with the names of its fields and its time. */
const MESSAGE_OVERHEAD = 128;
/** Of each header. */
const HEADER_OVERHEAD = 8;
/** Of a `Date`, milliseconds. */
const LATEST = 8.64e15;

/** A row as the window has left it; without `row` it is removed. */
interface Change {
  readonly row?: { readonly value: unknown; readonly due: Date | undefined };
}

/** What is known of the rows in the store. */
export interface KnownRows {
  /** The rows with these slots; undefined for those that do not exist. */
  load(slots: Iterable<string>): Promise<ReadonlyMap<string, StateRow | undefined>>;
  /** Rows that are due, by `due` and slot, without those whose slot is left out. */
  due(before: Date, most: number, without: ReadonlyMap<string, unknown>): Promise<readonly StateRow[]>;
  /** All rows, in pages. */
  pages(): AsyncIterable<readonly StateRow[]>;
}

/** Effects, and about how many bytes they take in the store. */
export interface StageEffects {
  /** The attempt is through. */
  readonly through: () => void;
  readonly effects: Effects;
  readonly bytes: number;
  /** Messages that came to nothing. */
  readonly dropped: number;
}

/** What one attempt at a window changes. Nothing of it counts before the attempt is through. */
export class StateChanges implements StageChanges {
  private readonly changed = new Map<string, Change>();
  /** As they were before. */
  private readonly rows = new Map<string, StateRow | undefined>();
  /** Values of rows that are not changed, or not yet: a value may be changed in place before it is put. */
  private readonly values = new Map<string, unknown>();
  private readonly messages: NewMessage[] = [];
  private readonly calls: (() => void)[] = [];
  private dropped = 0;

  constructor(
    readonly seq: number,
    readonly began: StageChanges['began'],
    /** Unique to this window as this holder of the lease commits it. */
    private readonly commit: string,
    private readonly state: KnownRows,
    private readonly codec: ValueCodec,
    readonly partitions: number,
  ) {}

  async load(slots: Iterable<string>): Promise<void> {
    for (const [slot, row] of await this.state.load(slots)) this.rows.set(slot, row);
  }

  get(slot: string): unknown {
    const change = this.changed.get(slot);
    if (change) return change.row?.value;
    if (this.values.has(slot)) return this.values.get(slot);
    const row = this.rowOf(slot);
    const value = row && this.codec.decode(row.value);
    this.values.set(slot, value);
    return value;
  }

  put(slot: string, value: unknown, due?: number): void {
    this.changed.set(slot, { row: { value, due: due === undefined ? undefined : new Date(due) } });
  }

  remove(slot: string): void {
    this.changed.set(slot, {});
  }

  drop(messages: number): void {
    this.dropped += messages;
  }

  append(message: Omit<NewMessage, 'dedupeId'>): void {
    this.messages.push({ ...message, dedupeId: `${this.commit}.${this.messages.length}` });
  }

  async due(before: number, most: number): Promise<readonly StageRow[]> {
    const rows = await this.state.due(new Date(before), most, this.changed);
    const found = this.loaded(rows);
    for (const [slot, { row }] of this.changed) {
      if (row?.due && row.due.getTime() <= before) found.push({ slot, value: row.value, due: row.due.getTime() });
    }
    return found.sort(byDue).slice(0, most);
  }

  async nextDue(): Promise<number | undefined> {
    const [row] = await this.due(LATEST, 1);
    return row?.due;
  }

  async *pages(): AsyncIterable<readonly StageRow[]> {
    for await (const rows of this.state.pages()) {
      const unchanged = rows.filter(({ slot }) => !this.changed.has(slot));
      if (unchanged.length > 0) yield this.loaded(unchanged);
    }
  }

  private loaded(rows: readonly StateRow[]): StageRow[] {
    return rows.map((row) => {
      this.rows.set(row.slot, row);
      return { slot: row.slot, value: this.get(row.slot), due: row.due?.getTime() };
    });
  }

  whenThrough(call: () => void): void {
    this.calls.push(call);
  }

  /** The attempt counts. */
  through(): void {
    for (const call of this.calls) call();
  }

  /** @throws whatever the codec throws for a value that can't be stored */
  effects(): StageEffects {
    const put: StateRow[] = [];
    const remove: string[] = [];
    let bytes = 0;
    for (const [slot, { row }] of this.changed) {
      if (!row) {
        // One that is known not to be there need not be removed.
        if (!this.rows.has(slot) || this.rows.get(slot)) remove.push(slot);
        continue;
      }
      const value = this.codec.encode(row.value);
      put.push({ slot, value, ...(row.due && { due: row.due }) });
      bytes += costOf(slot, value);
    }
    for (const message of this.messages) bytes += costOfMessage(message);
    bytes += remove.length * OVERHEAD;
    const effects: Mutable<Effects> = {};
    if (put.length > 0) effects.put = put;
    if (remove.length > 0) effects.remove = remove;
    if (this.messages.length > 0) effects.append = this.messages;
    return { effects, bytes, dropped: this.dropped, through: () => this.through() };
  }

  private rowOf(slot: string): StateRow | undefined {
    if (!this.rows.has(slot)) {
      throw new RangeError(`row ${JSON.stringify(slot)} was not loaded: a bug of nestjs-minibatch`);
    }
    return this.rows.get(slot);
  }
}

/** As stores order them. */
export function byDue(a: { slot: string; due?: number | undefined }, b: { slot: string; due?: number | undefined }) {
  return (a.due ?? 0) - (b.due ?? 0) || Buffer.compare(Buffer.from(a.slot), Buffer.from(b.slot));
}

export function costOf(slot: string, value: Uint8Array | undefined): number {
  return OVERHEAD + slot.length + (value?.length ?? 0);
}

/** As stores count it, or more: windows that fit together by this are committed together. */
function costOfMessage({ stream, bytes = 0, key, headers, dedupeId }: NewMessage): number {
  let cost = MESSAGE_OVERHEAD + bytes + Buffer.byteLength(stream);
  if (key !== undefined) cost += Buffer.byteLength(key);
  if (dedupeId !== undefined) cost += Buffer.byteLength(dedupeId);
  for (const name in headers) cost += HEADER_OVERHEAD + name.length + Buffer.byteLength(headers[name] ?? '');
  return cost;
}
