import { type Document, Timestamp } from 'bson';
import type { mongo } from 'mongoose';

/** What is known of the server behind a collection. */
export interface ServerFacts {
  /** It has an oplog, so change streams: if one cannot be opened, that is a failure and not a missing feature. */
  readonly replicated: boolean;
  /** Now, on the scale of its change streams; BSON timestamp. */
  readonly operationTime: unknown;
  /** The same, if it is the server that tells: to the event. */
  readonly exactTime: unknown;
}

export async function serverFacts(collection: mongo.Collection, signal: AbortSignal): Promise<ServerFacts> {
  // By the command's old name, which servers that only speak the protocol know too.
  const hello: Document = await collection.db.command({ isMaster: 1 }, { readPreference: 'primary', signal });
  const { setName, msg, operationTime, localTime } = hello as Readonly<Record<string, unknown>>;
  return {
    replicated: setName !== undefined || msg === 'isdbgrid',
    // A replica set tells it with every answer; others have only their clock.
    exactTime: operationTime,
    operationTime: operationTime ?? startOfSecond(localTime instanceof Date ? localTime : new Date()),
  };
}

function startOfSecond(time: Date): Timestamp {
  return new Timestamp({ t: Math.floor(time.getTime() / 1000), i: 0 });
}

/** The server answered, and the answer was no: not a connection that broke. */
export function isRefusal(error: unknown): boolean {
  if (!(error instanceof Error) || error.name !== 'MongoServerError') return false;
  const { code } = error as { code?: unknown };
  return !RIGHTS.has(code) && !TRANSIENT.some((label) => hasLabel(error, label));
}

/** Unauthorized, AuthenticationFailed: somebody has to be asked, another way of reading needs the same rights. */
const RIGHTS = new Set<unknown>([13, 18]);

const TRANSIENT = ['RetryableError', 'RetryableWriteError', 'ResumableChangeStreamError', 'TransientTransactionError'];

function hasLabel(error: Error, label: string): boolean {
  const { errorLabels } = error as { errorLabels?: unknown };
  return Array.isArray(errorLabels) && errorLabels.includes(label);
}

/**
 * The server no longer knows the token, or never did. Only these codes say so: any other reason for which a server refuses to resume may pass,
 * and a token that is given up for it skips or repeats documents.
 */
export function isLostToken(error: unknown): boolean {
  return error instanceof Error && LOST.has((error as { code?: unknown }).code);
}

const LOST = new Set<unknown>([
  136, // CappedPositionLost
  260, // InvalidResumeToken
  280, // ChangeStreamFatalError
  286, // ChangeStreamHistoryLost
  40576, // before MongoDB 4.4: the resume point may no longer be in the oplog
  40585, // before MongoDB 4.4: the resume token was not found
  40615, // the collection of the resume token is gone
]);
