import { mongo } from 'mongoose';

const { BSON, DBRef } = mongo;
const { BSONType } = BSON;

type Elements = ReturnType<typeof BSON.onDemand.parseToElements>;

/** A field of a raw document, and where it lies in it. */
export type RawField = Elements extends Iterable<infer E> ? E : never;

/** A document as the server sent it, of which only those fields are decoded that are asked for. */
export class RawDocument {
  private readonly fields: Elements;

  constructor(readonly bytes: Buffer) {
    this.fields = BSON.onDemand.parseToElements(bytes);
  }

  /** Undefined if there is no such field. */
  get(name: string): unknown {
    const field = this.find(name);
    return field && decodeField(this.bytes, field);
  }

  /** `name`: ASCII. */
  find(name: string): RawField | undefined {
    for (const field of this.fields) if (isNamed(this.bytes, field, name)) return field;
    return undefined;
  }
}

function isNamed(bytes: Buffer, [, at, length]: RawField, name: string): boolean {
  if (length !== name.length) return false;
  for (let i = 0; i < length; i += 1) if (bytes[at + i] !== name.charCodeAt(i)) return false;
  return true;
}

/** What the field holds. `bytes`: the document that it is of. */
export function decodeField(bytes: Buffer, [type, nameAt, , at, length]: RawField): unknown {
  switch (type) {
    case BSONType.object:
      return decode(bytes.subarray(at, at + length));
    case BSONType.objectId:
      return new mongo.ObjectId(bytes.subarray(at, at + length));
    case BSONType.date:
      return new Date(bytes.readInt32LE(at + 4) * 2 ** 32 + bytes.readUInt32LE(at));
    case BSONType.bool:
      return bytes[at] === 1;
    default: {
      // A document of this field alone, its type before its name.
      const from = nameAt - 1;
      const alone = Buffer.alloc(4 + at + length - from + 1);
      alone.writeInt32LE(alone.length);
      bytes.copy(alone, 4, from, at + length);
      return Object.values(decode(alone))[0];
    }
  }
}

/**
 * As the deserializer has it by default, whatever the options of the application's connection are: they must not change what data come
 * back as. But it makes an object of its own of what has `$ref` and `$id`; data are what was given.
 */
export function decode<D extends object = Record<string, unknown>>(bytes: Buffer): D {
  const document = BSON.deserialize(bytes) as D;
  return bytes.includes('$ref') ? (withoutReferences(document) as D) : document;
}

function withoutReferences(value: unknown): unknown {
  if (value instanceof DBRef) {
    const { collection, oid, db, fields } = value;
    const plain: Record<string, unknown> = { $ref: collection, $id: withoutReferences(oid) };
    if (db) plain['$db'] = db;
    return Object.assign(plain, withoutReferences(fields));
  }
  if (Array.isArray(value)) return value.map(withoutReferences);
  if (value === null || typeof value !== 'object' || Object.getPrototypeOf(value) !== Object.prototype) return value;
  const record = value as Record<string, unknown>;
  for (const key of Object.keys(record)) {
    if (key !== '__proto__') record[key] = withoutReferences(record[key]);
  }
  return record;
}
