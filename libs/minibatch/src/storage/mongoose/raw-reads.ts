import { mongo } from 'mongoose';
import type { MessageId } from '../stream-store.interface.js';
import { toObjectId } from './message-ids.js';
import { RawDocument } from './raw-document.js';
import { retriedIfLost } from './store-errors.js';

const OPTIONS = {
  readPreference: 'primary',
  fieldsAsRaw: { firstBatch: true },
  ignoreUndefined: true,
  // Cursor ids have 64 bits.
  useBigInt64: true,
} as const;

export interface Query<T> {
  readonly filter: mongo.Filter<T>;
  readonly sort?: Readonly<Record<string, 1 | -1>>;
  /** The maximum number of documents. */
  readonly limit: number;
}

export interface RawPage {
  /** Documents as the server sent them, in BSON; each is a part of the reply. */
  readonly documents: readonly Buffer[];
  /** True if not all results fit into one reply (16 MiB). */
  readonly more: boolean;
}

interface FindReply {
  readonly cursor: { readonly id: bigint | number; readonly firstBatch: readonly Buffer[] };
}

/**
 * The first reply to a query, not decoded. It sends the command itself: the driver's cursor creates objects for each document of a reply
 * and keeps them until the last one is taken, even if only the bytes are wanted. That would be a quarter of what a drain allocates. Like a
 * cursor, it sends the command once more if the server was lost.
 */
export async function findRaw<T extends mongo.Document>(
  collection: mongo.Collection<T>,
  { filter, sort, limit }: Query<T>,
): Promise<RawPage> {
  const { db, collectionName, readConcern } = collection;
  const command = {
    find: collectionName,
    filter,
    ...(sort && { sort }),
    limit,
    // Above the limit, so that the server closes the cursor with the first reply.
    batchSize: limit + 1,
    ...(readConcern && { readConcern: { level: readConcern.level } }),
  };
  const send = () => db.command(command, OPTIONS) as Promise<unknown> as Promise<FindReply>;
  const { cursor } = await retriedIfLost(send);
  const more = BigInt(cursor.id) !== 0n;
  // Otherwise the server would keep it open for ten minutes.
  if (more) await db.command({ killCursors: collectionName, cursors: [cursor.id] }).catch(() => undefined);
  return { documents: cursor.firstBatch, more };
}

/** All of these documents that exist, in no particular order. What does not fit into a reply is requested again. */
export async function findByIds<T extends mongo.Document>(
  collection: mongo.Collection<T>,
  ids: readonly MessageId[],
): Promise<readonly RawDocument[]> {
  const found: RawDocument[] = [];
  for (let wanted = ids, more = true; more && wanted.length > 0;) {
    // By ids alone: a second condition in addition to `$in` is quadratic on some servers.
    const filter = { _id: { $in: wanted.map(toObjectId) } } as mongo.Filter<T>;
    const page = await findRaw(collection, { filter, limit: wanted.length });
    const documents = page.documents.map((bytes) => new RawDocument(bytes));
    found.push(...documents);
    ({ more } = page);
    if (!more) continue;
    const seen = new Set(documents.map((document) => (document.get('_id') as mongo.ObjectId).toHexString()));
    wanted = wanted.filter((id) => !seen.has(id));
  }
  return found;
}
