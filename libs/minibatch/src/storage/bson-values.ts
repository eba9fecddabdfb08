import {
  Binary,
  BSON,
  BSONRegExp,
  type BSONSymbol,
  Code,
  type DBRef,
  Decimal128,
  Double,
  Int32,
  type Long,
  MaxKey,
  MinKey,
  ObjectId,
  Timestamp,
} from 'bson';
import { furtherProperty } from './further-properties.js';

/** A value of one of the classes by which JavaScript has the types of BSON that it has not itself. */
export type BsonValue =
  | Binary
  | BSONRegExp
  | BSONSymbol
  | Code
  | DBRef
  | Decimal128
  | Double
  | Int32
  | Long
  | MaxKey
  | MinKey
  | ObjectId
  | Timestamp;

/** What copying them needs from the copier of the surrounding values. */
export interface BsonCopier {
  copy(value: unknown): unknown;
  copyAt(key: string, value: unknown): unknown;
  text(value: string): string;
  wellFormed(value: string): string;
  count(bytes: number): void;
  /** The error for a property that would be lost. */
  further(value: object, key: PropertyKey): Error;
  notStorable(why: string, cause?: unknown): Error;
}

/** An old subtype of binary data. */
const SAYS_ITS_LENGTH_TWICE = 2;

/** The properties of those that come back as something else. */
const REPLACED: Partial<Record<string, readonly string[]>> = {
  Long: ['high', 'low', 'unsigned'],
  BSONSymbol: ['value'],
  DBRef: ['collection', 'oid', 'db', 'fields'],
};

/** BSON types of another major version are refused by the serializer. */
const BSON_VERSION = Symbol.for('@@mdb.bson.version');
const OUR_BSON_VERSION: unknown = Reflect.get(new ObjectId(), BSON_VERSION);

/** By the prototype: a plain object from outside with a key of that name is no BSON type. */
export function isBsonValue(value: object): value is BsonValue {
  return '_bsontype' in value && !Object.hasOwn(value, '_bsontype') && typeof value._bsontype === 'string';
}

/** A copy: most of them can be changed, and hold what can. @throws as the copier refuses what can't be stored */
export function copyBsonValue(copier: BsonCopier, value: BsonValue): unknown {
  if (Reflect.get(value, BSON_VERSION) !== OUR_BSON_VERSION) {
    throw copier.notStorable(
      `is a BSON ${value.constructor.name} of another version of the bson package: make it with the classes of 'mongoose' or of bson ${String(OUR_BSON_VERSION)}`,
    );
  }
  const copy = copyOf(copier, value);
  const known = REPLACED[value._bsontype] ?? Object.keys(copy as object);
  const key = furtherProperty(value, known);
  if (key !== undefined) throw copier.further(value, key);
  return copy;
}

function copyOf(copier: BsonCopier, value: BsonValue): unknown {
  switch (value._bsontype) {
    case 'ObjectId':
      copier.count(12);
      return new ObjectId(Buffer.from(value.id));
    case 'Binary':
      return copyBinary(copier, value);
    case 'Long':
      return copier.copy(value.toBigInt());
    case 'Int32':
      copier.count(4);
      return new Int32(value.value);
    case 'Double':
      copier.count(8);
      return new Double(value.value);
    case 'Decimal128':
      copier.count(16);
      return new Decimal128(Buffer.from(value.bytes));
    case 'Timestamp':
      copier.count(8);
      return new Timestamp({ t: value.t, i: value.i });
    case 'BSONSymbol':
      return copier.text(value.value);
    case 'BSONRegExp':
      copier.count(2 + Buffer.byteLength(value.pattern) + value.options.length);
      return new BSONRegExp(copier.wellFormed(value.pattern), value.options);
    case 'Code':
      return copyCode(copier, value);
    case 'DBRef':
      return copier.copy(plainReference(value));
    case 'MinKey':
      return new MinKey();
    case 'MaxKey':
      return new MaxKey();
    default:
      throw copier.notStorable(
        `says of itself that it is the BSON type ${String(Reflect.get(value, '_bsontype'))}, which does not exist`,
      );
  }
}

/** The buffer of a `Binary` may be larger than what it holds, and the serializer would write all of it. */
function copyBinary(copier: BsonCopier, value: Binary): Binary {
  const { sub_type: subtype, position } = value;
  copier.count(5 + position + (subtype === SAYS_ITS_LENGTH_TWICE ? 4 : 0));
  const copy = new Binary(Buffer.from(value.buffer.subarray(0, position)), subtype);
  if (subtype === Binary.SUBTYPE_VECTOR) {
    try {
      BSON.serialize({ copy });
    } catch (error) {
      throw copier.notStorable('is a vector that BSON does not take', error);
    }
  }
  return copy;
}

function copyCode(copier: BsonCopier, { code, scope }: Code): Code {
  const copy = copier.text(code);
  if (scope === null) return new Code(copy);
  copier.count(4);
  const copied = copier.copyAt('scope', scope);
  if (typeof copied !== 'object' || copied === null) throw copier.notStorable('has a scope that is not an object');
  return new Code(copy, copied);
}

/** As MongoDB has it. */
function plainReference({ collection, oid, db, fields }: DBRef): object {
  return { $ref: collection, $id: oid, ...(db === undefined ? {} : { $db: db }), ...fields };
}
