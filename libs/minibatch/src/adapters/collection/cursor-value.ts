import { isObjectId } from './dedupe-id.js';

/** Kinds of values a cursor can follow. Numbers of all BSON types compare with each other, so they are one kind. */
export type ValueKind = 'objectId' | 'date' | 'number' | 'string';

/** The value of a cursor's field in one document, as the driver gives it. */
export type CursorValue = NonNullable<unknown>;

/**
 * Undefined for what does not grow from one document to the next (binary UUIDs, embedded documents, booleans) or cannot be
 * compared here as the server does.
 */
export function kindOf(value: CursorValue): ValueKind | undefined {
  if (typeof value === 'string') return 'string';
  if (typeof value === 'number' || typeof value === 'bigint') return 'number';
  if (value instanceof Date) return 'date';
  if (isObjectId(value)) return 'objectId';
  if (isLong(value)) return 'number';
  return undefined;
}

/** Negative, 0 or positive, in the server's order. Both are of one kind. */
export function compareValues(a: CursorValue, b: CursorValue): number {
  const [left, right] = [orderOf(a), orderOf(b)];
  if (Buffer.isBuffer(left) && Buffer.isBuffer(right)) return Buffer.compare(left, right);
  if (left < right) return -1;
  return left > right ? 1 : 0;
}

export function smaller(a: CursorValue, b: CursorValue): CursorValue {
  return compareValues(a, b) <= 0 ? a : b;
}

export function larger(a: CursorValue, b: CursorValue): CursorValue {
  return compareValues(a, b) >= 0 ? a : b;
}

function orderOf(value: CursorValue): number | bigint | string | Buffer {
  if (typeof value === 'number' || typeof value === 'bigint') return value;
  if (value instanceof Date) return value.getTime();
  if (isObjectId(value)) return value.toHexString();
  if (isLong(value)) return value.toBigInt();
  // The server compares the bytes of UTF-8; JavaScript's comparison differs from it beyond the basic plane.
  return Buffer.from(typeof value === 'string' ? value : '');
}

function isLong(value: CursorValue): value is { toBigInt(): bigint } {
  return typeof value === 'object' && '_bsontype' in value && value._bsontype === 'Long';
}
