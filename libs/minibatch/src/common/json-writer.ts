/**
 * JSON as `JSON.stringify` writes it, but for values that it would spoil or refuse:
 *
 * - a bigint, BSON's `Long` and `Decimal128` are numbers with all their digits (a Decimal128 that is none is null, as NaN is)
 * - bytes (`Uint8Array`, `Buffer`, BSON's `Binary`) are strings in base64
 *
 * @returns undefined for what JSON knows nothing of, as a function
 * @throws TypeError on a cycle
 */
export function writeJson(value: unknown): string | undefined {
  // Most results need nothing of it, and the engine's own writer is several times as fast.
  if (isOrdinary(value)) return JSON.stringify(value) as string | undefined;
  return write(value, '', []);
}

/**
 * A value for a client that calls `JSON.stringify` itself, whose receiver calls `JSON.parse`: as those know only doubles, a bigint,
 * a `Long` and a `Decimal128` are strings of their digits. What needs no change is the same object as before.
 *
 * @throws TypeError on a cycle
 */
export function withDigits(value: unknown): unknown {
  return isOrdinary(value) ? value : safe(value, []);
}

/** The bytes of a value that is nothing but bytes; undefined if it is another one. */
export function bytesOf(value: unknown): Uint8Array | undefined {
  if (value instanceof Uint8Array) return value;
  if (!isBinary(value)) return undefined;
  const { buffer, position } = value;
  return buffer.subarray(0, position);
}

/** Digits of a number of any size. */
class Digits {
  constructor(readonly text: string) {}
}

function isOrdinary(value: unknown): boolean {
  if (typeof value === 'bigint') return false;
  if (typeof value !== 'object' || value === null || value instanceof Date) return true;
  // A cycle is no ordinary value either: it ends in a RangeError, and the writer says what it is.
  try {
    if (Array.isArray(value)) return value.every(isOrdinary);
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype !== Object.prototype && prototype !== null) return false;
    if ('toJSON' in value) return false;
    for (const key in value) if (!isOrdinary((value as Record<string, unknown>)[key])) return false;
    return true;
  } catch (error) {
    if (error instanceof RangeError) return false;
    throw error;
  }
}

function write(given: unknown, key: string, ancestors: object[]): string | undefined {
  const value = converted(given, key);
  if (value instanceof Digits) return value.text;
  if (typeof value !== 'object' || value === null || isBoxed(value)) return JSON.stringify(value) as string | undefined;
  enter(value, ancestors);
  let text: string;
  if (Array.isArray(value)) {
    // Not by `map`, which passes over holes.
    const elements = Array.from<unknown, string>(
      value,
      (element, index) => write(element, String(index), ancestors) ?? 'null',
    );
    text = `[${elements.join(',')}]`;
  } else {
    const properties = Object.entries(value).flatMap(([name, property]) => {
      const written = write(property, name, ancestors);
      return written === undefined ? [] : `${JSON.stringify(name)}:${written}`;
    });
    text = `{${properties.join(',')}}`;
  }
  ancestors.pop();
  return text;
}

function safe(value: unknown, ancestors: object[]): unknown {
  if (typeof value === 'bigint') return String(value);
  if (typeof value !== 'object' || value === null) return value;
  const number = numberTextOf(value);
  if (number !== undefined) return number;
  // Others say themselves what they are in JSON; and bytes are left to the client, which may send them as they are.
  if ('toJSON' in value || value instanceof Uint8Array) return value;
  enter(value, ancestors);
  const copy = Array.isArray(value) ? safeArray(value, ancestors) : safeObject(value, ancestors);
  ancestors.pop();
  return copy;
}

function safeArray(array: readonly unknown[], ancestors: object[]): readonly unknown[] {
  const copy = Array.from(array, (element) => safe(element, ancestors));
  return copy.every((element, index) => element === array[index]) ? array : copy;
}

function safeObject(object: object, ancestors: object[]): object {
  let isChanged = false;
  const properties = Object.entries(object).map(([name, property]: [string, unknown]): [string, PropertyDescriptor] => {
    const value = safe(property, ancestors);
    isChanged ||= value !== property;
    return [name, { value, enumerable: true, writable: true, configurable: true }];
  });
  if (!isChanged) return object;
  // Of the same class: a Nest client may look for its records by it.
  return Object.create(Object.getPrototypeOf(object) as object | null, Object.fromEntries(properties)) as object;
}

/** What JSON is to have in place of a value. */
function converted(value: unknown, key: string): unknown {
  if (typeof value === 'bigint') return new Digits(String(value));
  if (typeof value !== 'object' || value === null) return value;
  const number = numberTextOf(value);
  // JSON has no infinite numbers and no NaN.
  if (number !== undefined) return /\d/.test(number) ? new Digits(number) : null;
  const bytes = bytesOf(value);
  if (bytes) return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
  if (!('toJSON' in value) || typeof value.toJSON !== 'function') return value;
  const made: unknown = value.toJSON(key);
  // What it makes may be of these as well, but is not asked again.
  const isOwn = typeof made === 'object' && made !== null && 'toJSON' in made;
  return made === value || isOwn ? made : converted(made, key);
}

/** What BSON's numbers of more digits than a double has are as text. */
function numberTextOf(value: object): string | undefined {
  const type = bsonTypeOf(value);
  return type === 'Long' || type === 'Decimal128' ? (value as { toString(): string }).toString() : undefined;
}

function isBinary(value: unknown): value is { readonly buffer: Uint8Array; readonly position: number } {
  // A UUID is one too, and has a text of its own.
  return typeof value === 'object' && value !== null && bsonTypeOf(value) === 'Binary' && !('toHexString' in value);
}

/** By the prototype: an object from outside with a key of that name is no BSON type. */
function bsonTypeOf(value: object): unknown {
  return '_bsontype' in value && !Object.hasOwn(value, '_bsontype') ? value._bsontype : undefined;
}

function isBoxed(value: object): boolean {
  return value instanceof String || value instanceof Number || value instanceof Boolean;
}

function enter(value: object, ancestors: object[]): void {
  if (ancestors.includes(value)) throw new TypeError('it contains itself: JSON has no cycles');
  ancestors.push(value);
}
