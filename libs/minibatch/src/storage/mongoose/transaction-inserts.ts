import { mongo } from 'mongoose';
import { AppendError, ErrorCode, messageOf } from '../../errors/minibatch.error.js';
import type { Collections } from './collections.js';
import type { Draft } from './inserts.js';
import { unwrapped } from './store-errors.js';

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
      const cause = unwrapped(error);
      // `withTransaction` repeats the transaction if it sees the driver's own error.
      if (cause instanceof mongo.MongoError && cause.hasErrorLabel('TransientTransactionError')) throw cause;
      const unsupported = cause instanceof mongo.MongoCompatibilityError;
      throw new AppendError(
        unsupported ? ErrorCode.StoreUnsupported : ErrorCode.AppendFailed,
        `The messages could not be appended in the session: ${messageOf(cause)}. ` +
          (unsupported
            ? 'Transactions need a replica set or a sharded cluster'
            : 'A transaction that it was part of is to be aborted'),
        session.inTransaction() ? 'no' : 'unknown',
        { cause },
      );
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

function asSession(given: unknown): mongo.ClientSession {
  if (given instanceof Object && 'inTransaction' in given) return given as mongo.ClientSession;
  throw new AppendError(
    ErrorCode.InvalidOptions,
    'append: `session` takes a session of the Mongoose connection, as `connection.startSession()` gives it',
    'no',
  );
}
