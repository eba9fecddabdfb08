import type { MessageId } from '../stream-store.interface.js';

/** Ids are numbers of a sequence, in hexadecimal of fixed width, so that they sort as strings. */
export const ID_PATTERN = /^[0-9a-f]{16}$/;
const DIGITS = 16;
const ID_BYTES = 8;
/** The upper half of the first number beyond the safe integers. */
const SAFE_HIGH = 2 ** 21;

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

/** As `numberOf`, and several times as fast for many ids of this store. */
export function numbersOf(ids: readonly MessageId[]): number[] {
  const bytes = packIds(ids);
  const isExact = bytes.length === ids.length * ID_BYTES && ids.every(({ length }) => length === DIGITS);
  if (!isExact) return ids.map(numberOf);
  return ids.map((id, n) => {
    const high = bytes.readUInt32BE(n * ID_BYTES);
    return high < SAFE_HIGH ? high * 2 ** 32 + bytes.readUInt32BE(n * ID_BYTES + 4) : numberOf(id);
  });
}

/** An array of numbers as a parameter; the driver would quote each. */
export function numberArray(numbers: readonly (number | 'null')[]): string {
  return `{${numbers.join(',')}}`;
}

/** Ids of messages as parameters of `isAmong`. */
export interface NumberSet {
  /** In ascending order; null if all numbers from `low` to `high` are in the set. */
  readonly array: string | null;
  readonly low: number;
  readonly high: number;
}

export function numberSet(ids: readonly MessageId[]): NumberSet {
  const numbers = numbersOf(ids);
  let isAscending = true;
  for (let n = 1; n < numbers.length; n += 1) isAscending &&= numbers[n - 1]! < numbers[n]!;
  if (!isAscending) numbers.sort((a, b) => a - b);
  const low = numbers[0] ?? 1;
  const high = numbers.at(-1) ?? 0;
  const isWhole = isAscending && high - low + 1 === numbers.length;
  return { array: isWhole ? null : numberArray(numbers), low, high };
}

/**
 * The condition that a number is in a set, with the parameters `array`, `low` and `high` of `numberSet`. By their range, the server finds
 * the rows in the index, whatever its statistics say. In the array it searches by halves: it would compare each row with each element of
 * `= any(array)`.
 */
export function isAmong(number: string, { array, low, high }: { array: string; low: string; high: string }): string {
  const found = `(${array}::bigint[])[width_bucket(${number}, ${array}::bigint[])]`;
  return `${number} between ${low} and ${high} and (${array}::bigint[] is null or ${found} = ${number})`;
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
