import { mongo } from 'mongoose';

/** What a server says of one statement of a write. */
export interface WriteFailure {
  /** Of the statement in the command. */
  readonly index: number;
  readonly code: number;
  readonly errmsg?: string;
}

export interface WriteReply {
  /** Documents that were inserted, matched or deleted. */
  readonly n: number;
  /** Statements that failed; the others were executed. */
  readonly writeErrors?: readonly WriteFailure[];
  /** All was executed, but the server does not know that it will survive. */
  readonly writeConcernError?: { readonly code: number; readonly errmsg?: string };
}

/** Undefined becomes null, as the driver has it by itself and as the other stores have it. */
const OPTIONS = { ignoreUndefined: false } as const;

/** What a command calls its statements. */
const STATEMENTS = { insert: 'documents', update: 'updates', delete: 'deletes' } as const;

/**
 * Sends one write of several statements, in no order, as the command that it is: the driver's `insertMany` and `bulkWrite` count each
 * document's bytes and note each one's result, for a sixth of an insert's time. Nobody repeats it.
 *
 * `statements`: of an insert its documents; fewer than a server takes at once (1000 for the smallest, 16 MiB in all).
 *
 * @throws what the driver throws if the server is out of reach, or refuses the command as a whole
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
 * An insert of one document, by the driver's `insertOne`: it takes a tenth less time than a command. Only where the driver repeats no
 * write by itself, for what it fails with then is not enough to say whether the document was sent before.
 */
export async function insertOne<T extends mongo.Document>(
  collection: mongo.Collection<T>,
  document: mongo.OptionalUnlessRequiredId<T>,
): Promise<WriteReply> {
  try {
    await collection.insertOne(document, OPTIONS);
    return INSERTED;
  } catch (error) {
    if (error instanceof mongo.MongoWriteConcernError) return error.result as unknown as WriteReply;
    const failure = failureOf(error);
    if (!failure) throw error;
    return { n: 0, writeErrors: [failure] };
  }
}

const INSERTED: WriteReply = { n: 1 };

/** The document was refused, not the command. */
function failureOf(error: unknown): WriteFailure | undefined {
  if (!(error instanceof mongo.MongoServerError)) return undefined;
  const { index, code, errmsg } = error.errorResponse as Partial<WriteFailure>;
  return index === undefined || code === undefined
    ? undefined
    : { index, code, ...(errmsg !== undefined && { errmsg }) };
}

/** For writes of which no statement may fail. @throws MongoServerError */
export function throwIfFailed({ writeErrors, writeConcernError }: WriteReply): void {
  const failure = writeErrors?.[0] ?? writeConcernError;
  if (failure) throw new mongo.MongoServerError({ ...failure });
}

/** Put together once for each object that a collection has its write concern in. */
const concerns = new WeakMap<mongo.WriteConcern, mongo.Document>();

/** As it goes into a command. */
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
