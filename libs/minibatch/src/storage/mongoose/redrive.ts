import type { mongo } from 'mongoose';
import type { DeadLetterFilter } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import { insertMissingRaw } from './insert-missing.js';
import { type StoredDeadLetter, toCopy } from './dead-letter-codec.js';
import { selectionOf, type DeadLetterReads } from './dead-letter-reads.js';
import type { MessageIds } from './message-ids.js';
import { guarded } from './store-errors.js';
import { groupsOf } from './streams.js';

/** Letters that are redriven together. */
const TOGETHER = { letters: 500, bytes: 16 * 1024 * 1024 };

/**
 * The way of dead letters back into the buffer, without transactions. For each letter:
 *
 * 1. A copy of the message is put into the buffer, hidden: `processed`, and marked by `redrives` with the letter and itself.
 * 2. The copy's id is added to the end of the letter's `copies`. The first of them counts, for ever and for everybody.
 * 3. The copy that counts is shown: it loses its mark in the same update. One without the mark is never touched.
 * 4. Copies of the letter that are still hidden are removed, then the letter is.
 *
 * A message comes into the buffer by being shown, and of all copies of a letter only one ever can be, once. So whoever dies or sleeps
 * anywhere, and whoever repeats it, at the same time or when the message has been consumed long since: none is lost and none is
 * doubled. Inserting the message under an id that is fixed before would not do: once it is consumed, it could be inserted again.
 *
 * A hidden copy whose letter is gone stays if two redrive the same letter and one of them dies before its fourth step. Nobody
 * sees it; it goes with the stream.
 */
export class Redrive {
  constructor(
    private readonly collections: Collections,
    private readonly reads: DeadLetterReads,
    private readonly ids: MessageIds,
  ) {}

  async redrive(stream: string, filter: DeadLetterFilter): Promise<number> {
    return guarded(`redrive dead letters of '${stream}'`, async () => {
      let groups: readonly string[] = [];
      const selection = async () => {
        // Again for each page: groups come and go while a long list is redriven.
        groups = await groupsOf(this.collections, stream);
        const wanted = filter.group === undefined ? groups : groups.filter((group) => group === filter.group);
        return { ...selectionOf(stream, filter), groups: wanted };
      };
      let count = 0;
      for await (const letters of this.reads.pages(selection, TOGETHER)) {
        if (letters.length > 0) count += await this.all(stream, letters, groups);
      }
      return count;
    });
  }

  private async all(stream: string, letters: readonly StoredDeadLetter[], groups: readonly string[]): Promise<number> {
    const { buffer, deadletter } = this.collections;
    await this.copy(letters, groups);
    const ids = letters.map(({ head }) => head._id);
    const copied = await this.copied(ids);
    await buffer.updateMany(
      { redrives: { $in: copied.map(({ copy }) => copy) } },
      { $set: { processed: false, redriven: stream }, $unset: { redrives: '' } },
    );
    await buffer.deleteMany({ redrives: { $in: ids } });
    const { deletedCount } = await deadletter.deleteMany({ _id: { $in: copied.map(({ _id }) => _id) } });
    return deletedCount;
  }

  /** Not for letters that have a copy: another redrive was or is at it. */
  private async copy(letters: readonly StoredDeadLetter[], groups: readonly string[]): Promise<void> {
    const { buffer, deadletter } = this.collections;
    const fresh = letters.filter(({ head }) => !head.copies?.length);
    if (fresh.length === 0) return;
    const pairs = fresh.map((letter) => ({ letter, id: this.ids.next() }));
    await insertMissingRaw(
      buffer,
      pairs.map(({ letter, id }) => toCopy(letter, id, groups)),
    );
    await deadletter.bulkWrite(
      pairs.map(({ letter, id }) => ({
        updateOne: { filter: { _id: letter.head._id }, update: { $push: { copies: id } } },
      })),
      { ordered: false },
    );
  }

  /** The copy that counts, of each of the letters that are still there. */
  private async copied(ids: readonly string[]): Promise<{ _id: string; copy: mongo.ObjectId }[]> {
    const found = await this.collections.deadletter
      .find({ _id: { $in: [...ids] } }, { projection: { copies: 1 }, batchSize: ids.length + 1 })
      .toArray();
    return found.flatMap(({ _id, copies }) => (copies?.[0] ? [{ _id, copy: copies[0] }] : []));
  }
}
