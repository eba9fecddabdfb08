import { mongo } from 'mongoose';
import { AppendError, ErrorCode, messageOf } from '../../errors/minibatch.error.js';
import type { Collections } from './collections.js';
import type { Draft } from './draft.js';
import { advice, isDenied, isDuplicateKey, unwrapped } from './store-errors.js';

/**
 * Appends messages in the application's own transaction, all or none. A duplicate key would abort the transaction, so dedupe ids are looked
 * up first.
 */
export class TransactionInserts {
  constructor(private readonly collections: Pick<Collections, 'buffer'>) {}

  async insert(drafts: readonly Draft[], given: unknown): Promise<void> {
    const session = asSession(given);
    try {
      const fresh = await this.withoutSeen(drafts, session);
      if (fresh.length > 0) {
        await this.collections.buffer.insertMany(
          fresh.map(({ document }) => document),
          { ordered: true, ignoreUndefined: false, session },
        );
      }
      for (const draft of fresh) draft.outcome = { status: 'stored', id: draft.id };
    } catch (error) {
      throw failure(unwrapped(error), session);
    }
  }

  private async withoutSeen(drafts: readonly Draft[], session: mongo.ClientSession): Promise<readonly Draft[]> {
    const keys = drafts.flatMap(({ document }) => document.dedupeKey ?? []);
    if (keys.length === 0) return drafts;
    const stored = await this.collections.buffer
      .find({ dedupeKey: { $in: keys } }, { projection: { dedupeKey: 1 }, session })
      .toArray();
    const seen = new Set(stored.map((document) => document.dedupeKey));
    return drafts.filter((draft) => {
      const key = draft.document.dedupeKey;
      if (key === undefined) return true;
      if (seen.has(key)) {
        draft.outcome = { status: 'duplicate' };
        return false;
      }
      seen.add(key);
      return true;
    });
  }
}

/** The label by which an error of the driver asks for the transaction to be run again. */
const TRANSIENT = 'TransientTransactionError';

function failure(cause: unknown, session: mongo.ClientSession): unknown {
  // Another append has used the dedupe id since the transaction began. A new transaction will see it.
  if (isDuplicateKey(cause) && session.inTransaction()) cause.addErrorLabel(TRANSIENT);
  // `withTransaction` retries only for errors of the driver.
  if (cause instanceof mongo.MongoError && cause.hasErrorLabel(TRANSIENT)) return cause;
  const unsupported = hasNoTransactions(cause);
  const denied = isDenied(cause);
  return new AppendError(
    unsupported ? ErrorCode.StoreUnsupported : denied ? ErrorCode.StoreDenied : ErrorCode.AppendFailed,
    `The messages could not be appended in the session: ${messageOf(cause)}. ` +
      (unsupported
        ? 'Transactions need a replica set or a sharded cluster. Start a single server with `--replSet` and run `rs.initiate()`'
        : `If they were part of a transaction, abort it${denied ? `. ${advice(cause)}` : ''}`),
    unsupported || session.inTransaction() ? 'no' : 'unknown',
    { cause },
  );
}

const ILLEGAL_OPERATION = 20;

/** True for a standalone server and for one without sessions. */
function hasNoTransactions(cause: unknown): boolean {
  if (!(cause instanceof mongo.MongoError)) return false;
  if (cause instanceof mongo.MongoCompatibilityError) return true;
  // The driver mistakes the answer of a standalone server for one about retryable writes, and replaces it.
  const { code, originalError } = cause as { code?: unknown; originalError?: { code?: unknown } };
  return code === ILLEGAL_OPERATION || originalError?.code === ILLEGAL_OPERATION;
}

function asSession(given: unknown): mongo.ClientSession {
  if (given instanceof Object && 'inTransaction' in given) return given as mongo.ClientSession;
  throw new AppendError(
    ErrorCode.InvalidOptions,
    'append: `session` must be a session of the Mongoose connection, from `connection.startSession()`',
    'no',
  );
}
