import { mongo } from 'mongoose';

const OBJECT_ID = 7;
const NONE = '0'.repeat(24);

/**
 * A BSON value as bytes, which is written into a document unchanged. So a value can be copied that can't be decoded or that decoding would
 * change (`2.0`, integers above 2^53, keys that look like numbers, a key named `_bsontype`).
 *
 * The serializer lets an `ObjectId` write its own bytes and asks how many they were. This class writes the value, and replaces the type
 * byte of an `ObjectId` by that of the value. The driver has no other way to send bytes that it has not encoded.
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

  /** `at`: where the value begins, after its name and a NUL. */
  serializeInto(target: Uint8Array, at: number): number {
    // No name contains this byte: names are fields of the store, or indexes of an array.
    target[target.lastIndexOf(OBJECT_ID, at - 2)] = this.type;
    target.set(this.value, at);
    return this.value.length;
  }
}

/** The size of a document with such values, which the driver takes for `ObjectId`s. */
export function sizeOf(document: mongo.Document, values: readonly (RawValue | undefined)[]): number {
  const size = mongo.BSON.calculateObjectSize(document, { ignoreUndefined: false });
  return values.reduce((sum, value) => sum + (value ? value.length - ID_BYTES : 0), size);
}

const ID_BYTES = 12;
