import { mongo } from 'mongoose';
import { ErrorCode, MinibatchError, messageOf } from '../../errors/minibatch.error.js';

/** Runs a database operation; whatever it fails with comes out as a coded error. `what` completes "MongoDB could not …". */
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
    ErrorCode.StoreUnavailable,
    `MongoDB could not ${what}: ${messageOf(cause)}. ${advice(cause)}`,
    { cause, details: { operation: what, ...(isOutOfReach(cause) && { outOfReach: true }) } },
  );
}

export function advice(cause: unknown): string {
  if (isNetworkError(cause)) return 'Check that the server runs and can be reached; the call may be repeated as it is';
  return 'See the cause; the call may be repeated as it is';
}

/**
 * The driver's bulk writes wrap whatever they fail with, a lost connection too, in a bulk error without write errors: taken
 * for one, it would say that everything was written.
 */
export function unwrapped(error: unknown): unknown {
  if (!(error instanceof mongo.MongoBulkWriteError)) return error;
  const original: unknown = error.errorResponse;
  return original instanceof Error ? original : error;
}

export function writeErrorsOf(error: mongo.MongoBulkWriteError): readonly mongo.WriteError[] {
  return [error.writeErrors].flat();
}

/** The server has written, and does not know that it will survive. */
export function isInDoubt(error: mongo.MongoBulkWriteError): boolean {
  return writeErrorsOf(error).length === 0 || error.result?.getWriteConcernError?.() !== undefined;
}

/** The server was not reached, or the answer was lost on the way. */
export function isNetworkError(error: unknown): boolean {
  return (
    error instanceof mongo.MongoNetworkError ||
    error instanceof mongo.MongoServerSelectionError ||
    error instanceof mongo.MongoNotConnectedError ||
    error instanceof mongo.MongoTopologyClosedError ||
    error instanceof mongo.MongoClientClosedError
  );
}

/** Codes of a server that is no primary any more, or is going down. */
const LEAVING = new Set([
  91, // ShutdownInProgress
  189, // PrimarySteppedDown
  10107, // NotWritablePrimary
  11600, // InterruptedAtShutdown
  11602, // InterruptedDueToReplStateChange
  13435, // NotPrimaryNoSecondaryOk
  13436, // NotPrimaryOrSecondary
]);

/** The server hands over to another, or goes down. */
export function isLeaving(code: unknown): boolean {
  return LEAVING.has(Number(code));
}

/** The connection broke, or the server hands over: another one may answer at once. */
export function isServerLost(error: unknown): boolean {
  return error instanceof mongo.MongoNetworkError || (error instanceof mongo.MongoServerError && isLeaving(error.code));
}

/** Codes by which a server refuses a command before it does anything. */
const REFUSALS = new Set([
  13, // Unauthorized
  18, // AuthenticationFailed
  73, // InvalidNamespace
  10107, // NotWritablePrimary
  13435, // NotPrimaryNoSecondaryOk
]);

/** What the driver raises before it looks for a server, by the names of the classes. */
const MISUSE = new Set([
  'MongoCompatibilityError',
  'MongoExpiredSessionError',
  'MongoInvalidArgumentError',
  'MongoNotConnectedError',
  'MongoTransactionError',
]);

/** What the driver raises while it looks for a server and a connection. */
const NOT_SENT = new Set(['MongoServerSelectionError', 'MongoPoolClearedError', 'MongoWaitQueueTimeoutError']);

/** Labels of failures to connect, and of servers that turn a command away because they have too much to do. */
const BEFORE_EXECUTION = ['HandshakeError', 'SystemOverloadedError'];

/** True only if it is certain that no server has executed the command, which the driver has sent once. */
export function neverExecuted(error: unknown): boolean {
  if (!(error instanceof mongo.MongoError)) return false;
  if (error instanceof mongo.MongoServerError) return REFUSALS.has(Number(error.code));
  return (
    MISUSE.has(error.name) || NOT_SENT.has(error.name) || BEFORE_EXECUTION.some((label) => error.hasErrorLabel(label))
  );
}

/** The server does not answer, or takes nothing now. It may be back soon; a client that the application has closed will not. */
export function isOutOfReach(error: unknown): boolean {
  if (isServerLost(error)) return true;
  if (!(error instanceof mongo.MongoError)) return false;
  return NOT_SENT.has(error.name) || BEFORE_EXECUTION.some((label) => error.hasErrorLabel(label));
}

export const DUPLICATE_KEY = 11000;

export function isDuplicateKey(error: unknown): error is mongo.MongoServerError {
  return error instanceof mongo.MongoServerError && error.code === DUPLICATE_KEY;
}
