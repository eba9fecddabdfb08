import type { BSONRegExp, Document } from 'bson';
import type { mongo } from 'mongoose';
import { ErrorCode, MinibatchError, messageOf } from '../../errors/minibatch.error.js';
import { regExpOf } from '../../common/reg-exp.js';
import { setOwn } from '../../common/set-own.js';
import { FailureReason } from '../failure-reason.js';

/** How the documents of a collection are decoded, by the options of the collection or its connection. */
export type Decoding = Pick<
  mongo.BSONSerializeOptions,
  'bsonRegExp' | 'promoteBuffers' | 'promoteLongs' | 'promoteValues' | 'useBigInt64'
>;

/**
 * Of the application's own driver: applications compare values by class, and a second copy of the bson package has other classes.
 */
export type DriverBson = Pick<typeof mongo.BSON, 'deserialize' | 'onDemand'>;

export interface FoundDocument {
  readonly document: Document;
  /** Why it could not be decoded: then it has only the fields that could. */
  readonly undecodable?: Error;
}

/**
 * A document of a query with `raw: true`. The driver would decode all documents of a reply together, and one that it cannot decode (text
 * that is not UTF-8) would fail them all.
 */
export function decodeFound(bson: DriverBson, bytes: Uint8Array, decoding: Decoding): FoundDocument {
  try {
    return { document: decode(bson, bytes, decoding) };
  } catch (error) {
    return { document: decodableFields(bson, bytes, decoding), undecodable: undecodable(error) };
  }
}

export function undecodable(cause: unknown): Error {
  return new MinibatchError(ErrorCode.SourceFailed, `it cannot be decoded: ${messageOf(cause)}`, {
    cause,
    details: { reason: FailureReason.Undecodable },
  });
}

function decode({ deserialize }: DriverBson, bytes: Uint8Array, decoding: Decoding): Document {
  try {
    // Python has regular expressions that JavaScript cannot compile; these stay what they are.
    const document = deserialize(bytes, { ...decoding, bsonRegExp: true });
    return decoding.bsonRegExp === true ? document : withRegExps(document);
  } catch {
    // With flags that BSON does not know.
    return deserialize(bytes, { ...decoding, bsonRegExp: false });
  }
}

function decodableFields(bson: DriverBson, bytes: Uint8Array, decoding: Decoding): Document {
  const document: Document = {};
  for (const [type, nameAt, nameLength, at, length] of bson.onDemand.parseToElements(bytes)) {
    const name = bytes.subarray(nameAt, nameAt + nameLength);
    try {
      Object.assign(document, decode(bson, documentOf(type, name, bytes.subarray(at, at + length)), decoding));
    } catch {
      // It is this field.
    }
  }
  return document;
}

function documentOf(type: number, name: Uint8Array, value: Uint8Array): Uint8Array {
  const bytes = Buffer.concat([Buffer.alloc(4), Buffer.of(type), name, Buffer.of(0), value, Buffer.of(0)]);
  bytes.writeInt32LE(bytes.length);
  return bytes;
}

/** Makes regular expressions of JavaScript of those that have one, in place. */
export function withRegExps<V>(value: V): V {
  return visit(value) as V;
}

function visit(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) {
    for (const [index, item] of value.entries()) {
      if (typeof item === 'object' && item !== null) value[index] = visit(item);
    }
    return value;
  }
  if ('_bsontype' in value) {
    return isRegExp(value) ? regExpOf(value.constructor, value.pattern, value.options) : value;
  }
  if (value instanceof Date || ArrayBuffer.isView(value)) return value;
  const object = value as Record<string, unknown>;
  for (const name of Object.keys(object)) {
    const before = object[name];
    if (typeof before !== 'object' || before === null) continue;
    const after = visit(before);
    if (after !== before) setOwn(object, name, after);
  }
  return value;
}

function isRegExp(value: object): value is BSONRegExp & { readonly constructor: typeof BSONRegExp } {
  // Not by class: the application's driver may have its own copy of the bson package.
  return '_bsontype' in value && value._bsontype === 'BSONRegExp' && 'pattern' in value && 'options' in value;
}
