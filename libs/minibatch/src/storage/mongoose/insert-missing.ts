import { mongo } from 'mongoose';
import { DUPLICATE_KEY, isDuplicateKey, isInDoubt, unwrapped, writeErrorsOf } from './store-errors.js';

/**
 * Inserts the documents; those whose `_id` is there already stay as they are. For ids that only one thing can have, so that what is
 * there is the same document, since an earlier try whose answer was lost.
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
  if (!(cause instanceof mongo.MongoBulkWriteError)) return isDuplicateKey(cause);
  return !isInDoubt(cause) && writeErrorsOf(cause).every(({ code }) => code === DUPLICATE_KEY);
}
