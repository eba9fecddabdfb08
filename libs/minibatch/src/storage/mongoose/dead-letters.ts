import { leaseLost } from '../../errors/store-faults.js';
import type {
  DeadLetter,
  DeadLetterFilter,
  Lease,
  MessageId,
  NewDeadLetter,
  RefusedMessages,
} from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import { insertMissingRaw, type RawInsert } from './insert-missing.js';
import { isHeld } from './leases.js';
import { HEAD_ONLY, toDeadLetter, toLetterInsert } from './dead-letter-codec.js';
import { selectionOf, type DeadLetterReads } from './dead-letter-reads.js';
import { toObjectId } from './message-ids.js';
import type { Refusals } from './refusals.js';
import { guarded } from './store-errors.js';

/** MongoDB's limit of 16 MiB, less what the command needs: some servers count it in. */
const MAX_DOCUMENT_BYTES = 16 * 1024 * 1024 - 1024;
const TOO_LARGE = { index: 0, code: 10_334, errmsg: 'too many messages do not fit into a dead letter' };

/** Limits of one command that removes letters. */
const REMOVED = { letters: 1000, bytes: Number.POSITIVE_INFINITY };

/** Stores, lists and discards dead letters. `Redrive` puts their messages back into the buffer. */
export class DeadLetters {
  constructor(
    private readonly collections: Pick<Collections, 'buffer' | 'consumer' | 'deadletter'>,
    private readonly reads: DeadLetterReads,
    private readonly refusals: Refusals,
  ) {}

  /**
   * Checks the lease first, so that a former holder that wakes up does not give up messages that the new holder handles. If it is suspended
   * between the check and the insert, it still does: then there is a letter for a message that may have been handled.
   */
  async bury(lease: Lease, letters: readonly NewDeadLetter[]): Promise<RefusedMessages | undefined> {
    if (letters.length === 0) return undefined;
    const unburied: MessageId[] = [];
    await guarded(`store dead letters of '${lease.key.group}' on '${lease.key.stream}'`, async () => {
      if (!(await isHeld(this.collections, lease))) throw leaseLost(lease.key);
      await insertMissingRaw(this.collections.deadletter, this.fitting(lease, letters, unburied));
    });
    return unburied.length === 0 ? undefined : { ids: unburied, reason: 'they are too large for it' };
  }

  /**
   * This package appends no message that is so large; other programs may. Its group would otherwise try for good to store the letter, and a
   * letter without the data would lose them.
   */
  private fitting(lease: Lease, letters: readonly NewDeadLetter[], unburied: MessageId[]): readonly RawInsert[] {
    const fitting: RawInsert[] = [];
    for (const letter of letters) {
      const insert = toLetterInsert(lease, letter);
      if (insert.bytes <= MAX_DOCUMENT_BYTES) {
        fitting.push(insert);
        continue;
      }
      this.refusals.keepUnburied(toObjectId(letter.message.id), lease.key.group, TOO_LARGE);
      unburied.push(letter.message.id);
    }
    return fitting;
  }

  async list(
    stream: string,
    filter: DeadLetterFilter,
    after: string | undefined,
    limit: number,
    bytes: number = Number.POSITIVE_INFINITY,
  ): Promise<readonly DeadLetter[]> {
    const found: DeadLetter[] = [];
    let room = bytes;
    await guarded(`read dead letters of '${stream}'`, async () => {
      // More than one page only if the filter names letters that do not exist.
      for (let from = after; found.length < limit && room > 0;) {
        const limits = { letters: limit - found.length, bytes: room };
        const { letters, next, bytes: read } = await this.reads.page(selectionOf(stream, filter), from, limits);
        found.push(...letters.map(toDeadLetter));
        // What the filter passes over takes no room: a read without letters means that there are no more.
        if (found.length > 0) room -= read;
        if (next === undefined) return;
        from = next;
      }
    });
    return found;
  }

  /** Copies of an unfinished redrive are removed after their letter. The other way round, the redrive could end without its message. */
  async discard(stream: string, filter: DeadLetterFilter): Promise<number> {
    const { buffer, deadletter } = this.collections;
    return guarded(`discard dead letters of '${stream}'`, async () => {
      let count = 0;
      const selection = selectionOf(stream, filter);
      for await (const letters of this.reads.pages(() => selection, REMOVED, HEAD_ONLY)) {
        if (letters.length === 0) continue;
        const ids = letters.map(({ head }) => head._id);
        count += (await deadletter.deleteMany({ _id: { $in: ids } })).deletedCount;
        await buffer.deleteMany({ redrives: { $in: ids } });
      }
      return count;
    });
  }
}
