import type { mongo } from 'mongoose';
import { foreignCodeOf } from '../../errors/error-text.js';
import { ErrorCode, MinibatchError, messageOf } from '../../errors/minibatch.error.js';
import { FailureReason } from '../failure-reason.js';
import { ChangeStream } from './change-stream.js';
import type { Reading } from './collection-source.options.js';
import type { ChangeStart } from './position.js';
import { isLostToken, isRefusal, serverFacts } from './server-facts.js';

/** What came of opening a change stream. */
export type Opening =
  | { readonly changes: ChangeStream }
  /** The server has change streams, but none from there. */
  | { readonly lost: unknown }
  /** The server has none. */
  | { readonly unsupported: unknown };

/** Rejects if the server cannot be reached, or says no for a reason that is neither of these. */
export async function openChanges(
  collection: mongo.Collection,
  reading: Reading,
  start: ChangeStart | undefined,
  signal: AbortSignal,
): Promise<Opening> {
  try {
    return { changes: await ChangeStream.open(collection, reading, start, signal) };
  } catch (error) {
    if (start !== undefined && isLostToken(error)) return { lost: error };
    if (!isRefusal(error)) throw error;
    if (start === undefined) return unsupported(reading.where, collection, error, signal);
    const fresh = await openChanges(collection, reading, undefined, signal);
    if (!('changes' in fresh)) return fresh;
    await fresh.changes.close();
    // Servers that only speak the protocol have no codes. If it opens without the token, the token was it.
    if (foreignCodeOf(error) === undefined) return { lost: error };
    throw new MinibatchError(
      ErrorCode.SourceFailed,
      `${reading.where}: the server could not resume the change stream of ${collection.namespace}: ${messageOf(error)}. The stored position is kept and retried`,
      { cause: error, details: { reason: FailureReason.Refused, collection: collection.namespace } },
    );
  }
}

async function unsupported(
  where: string,
  collection: mongo.Collection,
  error: unknown,
  signal: AbortSignal,
): Promise<Opening> {
  const { replicated } = await serverFacts(collection, signal);
  if (replicated) {
    throw new MinibatchError(
      ErrorCode.SourceFailed,
      `${where}: the server refuses a change stream of ${collection.namespace}: ${messageOf(error)}. Allow it there, or set mode: 'cursor'`,
      { cause: error, details: { reason: FailureReason.Refused, collection: collection.namespace } },
    );
  }
  return { unsupported: error };
}
