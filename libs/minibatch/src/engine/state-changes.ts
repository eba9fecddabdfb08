import type { Mutable } from '../common/mutable.js';
import type { Effects, NewMessage, StateRow, StoredMessage } from '../storage/stream-store.interface.js';
import { EffectsTooLarge } from './effects-too-large.js';
import type { RowWindow, StageChanges, StageRow, ValueCodec } from './engine.interface.js';
import { type FiredRange, QUEUE, slotOfFired } from './fired-slots.js';

/** What a row costs apart from its content; bytes. */
const OVERHEAD = 64;
/** The same of a message, with the names of its fields and its time. */
const MESSAGE_OVERHEAD = 128;
/** Of each header. */
const HEADER_OVERHEAD = 8;
/** Of a `FiredRange`, encoded: an upper bound. */
const RANGE = 128;
/** Of a `Date`, milliseconds. */
const LATEST = 8.64e15;

/** A row as the window has left it; without `row` it is removed. */
interface Change {
  readonly row?: { readonly value: unknown; readonly due: Date | undefined };
  /** What it takes in the commit; undefined: not known yet. */
  cost: number | undefined;
  encoded?: Uint8Array;
}

/** What is known of the rows in the store. */
export interface KnownRows {
  /** The rows with these slots; undefined for those that do not exist. */
  load(slots: Iterable<string>): Promise<ReadonlyMap<string, StateRow | undefined>>;
  /** Rows that are due, by `due` and slot, without those whose slot is left out. */
  due(before: Date, most: number, without: ReadonlyMap<string, unknown>): Promise<readonly StateRow[]>;
  /** All rows but those of fired windows, in pages. */
  pages(): AsyncIterable<readonly StateRow[]>;
  /** Number of the first fired window that is not claimed, as far as is known. */
  readonly firstFired: number;
}

/** Effects, and about how many bytes they take in the store. */
export interface StageEffects {
  /** The attempt is through. */
  readonly through: () => void;
  readonly effects: Effects;
  readonly bytes: number;
  /** Messages that came to nothing. */
  readonly dropped: number;
  /** Number behind that of the last window that was fired; absent if none was. */
  readonly firedTo?: number;
}

/** What an attempt at a window begins from. */
export interface Attempted {
  readonly seq: number;
  readonly began: StageChanges['began'];
  /** Unique to this window as this holder of the lease commits it. */
  readonly commit: string;
  readonly stream: string;
  readonly partitions: number;
  readonly messages: readonly StoredMessage[];
  /** Bytes that its changes should have at the most. */
  readonly limit: number;
  /** Bytes that they may have if nothing smaller can be made of the window. */
  readonly most: number;
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
  private readonly fired: RowWindow[] = [];
  private byId: ReadonlyMap<string, StoredMessage> | undefined;
  private dropped = 0;
  readonly seq: number;
  readonly began: StageChanges['began'];
  readonly partitions: number;
  readonly limit: number;
  /** Of the changes whose cost is known, and of messages. */
  private known = OVERHEAD;
  /** The others. */
  private readonly unknown = new Map<string, Change>();
  /** Values that were weighed before they are put. */
  private readonly encoded = new WeakMap<object, Uint8Array>();

  constructor(
    private readonly attempted: Attempted,
    private readonly state: KnownRows,
    private readonly codec: ValueCodec,
  ) {
    ({ seq: this.seq, began: this.began, partitions: this.partitions, limit: this.limit } = attempted);
  }

