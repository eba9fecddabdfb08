import { mongo } from 'mongoose';
import type { Collections } from './collections.js';
import type { Draft } from './draft.js';
import { DUPLICATE_KEY, isDuplicateKey } from './store-errors.js';

/** Most transactions of one search; what is not found out by then waits. */
const MOST_TRIES = 100;
const WRITE_CONFLICT = 112;

/**
 * Stores the messages of an insert that does not answer because another transaction holds a dedupe id among them.
 *
 * An insert waits for that transaction, and all documents behind the blocked one with it. An insert in a transaction of its own does not
 * wait: it fails at once with a write conflict. So halves of the messages are tried until single ones are left. A message that was
 * stored here is refused by its id, or by its dedupe id, when the first insert gets to it; therefore all of them must have one.
 */
export class Isolation {
  constructor(private readonly collections: Collections) {}

  /** Sets the outcomes of those that could be stored, or are duplicates; the others wait for their insert. */
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

  /** The code by which the server refuses it, or nothing if they are stored. */
  private async insert(drafts: readonly Draft[], session: mongo.ClientSession): Promise<number | undefined> {
    try {
      session.startTransaction({ writeConcern: { w: 'majority' } });
      const documents = drafts.map(({ document }) => document);
      await this.collections.buffer.insertMany(documents, { ordered: true, ignoreUndefined: false, session });
      await session.commitTransaction();
    } catch (error) {
      if (session.inTransaction()) await session.abortTransaction().catch(() => undefined);
      if (isDuplicateKey(error)) return DUPLICATE_KEY;
      if (error instanceof mongo.MongoServerError && error.code === WRITE_CONFLICT) return WRITE_CONFLICT;
      throw error;
    }
    for (const draft of drafts) draft.outcome ??= { status: 'stored', id: draft.document._id.toHexString() };
    return undefined;
  }

  /** Its key is taken: by the message itself, which its insert has stored, or by an earlier one. */
  private async earlier({ document: { _id } }: Draft): Promise<Draft['outcome']> {
    const own = await this.collections.buffer.findOne({ _id }, { projection: { _id: 1 } });
    return own ? { status: 'stored', id: _id.toHexString() } : { status: 'duplicate' };
  }
}
