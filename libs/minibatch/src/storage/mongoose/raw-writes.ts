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
  const writeConcern = concernOf(collection);
  try {
    const reply = await db.command(
      {
        [command]: collectionName,
        [STATEMENTS[command]]: statements,
        ordered: false,
        ...(writeConcern && { writeConcern }),
      },
      // Undefined becomes null, as the driver has it by itself and as the other stores have it.
      { ignoreUndefined: false },
    );
    return reply as WriteReply & mongo.Document;
  } catch (error) {
    if (error instanceof mongo.MongoWriteConcernError) return error.result as unknown as WriteReply;
    throw error;
  }
}

/** For writes of which no statement may fail. @throws MongoServerError */
export function throwIfFailed({ writeErrors, writeConcernError }: WriteReply): void {
  const failure = writeErrors?.[0] ?? writeConcernError;
  if (failure) throw new mongo.MongoServerError({ ...failure });
}

/** As it goes into a command. */
function concernOf({ writeConcern }: { readonly writeConcern?: mongo.WriteConcern | undefined }) {
  if (!writeConcern) return undefined;
  const { w, wtimeoutMS, journal } = writeConcern;
  return {
    ...(w !== undefined && { w }),
    ...(wtimeoutMS !== undefined && { wtimeout: wtimeoutMS }),
    ...(journal !== undefined && { j: journal }),
  };
}
