import type { mongo } from 'mongoose';
import type { DocumentAppender } from './document-appender.js';
import type { ResolvedReading } from './collection-source.options.js';
import { dedupeId } from './dedupe-id.js';
import { readInBatches } from './find-batches.js';
import type { SnapshotPosition } from './position.js';

/**
 * Reads the whole collection in the order of `_id`, from `from` on. What is inserted or changed meanwhile does not matter: the
 * change stream begins at `start`, which is before all this. False if the signal aborted before the end.
 */
export async function readSnapshot(
  collection: mongo.Collection,
  reading: Pick<ResolvedReading, 'filter' | 'projection' | 'batch'>,
  { start, from }: SnapshotPosition,
  appender: DocumentAppender,
): Promise<boolean> {
  const { namespace, signal } = appender;
  const rest = from === undefined || (await hasSeveralTypes(collection, signal)) ? {} : { _id: { $gte: from } };
  const filter = { $and: [rest, reading.filter] };
  for await (const documents of readInBatches(collection, reading, filter, { _id: 1 }, signal)) {
    const last: unknown = documents.at(-1)?.document['_id'];
    await appender.append(
      documents.map((found) => ({ ...found, dedupeId: dedupeId(namespace, found.document['_id']) })),
      { mode: 'snapshot', start, from: last },
    );
    if (signal.aborted) return false;
  }
  return !signal.aborted;
}

/** A comparison finds only values of its own type: then a snapshot that was interrupted starts over. */
async function hasSeveralTypes(collection: mongo.Collection, signal: AbortSignal): Promise<boolean> {
  const end = (order: 1 | -1) => collection.findOne({}, { sort: { _id: order }, projection: { _id: 1 }, signal });
  const [first, last] = await Promise.all([end(1), end(-1)]);
  return first !== null && last !== null && typeOf(first._id) !== typeOf(last._id);
}

function typeOf(value: unknown): string {
  if (typeof value !== 'object' || value === null) return typeof value;
  if ('_bsontype' in value) return String(value._bsontype);
  return value instanceof Date ? 'date' : 'object';
}
