import { isUtf8 } from 'node:buffer';
import { regExpOf } from '../common/reg-exp.js';
import { setOwn } from '../common/set-own.js';

/** Element types, as the BSON specification numbers them. */
const Type = {
  Double: 1,
  String: 2,
  Document: 3,
  Array: 4,
  Binary: 5,
  Undefined: 6,
  ObjectId: 7,
  Boolean: 8,
  Date: 9,
  Null: 10,
  RegExp: 11,
  DbPointer: 12,
  Code: 13,
  Symbol: 14,
  CodeWithScope: 15,
  Int32: 16,
  Timestamp: 17,
  Int64: 18,
  Decimal128: 19,
  MinKey: 255,
  MaxKey: 127,
} as const;

/** The classes to make values of. They come from the driver where there is one, so that `instanceof` holds for the application. */
export type BsonClasses = Pick<
  typeof import('bson'),
  'Binary' | 'BSONRegExp' | 'Code' | 'Decimal128' | 'MaxKey' | 'MinKey' | 'ObjectId' | 'Timestamp' | 'UUID'
>;

/**
 * What an int64 is decoded as. `bigint`: always a bigint, because JavaScript wrote it and writes its numbers as int32 or double.
 * `auto`: a number if that is exact, otherwise a bigint, because other languages write ordinary integers as int64.
 */
export type Int64 = 'bigint' | 'auto';

const SUBTYPE_DEFAULT = 0;
const SUBTYPE_OLD_BINARY = 2;
const SUBTYPE_UUID = 4;
const UUID_BYTES = 16;
const OBJECT_ID_BYTES = 12;

/** The bytes are not BSON, or damaged. */
export class MalformedBson extends Error {
  override readonly name = 'MalformedBson';
}

/**
 * Decodes BSON into what was given to `append`. The library's own deserializer does not: it makes a `DBRef` of any object with `$ref`
 * and `$id`, a `Binary` of a `Buffer` and a number of a bigint, and it throws at a regular expression that JavaScript can't compile.
 *
 * Binary data are copied: nothing that is decoded points into the bytes.
 */
export class BsonDecoder {
  constructor(private readonly classes: BsonClasses) {}

  /** @throws MalformedBson */
  document<D extends object = Record<string, unknown>>(bytes: Buffer, int64: Int64): D {
    return new Reader(bytes, this.classes, int64).root() as D;
  }

  /** The value of one element: `at` is where it begins, behind the element's name. @throws MalformedBson */
  value(bytes: Buffer, type: number, at: number, int64: Int64): unknown {
    return new Reader(bytes, this.classes, int64, at).value(type);
  }
}

class Reader {
  constructor(
    private readonly bytes: Buffer,
    private readonly classes: BsonClasses,
    private readonly int64: Int64,
    private at = 0,
  ) {}

  root(): Record<string, unknown> {
    const document = this.object();
    if (this.at !== this.bytes.length) throw new MalformedBson('there are bytes behind the document');
    return document;
  }

  value(type: number): unknown {
    switch (type) {
      case Type.String:
      case Type.Symbol:
        return this.text();
      case Type.Int32:
        return this.bytes.readInt32LE(this.skip(4));
      case Type.Double:
        return this.bytes.readDoubleLE(this.skip(8));
      case Type.Document:
        return this.object();
      case Type.Array:
        return this.array();
      case Type.Boolean:
        return this.bytes[this.skip(1)] === 1;
      case Type.Null:
        return null;
      case Type.Date:
        return this.date();
      case Type.Int64:
        return this.integer();
      default:
        return this.rare(type);
    }
  }

  private rare(type: number): unknown {
    const { classes } = this;
    switch (type) {
      case Type.ObjectId:
        return new classes.ObjectId(this.copy(OBJECT_ID_BYTES));
      case Type.Binary:
        return this.binary();
      case Type.RegExp:
        return this.regExp();
      case Type.Decimal128:
        return new classes.Decimal128(this.copy(16));
      case Type.Timestamp: {
        const at = this.skip(8);
        return new classes.Timestamp({ i: this.bytes.readUInt32LE(at), t: this.bytes.readUInt32LE(at + 4) });
      }
      case Type.Code:
        return new classes.Code(this.text());
      case Type.CodeWithScope:
        this.skip(4);
        return new classes.Code(this.text(), this.object());
      case Type.DbPointer:
        return { $ref: this.text(), $id: new classes.ObjectId(this.copy(OBJECT_ID_BYTES)) };
      case Type.Undefined:
        return undefined;
      case Type.MinKey:
        return new classes.MinKey();
      case Type.MaxKey:
        return new classes.MaxKey();
      default:
        throw new MalformedBson(`there is no element of type ${type}`);
    }
  }

