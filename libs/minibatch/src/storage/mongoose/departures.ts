import type { mongo } from 'mongoose';
import type { MessageId } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import { RecentMarks } from './recent-marks.js';
import { throwIfFailed, write } from './raw-writes.js';
import type { BufferDocument } from './schemas/buffer.schema.js';

/** Ids of one command; far below the 16 MB that one may have. */
const IDS = 10_000;
/**
 * Ids of one statement; a command may have several. A server without indexes compares each document with all of them, and one that has
 * indexes takes its time for each statement: see docs/performance.md, "MongoDB: drain".
 */
const STATEMENT = 600;

/** What has to be known of a message that all groups have committed. */
export interface Departing {
  readonly _id: mongo.ObjectId;
  readonly deduped: boolean;
  readonly keep: boolean;
}

/**
 * How messages leave the buffer: removed, or marked processed where they are kept, or as a tombstone that remembers the
 * dedupe id. Always by ids and by nothing else beside them: a second condition makes some servers quadratic.
 */
export class Departures {
  private readonly recent = new RecentMarks();

  constructor(private readonly collections: Collections) {}

  /** True if the other groups are known to have marked the message, and none of them to keep it. */
  isMarked(id: MessageId, others: readonly string[]): boolean {
    return this.recent.covers(id, others);
  }

  async leave(messages: readonly Departing[], settled: Date = new Date()): Promise<void> {
    const kept: mongo.ObjectId[] = [];
    const tombs: mongo.ObjectId[] = [];
    const plain: mongo.ObjectId[] = [];
    for (const { _id, keep, deduped } of messages) (keep ? kept : deduped ? tombs : plain).push(_id);
    await this.update(kept, { $set: { processed: true, keep: true, settled }, $unset: { done: '' } });
    await this.update(tombs, toTombstone(settled));
    await this.delete(plain);
    if (!this.recent.isEmpty) this.recent.forget(messages.map(({ _id }) => _id.toHexString()));
  }

  /**
   * Marks messages as committed by the group; then those leave that all groups have committed. Marking comes before looking: of
   * two groups that do this at the same time, the later one sees both marks.
   */
  async mark(
    ids: readonly mongo.ObjectId[],
    group: string,
    groups: readonly string[],
    keep: boolean,
    settled?: Date,
  ): Promise<void> {
    for (const some of chunks(ids, IDS)) {
      await this.update(some, { $addToSet: { done: group }, ...(keep && { $set: { keep: true } }) });
      // One that keeps it wants it marked and not removed by whoever comes last.
      if (!keep) {
        this.recent.add(
          some.map((id) => id.toHexString()),
          group,
        );
      }
      const marked = await this.collections.buffer
        .find({ _id: { $in: some } }, { projection: MARKS, batchSize: IDS + 1 })
        .toArray();
      const all = new Set([...groups, group]);
      await this.leave(marked.filter((document) => isDone(document, all)).map(toDeparting), settled);
    }
  }

  /**
   * Removes what all groups have committed and what is still there: held back by a group that is gone, or committed while the groups
   * changed. Without groups nothing is done with.
   */
  async removeLeftovers(stream: string, groups: readonly string[]): Promise<void> {
    if (groups.length === 0) return;
    const cursor = this.collections.buffer.find(
      { done: { $all: [...groups] }, stream, processed: false },
      { projection: MARKS, batchSize: IDS },
    );
    try {
      while (await cursor.hasNext()) await this.leave(cursor.readBufferedDocuments().map(toDeparting));
    } finally {
      await cursor.close();
    }
  }

  private update(ids: readonly mongo.ObjectId[], u: mongo.UpdateFilter<BufferDocument>): Promise<void> {
    return this.write('update', ids, (q) => ({ q, u, multi: true }));
  }

  private delete(ids: readonly mongo.ObjectId[]): Promise<void> {
    return this.write('delete', ids, (q) => ({ q, limit: 0 }));
  }

  private async write(
    command: 'update' | 'delete',
    ids: readonly mongo.ObjectId[],
    statement: (q: mongo.Document) => mongo.Document,
  ): Promise<void> {
    for (const some of chunks(ids, IDS)) {
      const statements = chunks(some, STATEMENT).map((part) => statement({ _id: { $in: part } }));
      throwIfFailed(await write(this.collections.buffer, command, statements));
    }
  }
}

const MARKS = { done: 1, keep: 1, dedupeKey: 1, processed: 1 } as const;

export function toTombstone(settled?: Date) {
  return {
    $set: { processed: true, ...(settled && { settled }) },
    $unset: { data: '', key: '', headers: '', done: '', keep: '' },
  } as const;
}

function isDone({ done, processed }: BufferDocument, groups: ReadonlySet<string>): boolean {
  return !processed && [...groups].every((group) => done?.includes(group));
}

function toDeparting({ _id, dedupeKey, keep }: BufferDocument): Departing {
  return { _id, deduped: dedupeKey !== undefined, keep: keep === true };
}

function chunks<V>(list: readonly V[], size: number): V[][] {
  const parts: V[][] = [];
  for (let from = 0; from < list.length; from += size) parts.push(list.slice(from, from + size));
  return parts;
}
