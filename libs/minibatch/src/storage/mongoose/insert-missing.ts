import { mongo } from 'mongoose';
import { batchesOf } from '../../common/batches.js';
import { write } from './raw-writes.js';
import {
  DUPLICATE_KEY,
  foreignIndexOf,
  isDuplicateKey,
  isInDoubt,
  retriedIfLost,
  unwrapped,
  writeErrorsOf,
} from './store-errors.js';

/**
 * Inserts the documents; one whose `_id` exists already stays as it is. For ids that identify one thing, so that an existing document is
 * the same one, from an earlier attempt whose answer was lost.
 */
export async function insertMissing<T extends mongo.Document>(
  collection: mongo.Collection<T>,
  documents: readonly mongo.OptionalUnlessRequiredId<T>[],
  options: mongo.BulkWriteOptions = {},
): Promise<void> {
  try {
    await collection.insertMany(documents, { ...options, ordered: false });
  } catch (error) {
    if (!onlyDuplicates(error)) throw error;
  }
}

function onlyDuplicates(error: unknown): boolean {
  const cause = unwrapped(error);
  if (!(cause instanceof mongo.MongoBulkWriteError))
    return isDuplicateKey(cause) && foreignIndexOf(cause.errorResponse) === undefined;
  return !isInDoubt(cause) && writeErrorsOf(cause).every(isPresent);
}

/** Otherwise the document is not there, and must not be taken for one that is. */
function isPresent(error: { readonly code?: unknown; readonly errmsg?: string | undefined }): boolean {
  const { code, errmsg = '' } = error;
  return code === DUPLICATE_KEY && foreignIndexOf({ errmsg }) === undefined;
}

/** Limits of one command: what the smallest server accepts, and well below what the driver can serialize. */
const COMMAND = { items: 1_000, bytes: 12 * 1024 * 1024 };

/** A document that contains raw bytes (`RawValue`), and its size. */
export interface RawInsert {
  readonly document: mongo.Document;
  readonly bytes: number;
}

/** Like `insertMissing`, for documents whose size the driver can't determine. */
export async function insertMissingRaw<T extends mongo.Document>(
  collection: mongo.Collection<T>,
  inserts: readonly RawInsert[],
): Promise<void> {
  for (const some of inCommands(inserts)) {
    const documents = some.map(({ document }) => document);
    // Repeating is safe: documents that exist already stay as they are.
    const { writeErrors = [], writeConcernError } = await retriedIfLost(() => write(collection, 'insert', documents));
    const failure = writeErrors.find((error) => !isPresent(error)) ?? writeConcernError;
    if (failure) throw new mongo.MongoServerError({ ...failure });
  }
}

/** The statements in commands, in order. */
export function inCommands<S extends { readonly bytes: number }>(statements: readonly S[]): (readonly S[])[] {
  return batchesOf(statements, COMMAND, ({ bytes }) => bytes).map(({ items }) => items);
}
