import { mongo } from 'mongoose';
import { AppendError, ErrorCode, messageOf } from '../../errors/minibatch.error.js';
import type { Collections } from './collections.js';
import type { Draft } from './draft.js';
import { isDuplicateKey, unwrapped } from './store-errors.js';

/**
 * Appends inside the application's own transaction, all or nothing. A duplicate key would abort the transaction, so seen
 * dedupe ids are looked up before.
 */
export class TransactionInserts {
  constructor(private readonly collections: Collections) {}

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
      for (const draft of fresh) draft.outcome = { status: 'stored', id: draft.document._id.toHexString() };
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

/** What `TransientTransactionError` on an error of the driver tells whoever runs the transaction: to run it again. */
const TRANSIENT = 'TransientTransactionError';

function failure(cause: unknown, session: mongo.ClientSession): unknown {
  // Another append has taken the dedupe id since the transaction began. One that begins now sees it.
  if (isDuplicateKey(cause) && session.inTransaction()) cause.addErrorLabel(TRANSIENT);
  // `withTransaction` repeats for errors of the driver only.
  if (cause instanceof mongo.MongoError && cause.hasErrorLabel(TRANSIENT)) return cause;
  const unsupported = hasNoTransactions(cause);
  return new AppendError(
    unsupported ? ErrorCode.StoreUnsupported : ErrorCode.AppendFailed,
    `The messages could not be appended in the session: ${messageOf(cause)}. ` +
      (unsupported
        ? 'Transactions need a replica set or a sharded cluster; a single server becomes one with `--replSet` and `rs.initiate()`'
        : 'A transaction that it was part of is to be aborted'),
    unsupported || session.inTransaction() ? 'no' : 'unknown',
    { cause },
  );
}

const ILLEGAL_OPERATION = 20;

/** A standalone server, or one that knows no sessions. */
function hasNoTransactions(cause: unknown): boolean {
  if (!(cause instanceof mongo.MongoError)) return false;
  if (cause instanceof mongo.MongoCompatibilityError) return true;
  // The driver takes a standalone's answer for one about retryable writes, and replaces it.
  const { code, originalError } = cause as { code?: unknown; originalError?: { code?: unknown } };
  return code === ILLEGAL_OPERATION || originalError?.code === ILLEGAL_OPERATION;
}

function asSession(given: unknown): mongo.ClientSession {
  if (given instanceof Object && 'inTransaction' in given) return given as mongo.ClientSession;
  throw new AppendError(
    ErrorCode.InvalidOptions,
    'append: `session` takes a session of the Mongoose connection, as `connection.startSession()` gives it',
    'no',
  );
}
