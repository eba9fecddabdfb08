import { Double, Long } from 'bson';

const INT32 = 2 ** 31;

/**
 * A copy in which every value has the type that Python is to see: whole numbers are ints also beyond 32 bits, where the driver would
 * write a float, and undefined is null, so that a column does not vanish with it.
 */
export function toPython(value: unknown): unknown {
  if (value === undefined) return null;
  if (typeof value === 'number') {
    const isLong = Number.isSafeInteger(value) && (value >= INT32 || value < -INT32);
    return isLong ? Long.fromNumber(value) : value;
  }
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(toPython);
  if (value instanceof Map) return toPython(Object.fromEntries(value as Map<string, unknown>));
  if ('_bsontype' in value || value instanceof Date || value instanceof RegExp || ArrayBuffer.isView(value))
    return value;
  // A Mongoose document is its plain content.
  if ('toBSON' in value && typeof value.toBSON === 'function') return toPython(value.toBSON());
  return Object.fromEntries(Object.entries(value).map(([key, property]) => [key, toPython(property)]));
}

/** The same for a column of a DataFrame: of a column of floats all values are floats. */
export function toColumn(value: unknown, dtype: string | undefined): unknown {
  return typeof value === 'number' && dtype?.startsWith('float') ? new Double(value) : toPython(value);
}

export function isRow(value: unknown): value is Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  return !('_bsontype' in value || value instanceof Date || value instanceof RegExp || ArrayBuffer.isView(value));
}
