import { isDeepStrictEqual } from 'node:util';

/** Of so few elements the keys are soon listed. */
const FEW = 48;
/** By which some versions of bson remember the text of an id. */
const ID_TEXT = '__id';

/**
 * A property that an object which is stored as one value has in addition to that value, and which would be lost. Not enumerable ones are
 * lost with every object.
 *
 * @param known properties that the value is made of
 */
export function furtherProperty(value: object, known: readonly string[] = []): PropertyKey | undefined {
  return Reflect.ownKeys(value).find(
    (key) =>
      !(known as readonly PropertyKey[]).includes(key) &&
      key !== ID_TEXT &&
      Object.prototype.propertyIsEnumerable.call(value, key),
  );
}

/**
 * Whether bytes have nothing but their elements. To list the keys of a large array would take a hundred times as long as to copy it, for
 * each element has one; Node compares the properties of two arrays without that.
 *
 * @param copy of the bytes
 */
export function areBytesAlone(value: Uint8Array, copy: Buffer): boolean {
  if (value.length <= FEW) {
    if (Object.keys(value).length > value.length) return false;
    return Object.getOwnPropertySymbols(value).every((key) => !Object.prototype.propertyIsEnumerable.call(value, key));
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype === Buffer.prototype) return isDeepStrictEqual(value, copy);
  // Arrays of different classes are never equal.
  const view = new Uint8Array(copy.buffer, copy.byteOffset, copy.byteLength);
  return isDeepStrictEqual(value, Object.setPrototypeOf(view, prototype as object | null));
}

/** True for the key of an element. Arrays may also have properties called `-1`, `1.5` or `NaN`, which are no elements. */
export function isIndex(key: string, length: number): boolean {
  const index = Number(key);
  return Number.isInteger(index) && index >= 0 && index < length && String(index) === key;
}