  private object(): Record<string, unknown> {
    const object: Record<string, unknown> = {};
    const end = this.end();
    for (let type = this.type(end); type !== 0; type = this.type(end)) {
      const name = this.name();
      setOwn(object, name, this.value(type));
    }
    return object;
  }

  private array(): unknown[] {
    const array: unknown[] = [];
    const end = this.end();
    for (let type = this.type(end); type !== 0; type = this.type(end)) {
      this.skipName();
      array.push(this.value(type));
    }
    return array;
  }

  /** Where the document ends that begins here. */
  private end(): number {
    const from = this.skip(4);
    const size = this.bytes.readInt32LE(from);
    if (size < 5 || from + size > this.bytes.length)
      throw new MalformedBson(`a document can't have ${size} bytes here`);
    return from + size;
  }

  /** Of the next element; 0 at the end of the document. */
  private type(end: number): number {
    const type = this.bytes[this.skip(1)] ?? 0;
    if (type === 0 ? this.at !== end : this.at >= end) throw new MalformedBson('a document does not end where it says');
    return type;
  }

  /** Moves on, and gives where it was. */
  private skip(length: number): number {
    const from = this.at;
    this.at = from + length;
    if (this.at > this.bytes.length) throw new MalformedBson('a value goes beyond the end');
    return from;
  }

  private copy(length: number): Buffer {
    const from = this.skip(length);
    return Buffer.from(this.bytes.subarray(from, this.at));
  }

  private name(): string {
    const from = this.at;
    this.at = nameEnd(this.bytes, from) + 1;
    return nameAt(this.bytes, from, this.at - 1);
  }

  private skipName(): void {
    this.at = nameEnd(this.bytes, this.at) + 1;
  }

  private text(): string {
    const { bytes } = this;
    const length = bytes.readInt32LE(this.skip(4));
    if (length < 1) throw new MalformedBson(`a string can't have ${length} bytes`);
    const from = this.skip(length);
    const end = this.at - 1;
    if (bytes[end] !== 0) throw new MalformedBson('a string does not end where it says');
    return textAt(bytes, from, end);
  }

  private date(): Date {
    const at = this.skip(8);
    return new Date(this.bytes.readInt32LE(at + 4) * 2 ** 32 + this.bytes.readUInt32LE(at));
  }

  private integer(): number | bigint {
    const value = this.bytes.readBigInt64LE(this.skip(8));
    if (this.int64 === 'bigint') return value;
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value;
  }

  private binary(): unknown {
    let length = this.bytes.readInt32LE(this.skip(4));
    const subtype = this.bytes[this.skip(1)] ?? SUBTYPE_DEFAULT;
    if (length < 0) throw new MalformedBson(`binary data can't have ${length} bytes`);
    if (subtype === SUBTYPE_OLD_BINARY) {
      // It says its length twice.
      this.skip(4);
      length -= 4;
    }
    const data = this.copy(length);
    if (subtype === SUBTYPE_DEFAULT) return data;
    const { Binary, UUID } = this.classes;
    return subtype === SUBTYPE_UUID && length === UUID_BYTES ? new UUID(data) : new Binary(data, subtype);
  }

  private regExp(): unknown {
    const source = this.name();
    return regExpOf(this.classes.BSONRegExp, source, this.name());
  }
}

/** Where the NUL is. */
function nameEnd(bytes: Buffer, from: number): number {
  let at = from;
  while (at < bytes.length && bytes[at] !== 0) at += 1;
  if (at >= bytes.length) throw new MalformedBson('a name goes beyond the end');
  return at;
}

/** Names that were met, by a hash of their bytes: messages of a stream have the same ones, and finding one is faster than making it. */
const known: (string | undefined)[] = Array.from({ length: 1024 });
const LONGEST_KNOWN = 32;

function nameAt(bytes: Buffer, from: number, end: number): string {
  const length = end - from;
  if (length > LONGEST_KNOWN) return textAt(bytes, from, end);
  let hash = length;
  for (let at = from; at < end; at += 1) hash = (Math.imul(hash, 31) + (bytes[at] ?? 0)) | 0;
  const slot = hash & 1023;
  const candidate = known[slot];
  if (candidate !== undefined && isAt(bytes, from, length, candidate)) return candidate;
  const name = textAt(bytes, from, end);
  // Others have more bytes than characters, and would never be found.
  if (name.length === length) known[slot] = name;
  return name;
}

function isAt(bytes: Buffer, from: number, length: number, name: string): boolean {
  if (name.length !== length) return false;
  for (let index = 0; index < length; index += 1) {
    if (bytes[from + index] !== name.charCodeAt(index)) return false;
  }
  return true;
}

function textAt(bytes: Buffer, from: number, end: number): string {
  const text = bytes.toString('utf8', from, end);
  if (text.includes('\uFFFD') && !isUtf8(bytes.subarray(from, end))) throw new MalformedBson('text is not UTF-8');
  return text;
}
