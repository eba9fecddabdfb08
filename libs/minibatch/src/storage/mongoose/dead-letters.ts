import { leaseLost } from '../store-faults.js';
import type { DeadLetter, DeadLetterFilter, Lease, NewDeadLetter } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import { insertMissingRaw } from './insert-missing.js';
import { isHeld } from './leases.js';
import { HEAD_ONLY, toDeadLetter, toLetterInsert } from './dead-letter-codec.js';
import { selectionOf, type DeadLetterReads } from './dead-letter-reads.js';
import { guarded } from './store-errors.js';

/** Of one command that removes letters. */
const REMOVED = { letters: 1000, bytes: Number.POSITIVE_INFINITY };

/** Dead letters from their burial to their end; the way back into the buffer is `Redrive`. */
export class DeadLetters {
  constructor(
    private readonly collections: Collections,
    private readonly reads: DeadLetterReads,
  ) {}

  /**
   * The lease is looked at before, so that a former holder that wakes up does not give up what the new one handles. One that is
   * stopped between the look and the insert still does: then the letter is there beside what becomes of the message.
   */
  async bury(lease: Lease, letters: readonly NewDeadLetter[]): Promise<void> {
    if (letters.length === 0) return;
    await guarded(`store dead letters of '${lease.key.group}' on '${lease.key.stream}'`, async () => {
      if (!(await isHeld(this.collections, lease))) throw leaseLost(lease.key);
      await insertMissingRaw(
        this.collections.deadletter,
        letters.map((letter) => toLetterInsert(lease, letter)),
      );
    });
  }

  async list(
    stream: string,
    filter: DeadLetterFilter,
    after: string | undefined,
    limit: number,
  ): Promise<readonly DeadLetter[]> {
    const found: DeadLetter[] = [];
    await guarded(`read dead letters of '${stream}'`, async () => {
      // More than one page only where letters were named that are not there.
      for (let from = after; found.length < limit;) {
        const limits = { letters: limit - found.length, bytes: Number.POSITIVE_INFINITY };
        const { letters, next } = await this.reads.page(selectionOf(stream, filter), from, limits);
        found.push(...letters.map(toDeadLetter));
        if (next === undefined) return;
        from = next;
      }
    });
    return found;
  }

  /** Copies that a redrive has left half-way go after their letter: before it, the redrive would end without its message. */
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
