import type { ConsumerKey, Effects, NewMessage, StateLimits, StatePage, StateRow } from '../stream-store.interface.js';
import { type EncodedMessage, encodeMessage } from '../encoded-message.js';
import { writeMessages } from './append.js';
import type { Place } from './keys.js';
import { damagedRecord, PRESENT } from './records.js';
import { dueKey, dueRange, parseDueKey, slotOfState, stateKey, stateRange } from './state-keys.js';
import { findPlace } from './stream-records.js';
import type { ReadView, WriteView } from './view.js';

/**
 * Rows of consumers' state, and the effects of commits on them: written in the transaction of the commit point.
 *
 * A row is one byte that says whether it is due, 8 bytes of a double that say when (milliseconds) if it is, and the value. A row that is due
 * has an entry in the index of due rows.
 */

const NOT_DUE = 0;
const DUE = 1;
const VALUE = 1;
const DUE_VALUE = 9;
/** Of a `Date`, milliseconds. */
const LATEST = 8.64e15;

/** Effects of one window, ready to be written. */
export interface PreparedEffects {
  readonly seq: number;
  readonly put: readonly StateRow[];
  readonly remove: readonly string[];
  readonly messages: readonly { readonly message: NewMessage; readonly encoded: EncodedMessage }[];
}

/**
 * To be called before the transaction, in the order of `seq`.
 *
 * @throws AppendError if a message can't be stored
 */
export function prepareEffects(effects: ReadonlyMap<number, Effects>): PreparedEffects[] {
  return [...effects]
    .sort(([a], [b]) => a - b)
    .map(([seq, { put = [], remove = [], append = [] }]) => ({ seq, put, remove, messages: append.map(prepare) }));
}

/** Without its dedupe id: the commit point tells whether the message is there, and a tombstone for each would outlive it. */
function prepare({ dedupeId: _, ...message }: NewMessage): PreparedEffects['messages'][number] {
  return { message, encoded: encodeMessage(message) };
}

/** @param applied windows of the last commit point: their effects are there */
export function applyEffects(
  view: WriteView,
  place: Place,
  applied: readonly number[],
  effects: readonly PreparedEffects[],
): void {
  const fresh = effects.filter(({ seq }) => !applied.includes(seq));
  for (const { put, remove } of fresh) {
    for (const row of put) putRow(view, place, row);
    for (const slot of remove) removeRow(view, place, slot);
  }
  const messages = fresh.flatMap((each) => each.messages);
  if (messages.length > 0) writeMessages(view, messages);
}

function putRow(view: WriteView, place: Place, { slot, value, due }: StateRow): void {
  const key = stateKey(place, slot);
  const time = due?.getTime();
  const former = dueAt(view, place, slot, key);
  if (former !== time) {
    if (former !== undefined) view.remove(dueKey(place, former, slot));
    if (time !== undefined) view.put(dueKey(place, time, slot), PRESENT);
  }
  view.put(key, encodeRow(value, time));
}

function removeRow(view: WriteView, place: Place, slot: string): void {
  const key = stateKey(place, slot);
  const former = dueAt(view, place, slot, key);
  if (former !== undefined) view.remove(dueKey(place, former, slot));
  view.remove(key);
}

function dueAt(view: ReadView, place: Place, slot: string, key: Buffer): number | undefined {
  const bytes = view.get(key);
  return bytes && dueOf(place, slot, bytes);
}

export function readState(view: ReadView, key: ConsumerKey, slots: readonly string[]): StateRow[] {
  const place = findPlace(view, key)?.place;
  if (place === undefined) return [];
  return [...new Set(slots)].flatMap((slot) => rowAt(view, place, slot) ?? []);
}

export function dueState(
  view: ReadView,
  key: ConsumerKey,
  before: Date,
  after: Pick<StateRow, 'slot' | 'due'> | undefined,
  limits: StateLimits,
): StateRow[] {
  const place = findPlace(view, key)?.place;
  if (place === undefined) return [];
  const page = new RowPage(limits);
  const from = after && dueKey(place, after.due?.getTime() ?? 0, after.slot);
  for (const entry of view.keys(dueRange(place, before.getTime(), from))) {
    const { due, slot } = parseDueKey(entry);
    const row = rowAt(view, place, slot);
    if (row?.due?.getTime() !== due) throw damagedRecord(`the index of due rows of consumer ${named(place)}`);
    if (!page.add(row)) break;
  }
  return page.rows;
}

export function listState(view: ReadView, key: ConsumerKey, after: string | undefined, limits: StateLimits): StatePage {
  const place = findPlace(view, key)?.place;
  const page = new RowPage(limits);
  if (place === undefined) return { rows: page.rows };
  for (const { key: at, value } of view.entries(stateRange(place, after))) {
    const next = page.rows.at(-1)?.slot;
    if (!page.add(decodeRow(place, slotOfState(at), value))) return { rows: page.rows, next: next! };
  }
  return { rows: page.rows };
}

/** Rows up to the limits of one read; the first has room always. */
class RowPage {
  readonly rows: StateRow[] = [];
  private bytes = 0;

  constructor(private readonly limits: StateLimits) {}

  /** False if there is no room for it. */
  add(row: StateRow): boolean {
    this.bytes += row.value.length;
    if (this.rows.length > 0 && (this.rows.length >= this.limits.rows || this.bytes > this.limits.bytes)) return false;
    this.rows.push(row);
    return true;
  }
}

function rowAt(view: ReadView, place: Place, slot: string): StateRow | undefined {
  const bytes = view.get(stateKey(place, slot));
  return bytes && decodeRow(place, slot, bytes);
}

function encodeRow(value: Uint8Array, due: number | undefined): Buffer {
  const start = due === undefined ? VALUE : DUE_VALUE;
  const bytes = Buffer.allocUnsafe(start + value.length);
  bytes[0] = due === undefined ? NOT_DUE : DUE;
  if (due !== undefined) bytes.writeDoubleBE(due, VALUE);
  bytes.set(value, start);
  return bytes;
}

/** @throws MinibatchError `StoreDamaged` */
function decodeRow(place: Place, slot: string, bytes: Buffer): StateRow {
  const due = dueOf(place, slot, bytes);
  if (due === undefined) return { slot, value: bytes.subarray(VALUE) };
  return { slot, value: bytes.subarray(DUE_VALUE), due: new Date(due) };
}

/** @throws MinibatchError `StoreDamaged` */
function dueOf(place: Place, slot: string, bytes: Buffer): number | undefined {
  if (bytes[0] === NOT_DUE) return undefined;
  const due = bytes[0] === DUE && bytes.length >= DUE_VALUE ? bytes.readDoubleBE(VALUE) : Number.NaN;
  if (Number.isInteger(due) && Math.abs(due) <= LATEST) return due;
  throw damagedRecord(`the row ${JSON.stringify(slot)} of the state of consumer ${named(place)}`);
}

function named({ stream, group, partition }: Place): string {
  return `${stream}.${group}.${partition}`;
}
