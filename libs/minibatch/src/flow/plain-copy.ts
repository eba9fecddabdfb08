import { setOwn } from '../common/set-own.js';

/** A copy of plain data that shares nothing with it that can be changed, but for values of BSON: those are not changed in place. */
export function copyOf<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value;
  return copyObject(value) as T;
}

function copyObject(value: object): unknown {
  if (Array.isArray(value)) return value.map(copyOf);
  if (value instanceof Date) return new Date(value);
  if (value instanceof Uint8Array) return Buffer.from(value);
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return value;
  const copy: Record<string, unknown> = {};
  for (const key of Object.keys(value)) setOwn(copy, key, copyOf((value as Record<string, unknown>)[key]));
  return copy;
}

/** Nested so deep by what anybody means to store. */
const DEEP = 20;

/** Whether it is, at a glance, data that can be stored as it is. False also for some that can be: then it takes a closer look. */
export function isPlainData(value: unknown, depth = 0): boolean {
  if (typeof value === 'string') return value.isWellFormed();
  if (typeof value !== 'object' || value === null) return isPlainValue(value);
  if (depth === DEEP) return false;
  if (Array.isArray(value))
    return Object.keys(value).length === value.length && value.every((each) => isPlainData(each, depth + 1));
  if (Object.getPrototypeOf(value) !== Object.prototype || Object.getOwnPropertySymbols(value).length > 0) return false;
  for (const key of Object.keys(value)) {
    if (key === 'toJSON' || key === 'toBSON' || key === '_bsontype' || key.includes('\0') || !key.isWellFormed())
      return false;
    if (!isPlainData((value as Record<string, unknown>)[key], depth + 1)) return false;
  }
  return true;
}

function isPlainValue(value: unknown): boolean {
  return typeof value === 'number' || typeof value === 'boolean' || value === null;
}