  /** For a stage that fires windows. */
  prepare(): Promise<void> {
    return this.load([QUEUE]);
  }

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
    const row = { value, due: due === undefined ? undefined : new Date(due) };
    this.change(slot, { row, cost: undefined });
  }

  remove(slot: string): void {
    this.change(slot, { cost: costOf(slot, undefined) });
  }

  private change(slot: string, change: Change): void {
    this.known -= this.changed.get(slot)?.cost ?? 0;
    this.changed.set(slot, change);
    if (change.cost === undefined) this.unknown.set(slot, change);
    else {
      this.unknown.delete(slot);
      this.known += change.cost;
    }
  }

  sizeOf(value: object): number {
    return this.encode(value).length;
  }

  costOf(message: Omit<NewMessage, 'dedupeId'>): number {
    return costOfMessage({ ...message, dedupeId: this.nextId() });
  }

  get bytes(): number {
    for (const [slot, change] of this.unknown) {
      change.encoded = this.encode(change.row?.value);
      change.cost = costOf(slot, change.encoded);
      this.known += change.cost;
    }
    this.unknown.clear();
    return this.known;
  }

  requireRoom(more = 0): void {
    const { messages, limit, most, stream } = this.attempted;
    const allowed = messages.length > 1 ? limit : most;
    const bytes = this.bytes + more;
    if (bytes > allowed) throw new EffectsTooLarge(stream, messages.length, bytes, allowed);
  }

  private encode(value: unknown): Uint8Array {
    if (typeof value !== 'object' || value === null) return this.codec.encode(value);
    let encoded = this.encoded.get(value);
    if (!encoded) {
      encoded = this.codec.encode(value);
      this.encoded.set(value, encoded);
    }
    return encoded;
  }

  drop(messages: number): void {
    this.dropped += messages;
  }

  append(message: Omit<NewMessage, 'dedupeId'>): void {
    const appended = { ...message, dedupeId: this.nextId() };
    this.messages.push(appended);
    this.known += costOfMessage(appended);
  }

  private nextId(): string {
    return `${this.attempted.commit}.${this.messages.length}`;
  }

  stored(id: string): StoredMessage {
    this.byId ??= new Map(this.attempted.messages.map((message) => [message.id, message]));
    const found = this.byId.get(id);
    if (!found) throw new RangeError(`message ${id} is not in the window: a bug of nestjs-minibatch`);
    return found;
  }

  fire(window: RowWindow): void {
    if (this.fired.length === 0) this.known += costOf(QUEUE, undefined) + RANGE;
    this.fired.push(window);
    this.known += costOf(slotOfFired(LATEST), this.encode(window));
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

  /** @throws whatever the codec throws for a value that can't be stored; EffectsTooLarge */
  effects(): StageEffects {
    this.requireRoom();
    const put: StateRow[] = [];
    const remove: string[] = [];
    for (const [slot, { row, encoded }] of this.changed) {
      if (row && encoded) put.push({ slot, value: encoded, ...(row.due && { due: row.due }) });
      // One that is known not to be there need not be removed.
      else if (!this.rows.has(slot) || this.rows.get(slot)) remove.push(slot);
    }
    const firedTo = this.putFired(put);
    const effects: Mutable<Effects> = {};
    if (put.length > 0) effects.put = put;
    if (remove.length > 0) effects.remove = remove;
    if (this.messages.length > 0) effects.append = this.messages;
    return {
      ...{ effects, bytes: this.bytes, dropped: this.dropped, through: () => this.through() },
      ...(firedTo !== undefined && { firedTo }),
    };
  }

  /** A row for each fired window, and one that says which numbers they have. @returns the number behind the last */
  private putFired(put: StateRow[]): number | undefined {
    if (this.fired.length === 0) return undefined;
    const { to: first } = (this.get(QUEUE) as FiredRange | undefined) ?? { to: 0 };
    // Their cost is known.
    const range: FiredRange = { from: Math.max(0, this.state.firstFired), to: first + this.fired.length };
    this.fired.forEach((window, index) => put.push({ slot: slotOfFired(first + index), value: this.encode(window) }));
    put.push({ slot: QUEUE, value: this.codec.encode(range) });
    return range.to;
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
  return OVERHEAD + Buffer.byteLength(slot) + (value?.length ?? 0);
}

/** As stores count it, or more: windows that fit together by this are committed together. */
function costOfMessage({ stream, bytes = 0, key, headers, dedupeId }: NewMessage): number {
  let cost = MESSAGE_OVERHEAD + bytes + Buffer.byteLength(stream);
  if (key !== undefined) cost += Buffer.byteLength(key);
  if (dedupeId !== undefined) cost += Buffer.byteLength(dedupeId);
  for (const name in headers) cost += HEADER_OVERHEAD + name.length + Buffer.byteLength(headers[name] ?? '');
  return cost;
}
