import { mongo } from 'mongoose';
import { ErrorCode, MinibatchError, messageOf } from '../../errors/minibatch.error.js';

/** Runs a database operation and turns every failure into a coded error. `what` completes "MongoDB could not …". */
export async function guarded<R>(what: string, work: () => Promise<R>): Promise<R> {
  try {
    return await work();
  } catch (error) {
    throw asStoreError(what, error);
  }
}

export function asStoreError(what: string, error: unknown): MinibatchError {
  if (error instanceof MinibatchError) return error;
  const cause = unwrapped(error);
  return new MinibatchError(
    isDenied(cause) ? ErrorCode.StoreDenied : ErrorCode.StoreUnavailable,
    `MongoDB could not ${what}: ${messageOf(cause)}. ${advice(cause)}`,
    { cause, details: { operation: what, ...(isOutOfReach(cause) && { outOfReach: true }) } },
  );
}

export function advice(cause: unknown): string {
  if (isDenied(cause)) return isUnauthorized(cause) ? GRANT : SIGN_IN;
  if (isNetworkError(cause))
    return 'Check that the server is running and reachable; the call can be repeated unchanged';
  return 'See the cause; the call can be repeated unchanged';
}

const GRANT = 'The database user lacks a right: grant it the role readWrite on the database';
const SIGN_IN = 'Check the user, the password and authSource in the connection string';

const UNAUTHORIZED = 13;
const AUTHENTICATION_FAILED = 18;
/** Of Atlas, for several errors. */
const ATLAS_ERROR = 8000;

/** The server does not let this user sign in, or do this. To wait does not help. */
export function isDenied(error: unknown): boolean {
  if (!(error instanceof mongo.MongoServerError)) return false;
  if (error.code === ATLAS_ERROR) return /\bauth/i.test(error.message);
  return isUnauthorized(error) || error.code === AUTHENTICATION_FAILED;
}

function isUnauthorized(error: unknown): boolean {
  return error instanceof mongo.MongoServerError && error.code === UNAUTHORIZED;
}

/**
 * Bulk writes of the driver wrap every failure, even a lost connection, in a bulk error without write errors, which looks as if everything
 * was written. This returns the original error.
 */
export function unwrapped(error: unknown): unknown {
  if (!(error instanceof mongo.MongoBulkWriteError)) return error;
  const original: unknown = error.errorResponse;
  return original instanceof Error ? original : error;
}

export function writeErrorsOf(error: mongo.MongoBulkWriteError): readonly mongo.WriteError[] {
  return [error.writeErrors].flat();
}

/** The server has written, but does not know whether the write will survive a failover. */
export function isInDoubt(error: mongo.MongoBulkWriteError): boolean {
  return writeErrorsOf(error).length === 0 || error.result?.getWriteConcernError?.() !== undefined;
}

/** The server was not reached, or its answer was lost. */
export function isNetworkError(error: unknown): boolean {
  return (
    error instanceof mongo.MongoNetworkError ||
    error instanceof mongo.MongoServerSelectionError ||
    error instanceof mongo.MongoNotConnectedError ||
    error instanceof mongo.MongoTopologyClosedError ||
    error instanceof mongo.MongoClientClosedError
  );
}

/** Error codes of a server that is no longer primary or is shutting down. */
const LEAVING = new Set([
  91, // ShutdownInProgress
  189, // PrimarySteppedDown
  10107, // NotWritablePrimary
  11600, // InterruptedAtShutdown
  11602, // InterruptedDueToReplStateChange
  13435, // NotPrimaryNoSecondaryOk
  13436, // NotPrimaryOrSecondary
]);

/** The server hands over to another one, or is shutting down. */
export function isLeaving(code: unknown): boolean {
  return LEAVING.has(Number(code));
}

/** The connection broke, or the server hands over: another server may answer immediately. */
export function isServerLost(error: unknown): boolean {
  return error instanceof mongo.MongoNetworkError || (error instanceof mongo.MongoServerError && isLeaving(error.code));
}

/** Sends once more if the server was lost, as the driver does for commands it retries. What is sent must allow that. */
export async function retriedIfLost<R>(send: () => Promise<R>): Promise<R> {
  return send().catch((error: unknown) => {
    if (isServerLost(error)) return send();
    throw error;
  });
}

/** Error codes by which a server rejects a command before it executes anything. */
const REFUSALS = new Set([
  13, // Unauthorized
  18, // AuthenticationFailed
  73, // InvalidNamespace
  10107, // NotWritablePrimary
  13435, // NotPrimaryNoSecondaryOk
]);

/** Names of errors that the driver throws before it selects a server. */
const MISUSE = new Set([
  'MongoCompatibilityError',
  'MongoExpiredSessionError',
  'MongoInvalidArgumentError',
  'MongoNotConnectedError',
  'MongoTransactionError',
]);

/** Names of errors that the driver throws while it selects a server and a connection. */
const NOT_SENT = new Set(['MongoServerSelectionError', 'MongoPoolClearedError', 'MongoWaitQueueTimeoutError']);

/** Labels of failures to connect, and of servers that reject a command because they are overloaded. */
const BEFORE_EXECUTION = ['HandshakeError', 'SystemOverloadedError'];

/** True only if certainly no server has executed the command, provided that the driver has sent it once. */
export function neverExecuted(error: unknown): boolean {
  if (!(error instanceof mongo.MongoError)) return false;
  if (error instanceof mongo.MongoServerError) return REFUSALS.has(Number(error.code));
  return (
    MISUSE.has(error.name) || NOT_SENT.has(error.name) || BEFORE_EXECUTION.some((label) => error.hasErrorLabel(label))
  );
}

/** The server does not answer or accepts nothing now, but may be back soon. Not for a client that the application has closed. */
export function isOutOfReach(error: unknown): boolean {
  if (isServerLost(error)) return true;
  // Authentication is a part of the handshake.
  if (!(error instanceof mongo.MongoError) || isDenied(error)) return false;
  return NOT_SENT.has(error.name) || BEFORE_EXECUTION.some((label) => error.hasErrorLabel(label));
}

export const DUPLICATE_KEY = 11000;

export function isDuplicateKey(error: unknown): error is mongo.MongoServerError {
  return error instanceof mongo.MongoServerError && error.code === DUPLICATE_KEY;
}

/**
 * The unique index of the application's own that a write violates; undefined if it is one of this package: then the document itself, or one
 * with its dedupe id, is there. Every server names the index in the message, but not every server sends the key as a field.
 */
export function foreignIndexOf({ errmsg = '' }: { readonly errmsg?: string }): string | undefined {
  const name = /\bindex: (\S+)/.exec(errmsg)?.[1];
  return name === undefined || name === '_id_' || name === 'name_1' || name.includes('dedupe') ? undefined : name;
}
