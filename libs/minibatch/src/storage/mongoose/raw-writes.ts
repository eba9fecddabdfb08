import { mongo } from 'mongoose';
import { asError } from '../../errors/error-text.js';

/** The failure of one statement of a write. */
export interface WriteFailure {
  /** The index of the statement in the command. */
  readonly index: number;
  readonly code: number;
  readonly errmsg?: string;
}

/** What went wrong in a write that was executed; empty if nothing did. */
export interface WriteProblems {
  /** Statements that failed; the others were executed. */
  readonly writeErrors?: readonly WriteFailure[];
  /** Everything was executed, but the server does not know whether it will survive a failover. */
  readonly writeConcernError?: { readonly code: number; readonly errmsg?: string };
}

export interface WriteReply extends WriteProblems {
  /** The number of documents that were inserted, matched or deleted. */
  readonly n: number;
}

/** Undefined becomes null, as by default in the driver and as in the other stores. */
const OPTIONS = { ignoreUndefined: false } as const;

/** The name of the statements of each command. */
const STATEMENTS = { insert: 'documents', update: 'updates', delete: 'deletes' } as const;

/**
 * Sends several statements, unordered, as one command. The driver's `insertMany` and `bulkWrite` count the bytes of each document and
 * record its result, which takes a sixth of the time of an insert. The command is not retried. `statements`: of an insert its documents;
 * fewer than a server takes at once (1000 for the smallest, 16 MiB in all). @throws what the driver throws if the server is out of reach,
 * or refuses the command as a whole
 */
export async function write<T extends mongo.Document>(
  collection: mongo.Collection<T>,
  command: keyof typeof STATEMENTS,
  statements: readonly mongo.Document[],
): Promise<WriteReply> {
  const { db, collectionName } = collection;
  const body: mongo.Document = { [command]: collectionName };
  body[STATEMENTS[command]] = statements;
  body['ordered'] = false;
  const writeConcern = concernOf(collection);
  if (writeConcern) body['writeConcern'] = writeConcern;
  try {
    return (await db.command(body, OPTIONS)) as WriteReply & mongo.Document;
  } catch (error) {
    if (error instanceof mongo.MongoWriteConcernError) return error.result as unknown as WriteReply;
    throw error;
  }
}

/**
 * Inserts one document by the driver's `insertOne`, which takes a tenth less time than a command. Only for connections on which the driver
 * does not retry writes: after a retry, the error does not tell whether the document was sent before. Rejects with every problem:
 * `problemsOf` tells them apart.
 */
export function insertOne<T extends mongo.Document>(
  collection: mongo.Collection<T>,
  document: mongo.OptionalUnlessRequiredId<T>,
): Promise<WriteProblems> {
  return collection.insertOne(document, OPTIONS) as Promise<object>;
}

/** The problems that an error of `insertOne` reports; the error itself if the server has not answered, or has refused the command. */
export function problemsOf(error: unknown): WriteProblems | Error {
  if (error instanceof mongo.MongoWriteConcernError) return error.result;
  const failure = failureOf(error);
  return failure ? { writeErrors: [failure] } : asError(error);
}

/** Set if the document was rejected, not the command. */
function failureOf(error: unknown): WriteFailure | undefined {
  if (!(error instanceof mongo.MongoServerError)) return undefined;
  const { index, code, errmsg } = error.errorResponse as Partial<WriteFailure>;
  return index === undefined || code === undefined
    ? undefined
    : { index, code, ...(errmsg !== undefined && { errmsg }) };
}

/**
 * For writes in which no statement may fail.
 * @throws MongoServerError
 */
export function throwIfFailed({ writeErrors, writeConcernError }: WriteReply): void {
  const failure = writeErrors?.[0] ?? writeConcernError;
  if (failure) throw new mongo.MongoServerError({ ...failure });
}

/** Built once for each write concern object. */
const concerns = new WeakMap<mongo.WriteConcern, mongo.Document>();

/** The write concern of a command. */
function concernOf(collection: { readonly writeConcern?: mongo.WriteConcern | undefined }): mongo.Document | undefined {
  const { writeConcern } = collection;
  if (!writeConcern) return undefined;
  let concern = concerns.get(writeConcern);
  if (!concern) {
    const { w, wtimeoutMS, journal } = writeConcern;
    concern = {
      ...(w !== undefined && { w }),
      ...(wtimeoutMS !== undefined && { wtimeout: wtimeoutMS }),
      ...(journal !== undefined && { j: journal }),
    };
    concerns.set(writeConcern, concern);
  }
  return concern;
}
