import type { mongo } from 'mongoose';
import type { DeadLetterFilter } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import { insertMissingRaw } from './insert-missing.js';
import { type StoredDeadLetter, toCopy } from './dead-letter-codec.js';
import { selectionOf, type DeadLetterReads } from './dead-letter-reads.js';
import type { MessageIds } from './message-ids.js';
import { guarded } from './store-errors.js';
import { groupsOf } from './streams.js';

/** Limits of the letters that are redriven together. */
const TOGETHER = { letters: 500, bytes: 16 * 1024 * 1024 };

/**
 * Puts the messages of dead letters back into the buffer, without transactions. For each letter:
 *
 * 1. A hidden copy of the message is inserted into the buffer: `processed`, and marked by `redrives` with the ids of letter and copy.
 * 2. The id of the copy is appended to `copies` of the letter. The first id in it is the copy that counts, for every process.
 * 3. The copy that counts becomes visible and loses its mark in the same update. A copy without the mark is never changed.
 * 4. Copies of the letter that are still hidden are removed, then the letter.
 *
 * A message gets into the buffer by becoming visible, and of all copies of a letter only one can ever do so, once. So no message is lost or
 * duplicated if a process stops or is suspended at any point, or if the redrive is repeated, at the same time or long after the message was
 * consumed. Inserting the message under a predetermined id would not be enough: after it was consumed, it could be inserted again.
 *
 * If two processes redrive the same letter and one of them stops before its fourth step, a hidden copy may stay after the letter is gone.
 * It is invisible and is removed with the stream.
 */
export class Redrive {
  constructor(
    private readonly collections: Pick<Collections, 'buffer' | 'deadletter' | 'stream'>,
    private readonly reads: DeadLetterReads,
    private readonly ids: MessageIds,
  ) {}

  async redrive(stream: string, filter: DeadLetterFilter): Promise<number> {
    return guarded(`redrive dead letters of '${stream}'`, async () => {
      let groups: readonly string[] = [];
      const selection = async () => {
        // Read for each page, because groups may change while a long list is redriven.
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

  /** Not for letters that have a copy: those are being redriven, or a redrive was interrupted. */
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

  /** The copy that counts, for each letter that still exists. */
  private async copied(ids: readonly string[]): Promise<{ _id: string; copy: mongo.ObjectId }[]> {
    const found = await this.collections.deadletter
      .find({ _id: { $in: [...ids] } }, { projection: { copies: 1 }, batchSize: ids.length + 1 })
      .toArray();
    return found.flatMap(({ _id, copies }) => (copies?.[0] ? [{ _id, copy: copies[0] }] : []));
  }
}
