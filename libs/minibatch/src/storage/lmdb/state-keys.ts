import { Kind, type KeyRange, type Place, placeKey, prefixRange, readTime, writePlace, writeTime } from './keys.js';

/** Keys of the rows of consumers' state. A slot is of any length up to 256 bytes and comes last, so its bytes are the order of the rows. */

const PLACE_BYTES = 11;
const TIME_BYTES = 8;
/** Behind a key, it makes the least one that is greater. */
const NEXT = Buffer.from([0]);

export function stateKey(place: Place, slot: string): Buffer {
  const key = Buffer.allocUnsafe(PLACE_BYTES + Buffer.byteLength(slot));
  writePlace(key, Kind.State, place);
  key.write(slot, PLACE_BYTES);
  return key;
}

export function slotOfState(key: Buffer): string {
  return key.toString('utf8', PLACE_BYTES);
}

/** @param due milliseconds */
export function dueKey(place: Place, due: number, slot: string): Buffer {
  return Buffer.concat([duePrefix(place, due), Buffer.from(slot)]);
}

export function parseDueKey(key: Buffer): { readonly due: number; readonly slot: string } {
  return { due: readTime(key, PLACE_BYTES), slot: key.toString('utf8', PLACE_BYTES + TIME_BYTES) };
}

/** All rows of the consumer, or those behind the slot `after`. */
export function stateRange(place: Place, after: string | undefined): KeyRange {
  return behind(prefixRange(placeKey(Kind.State, place)), after === undefined ? undefined : stateKey(place, after));
}

/** Entries of rows that are due at `before` or earlier, or of those behind the entry `after`. */
export function dueRange(place: Place, before: number, after: Buffer | undefined): KeyRange {
  const { start } = prefixRange(placeKey(Kind.Due, place));
  return behind({ start, end: prefixRange(duePrefix(place, before)).end }, after);
}

function duePrefix(place: Place, due: number): Buffer {
  const key = Buffer.allocUnsafe(PLACE_BYTES + TIME_BYTES);
  writePlace(key, Kind.Due, place);
  writeTime(key, due, PLACE_BYTES);
  return key;
}

function behind(range: KeyRange, after: Buffer | undefined): KeyRange {
  return after === undefined ? range : { ...range, start: Buffer.concat([after, NEXT]) };
}
