import { mongo } from 'mongoose';

const OBJECT_ID = 7;
const NONE = '0'.repeat(24);

/**
 * A BSON value as its bytes, which goes into a document as it is: what can't be decoded, or would come out changed (`2.0`, integers above
 * 2^53, keys that look like numbers, a key named `_bsontype`), is copied all the same.
 *
 * The serializer lets an `ObjectId` write its own bytes and asks how many they were; this one writes the value, and its type over
 * that of an `ObjectId`. The driver has no other way to send bytes that it has not made itself.
 */
export class RawValue extends mongo.ObjectId {
  constructor(
    private readonly type: number,
    private readonly value: Uint8Array,
  ) {
    super(NONE);
  }

  get length(): number {
    return this.value.length;
  }

  /** `at`: where the value begins, behind its name and a NUL. */
  serializeInto(target: Uint8Array, at: number): number {
    // No name has a byte of this value in it: the names are those of the stores' fields, or places in an array.
    target[target.lastIndexOf(OBJECT_ID, at - 2)] = this.type;
    target.set(this.value, at);
    return this.value.length;
  }
}

/** Of a document with such values in it, which the driver takes for `ObjectId`s. */
export function sizeOf(document: mongo.Document, values: readonly (RawValue | undefined)[]): number {
  const size = mongo.BSON.calculateObjectSize(document, { ignoreUndefined: false });
  return values.reduce((sum, value) => sum + (value ? value.length - ID_BYTES : 0), size);
}

const ID_BYTES = 12;
