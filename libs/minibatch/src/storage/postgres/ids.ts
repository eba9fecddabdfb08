import type { MessageId } from '../stream-store.interface.js';

/** Ids are numbers of a sequence, in hexadecimal of fixed width, so that they sort as strings. */
export const ID_PATTERN = /^[0-9a-f]{16}$/;
const DIGITS = 16;

/** Makes an id of a number, in SQL. */
export function hexSql(number: string): string {
  return `lpad(to_hex(${number}), ${DIGITS}, '0')`;
}

export function formatId(number: number): MessageId {
  return number.toString(16).padStart(DIGITS, '0');
}

/** 0, which no message has, for what is no id of this store. */
export function numberOf(id: MessageId): number {
  const number = ID_PATTERN.test(id) ? Number.parseInt(id, 16) : 0;
  return Number.isSafeInteger(number) ? number : 0;
}

/** The number of the last message before the position, for a read from there on. */
export function afterNumber(id: MessageId | undefined): number {
  return id === undefined ? 0 : bound(id);
}

/** The number of the last message of a read that ends with the id. */
export function untilNumber(id: MessageId | undefined): number {
  return id === undefined ? Number.MAX_SAFE_INTEGER : bound(id);
}

function bound(id: MessageId): number {
  const number = Number.parseInt(id, 16);
  return Number.isNaN(number) ? 0 : Math.min(number, Number.MAX_SAFE_INTEGER);
}

/** An array of numbers as a parameter; the driver would quote each. */
export function numberArray(numbers: readonly number[]): string {
  return `{${numbers.join(',')}}`;
}

/** Numbers to be looked up. Their range goes with them: without statistics the server would read the whole partition. */
export interface NumberSet {
  readonly array: string;
  readonly low: number;
  readonly high: number;
}

export function numberSet(ids: readonly MessageId[]): NumberSet {
  let low = Number.MAX_SAFE_INTEGER;
  let high = 0;
  const numbers = ids.map((id) => {
    const number = numberOf(id);
    if (number < low) low = number;
    if (number > high) high = number;
    return number;
  });
  return { array: numberArray(numbers), low, high };
}

/** Eight bytes for each id. */
export function packIds(ids: readonly MessageId[]): Buffer {
  return Buffer.from(ids.join(''), 'hex');
}

export function unpackIds(bytes: Buffer): MessageId[] {
  const text = bytes.toString('hex');
  const ids: MessageId[] = [];
  for (let at = 0; at < text.length; at += DIGITS) ids.push(text.slice(at, at + DIGITS));
  return ids;
}
