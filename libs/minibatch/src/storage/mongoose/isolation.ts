import { mongo } from 'mongoose';
import type { Collections } from './collections.js';
import type { Draft } from './draft.js';
import { DUPLICATE_KEY, isDuplicateKey } from './store-errors.js';

/** Transactions for one search, at most. What is still unknown by then waits. */
const MOST_TRIES = 100;
const WRITE_CONFLICT = 112;

/**
 * Stores the messages of an insert that does not answer because another client's transaction holds one of their dedupe ids.
 *
 * A plain insert waits for that transaction, and the documents behind the blocked one wait with it. An insert in a separate transaction
 * does not wait: it fails at once with a write conflict. So the messages are tried in halves until single ones are left. When the blocked
 * insert resumes, a message that was stored here is rejected as a duplicate; therefore all of them must have a dedupe id.
 */
export class Isolation {
  constructor(private readonly collections: Pick<Collections, 'buffer' | 'database'>) {}

  /** Sets the outcome of each message that could be stored, or is a duplicate; the others wait for the insert. */
  async store(drafts: readonly Draft[], signal: AbortSignal): Promise<void> {
    await this.collections.database.client.withSession(async (session) => {
      const parts: (readonly Draft[])[] = [drafts];
      for (let tries = 0; tries < MOST_TRIES && !signal.aborted; tries += 1) {
        const part = parts.pop();
        if (!part) return;
        const failure = await this.insert(part, session);
        if (failure === undefined) continue;
        if (part.length > 1) {
          const half = part.length >> 1;
          parts.push(part.slice(half), part.slice(0, half));
        } else if (failure === DUPLICATE_KEY) {
          for (const draft of part) draft.outcome ??= await this.earlier(draft);
        }
      }
    });
  }

  /** The error code of the server, or undefined if the messages are stored. */
  private async insert(drafts: readonly Draft[], session: mongo.ClientSession): Promise<number | undefined> {
    try {
      const { writeConcern } = this.collections.buffer;
      session.startTransaction(writeConcern && { writeConcern });
      const documents = drafts.map(({ document }) => document);
      await this.collections.buffer.insertMany(documents, { ordered: true, ignoreUndefined: false, session });
      await session.commitTransaction();
    } catch (error) {
      if (session.inTransaction()) await session.abortTransaction().catch(() => undefined);
      if (isDuplicateKey(error)) return DUPLICATE_KEY;
      if (error instanceof mongo.MongoServerError && error.code === WRITE_CONFLICT) return WRITE_CONFLICT;
      throw error;
    }
    for (const draft of drafts) draft.outcome ??= { status: 'stored', id: draft.id };
    return undefined;
  }

  /** Its key exists: either the first insert has stored this message, or an earlier message has the key. */
  private async earlier({ document: { _id, dedupeKey } }: Draft): Promise<Draft['outcome']> {
    const own = await this.collections.buffer.findOne({ _id }, { projection: { _id: 1 } });
    if (own) return { status: 'stored', id: _id.toHexString() };
    // Otherwise it violates another unique index: the first insert says so.
    const other = await this.collections.buffer.findOne({ dedupeKey }, { projection: { _id: 1 } });
    return other ? { status: 'duplicate' } : undefined;
  }
}
