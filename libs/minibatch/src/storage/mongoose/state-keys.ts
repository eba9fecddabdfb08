import type { StateRow } from '../stream-store.interface.js';

/**
 * Keys of the collection `state` are strings that every server orders alike. A slot goes in as its bytes, one character for each: their
 * order is that of the bytes whether a server compares UTF-8 or UTF-16. The id of the state, of fixed width, comes first.
 */

/** Behind every character of a slot. */
const END = '\u0100';
/** Of a `Date`, milliseconds. */
const LATEST = 8_640_000_000_000_000n;
/** Hexadecimal digits of a time, counted from the first one. */
const TIME_DIGITS = 14;
/** In base 36, which is enough for every safe integer. */
const VERSION_RADIX = 36;
const VERSION_DIGITS = 11;
/** Hexadecimal digits of a state's id. */
const ID_DIGITS = 24;

export function rowId(state: string, slot: string): string {
  return state + toCharacters(slot);
}

export function slotOf(_id: string): string {
  return Buffer.from(_id.slice(ID_DIGITS), 'latin1').toString();
}

/** The `_id`s of the rows of a state, behind that with the slot if it is given. */
export function rowsOf(state: string, after = ''): { $gt: string; $lt: string } {
  return { $gt: rowId(state, after), $lt: state + END };
}

/** Orders the rows of a state by their times, then by the bytes of their slots. */
export function dueKey(state: string, due: number, slot: string): string {
  return state + timeDigits(due) + toCharacters(slot);
}

/** `after`: a row that is due. */
export function dueKeys(state: string, before: Date, after?: Pick<StateRow, 'slot' | 'due'>) {
  const $gt = after?.due ? dueKey(state, after.due.getTime(), after.slot) : state;
  return { $gt, $lt: state + timeDigits(before.getTime()) + END };
}

export function dueOf(key: string): Date {
  return new Date(Number(BigInt(`0x${key.slice(ID_DIGITS, ID_DIGITS + TIME_DIGITS)}`) - LATEST));
}

/** Grows with the fence of the lease that decided the row, and with the window. */
export function versionOf(fence: number, seq: number): string {
  return [fence, seq].map((part) => part.toString(VERSION_RADIX).padStart(VERSION_DIGITS, '0')).join('');
}

function timeDigits(time: number): string {
  return (BigInt(time) + LATEST).toString(16).padStart(TIME_DIGITS, '0');
}

function toCharacters(slot: string): string {
  return Buffer.from(slot).toString('latin1');
}
