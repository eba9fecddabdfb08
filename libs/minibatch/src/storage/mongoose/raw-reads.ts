import { mongo } from 'mongoose';
import type { MessageId } from '../stream-store.interface.js';
import { toObjectId } from './message-ids.js';
import { RawDocument } from './raw-document.js';
import { isServerLost } from './store-errors.js';

const OPTIONS = {
  readPreference: 'primary',
  fieldsAsRaw: { firstBatch: true },
  ignoreUndefined: true,
  // Ids of cursors have 64 bits.
  useBigInt64: true,
} as const;

export interface Query<T> {
  readonly filter: mongo.Filter<T>;
  readonly sort?: Readonly<Record<string, 1 | -1>>;
  /** Most documents. */
  readonly limit: number;
}

export interface RawPage {
  /** Documents as the server sent them: BSON, each a part of the one reply. */
  readonly documents: readonly Buffer[];
  /** True if the server had more of the query than fits into a reply (16 MiB). */
  readonly more: boolean;
}

interface FindReply {
  readonly cursor: { readonly id: bigint | number; readonly firstBatch: readonly Buffer[] };
}

/**
 * The first reply to a query, undecoded. The command itself, because the driver's cursor makes a tree of objects of each document of
 * a reply and holds them until the last one is taken, also where it is asked for the bytes alone: a quarter of what a drain
 * allocates. As a cursor's, the command is sent once more if its server was lost.
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
    // Over the limit, so that the server closes the cursor with the first reply.
    batchSize: limit + 1,
    ...(readConcern && { readConcern: { level: readConcern.level } }),
  };
  const send = () => db.command(command, OPTIONS) as Promise<unknown> as Promise<FindReply>;
  const { cursor } = await send().catch((error: unknown) => {
    if (isServerLost(error)) return send();
    throw error;
  });
  const more = BigInt(cursor.id) !== 0n;
  // Left alone, the server would close it after ten minutes.
  if (more) await db.command({ killCursors: collectionName, cursors: [cursor.id] }).catch(() => undefined);
  return { documents: cursor.firstBatch, more };
}

/** All of these that are there, in no order: what a reply has no room for is asked for again. */
export async function findByIds<T extends mongo.Document>(
  collection: mongo.Collection<T>,
  ids: readonly MessageId[],
): Promise<readonly RawDocument[]> {
  const found: RawDocument[] = [];
  for (let wanted = ids, more = true; more && wanted.length > 0;) {
    // By ids alone: a second condition beside `$in` makes some servers quadratic.
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
