import { mongo } from 'mongoose';
import type { Mutable } from '../../internal/mutable.js';
import type { NewMessage, StoredMessage } from '../stream-store.interface.js';
import type { BufferDocument } from './schemas/buffer.schema.js';

const { BSON, DBRef } = mongo;

/** A message as it is inserted. Absent fields stay absent, so that the document looks like one of Python's. */
export function toDocument(message: NewMessage, id: mongo.ObjectId): BufferDocument {
  const { stream, created, data, key, headers, dedupeId, partition } = message;
  const document: BufferDocument = { _id: id, stream, created, data, processed: false };
  if (key !== undefined) document.key = key;
  if (headers !== undefined) document.headers = headers;
  if (dedupeId !== undefined) document.dedupeKey = dedupeKey(stream, dedupeId);
  if (partition) document.partition = partition;
  return document;
}

export function dedupeKey(stream: string, dedupeId: string): string {
  return `${stream}\0${dedupeId}`;
}

/**
 * A document as the server sent it. Read from the bytes, because their number is wanted anyway, and because the options of
 * the application's connection must not change what the data come back as.
 */
export function fromBytes<T extends { data?: unknown } = BufferDocument>(bytes: Buffer): T {
  const document = BSON.deserialize(bytes) as T;
  // The deserializer makes an object of its own of data with `$ref` and `$id`; messages hold what was given.
  if (bytes.includes('$ref')) document.data = withoutReferences(document.data);
  return document;
}

export function toMessage(document: BufferDocument, bytes: number): StoredMessage {
  const { _id, created, data, key, headers, done, keep } = document;
  // Field by field: spreads of what is mostly absent took as much memory as the message.
  const message: Mutable<StoredMessage> = {
    id: _id.toHexString(),
    created: created ?? _id.getTimestamp(),
    data,
    bytes,
  };
  if (key !== undefined) message.key = key;
  if (headers !== undefined) message.headers = headers;
  // Where a group keeps the message, nobody may conclude from marks that it can be removed: the list says "look again".
  if (keep) message.doneBy = [];
  else if (done !== undefined) message.doneBy = done;
  if (document.dedupeKey !== undefined) message.deduped = true;
  if (document.redriven !== undefined) message.redriven = true;
  return message;
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
