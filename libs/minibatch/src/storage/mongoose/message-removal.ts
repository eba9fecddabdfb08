import type { mongo } from 'mongoose';
import type { MessageId } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import { ARRAY, MESSAGES, WELL_FORMED } from './foreign.js';
import type { GroupCommits } from './group-commits.js';
import { toObjectId } from './message-ids.js';
import { write, type WriteFailure } from './raw-writes.js';
import { isRefusal, refusedIn, type Refusals } from './refusals.js';
import type { BufferDocument } from './schemas/buffer.schema.js';
import { TurnBatch } from './turn-batch.js';

/** Ids in one command; far below its limit of 16 MB. */
const IDS = 10_000;
/**
 * Ids in one statement; a command may have several. A server without indexes compares each document with all of them, and a server with
 * indexes needs some time for each statement: see docs/internals/performance.md, "MongoDB: drain".
 */
const STATEMENT = 600;
/** Statements in one command. */
const COMMAND = Math.ceil(IDS / STATEMENT);

/** What the removal has to know of a message that all groups have committed. */
export interface LeavingMessage {
  readonly _id: mongo.ObjectId;
  readonly deduped: boolean;
  readonly keep: boolean;
}

/** Messages that one statement changes, by their ids. */
interface Change {
  readonly ids: readonly mongo.ObjectId[];
  /** The statement that changes those that the filter matches. */
  readonly statement: (q: mongo.Document) => mongo.Document;
}

type OnRefusal = (ids: readonly mongo.ObjectId[], failure: WriteFailure) => void;

const IGNORED: OnRefusal = () => undefined;

/** Which group marks messages, and which other groups the stream has. */
export interface Mark {
  readonly group: string;
  readonly others: readonly string[];
  readonly keep: boolean;
  readonly settled: Date | undefined;
}

/**
 * Lets messages leave the buffer: they are deleted, or marked processed if they are kept, or replaced by a tombstone that remembers the
 * dedupe id. Always by `_id` alone: a second condition is quadratic on some servers.
 */
export class MessageRemoval {
  private readonly deletes: TurnBatch<readonly mongo.ObjectId[], undefined>;
  /** Every group has committed the messages. */
  private readonly refusedByAll: OnRefusal = (ids, failure) => this.refusals.add(ids, undefined, failure);

  /**
   * @param commits what groups of this process have committed; it is told which messages leave
   * @param refusals is told which messages the server refuses to change
   */
  constructor(
    private readonly collections: Pick<Collections, 'buffer'>,
    private readonly commits: GroupCommits,
    private readonly refusals: Refusals,
  ) {
    this.deletes = new TurnBatch(async (all) => {
      const deletes = changes(all.flat(), (q) => ({ q, limit: 0 }));
      await this.writeAll('delete', deletes, this.refusedByAll);
      return all.map(() => undefined);
    });
  }

  async leave(messages: readonly LeavingMessage[], settled: Date = new Date()): Promise<void> {
    const kept: mongo.ObjectId[] = [];
    const tombs: mongo.ObjectId[] = [];
    const plain: mongo.ObjectId[] = [];
    if (!this.refusals.isEmpty) this.refusals.left(messages.map(({ _id }) => _id.toHexString()));
    for (const { _id, keep, deduped } of messages) (keep ? kept : deduped ? tombs : plain).push(_id);
    await this.update(kept, { $set: { processed: true, keep: true, settled }, $unset: { done: '', waits: '' } });
    await this.update(tombs, toTombstone(settled));
    await this.delete(plain);
    if (!this.commits.isEmpty) this.commits.left(messages.map(({ _id }) => _id.toHexString()));
  }

  /**
   * Marks messages as committed by the group. Then those that all groups have committed leave. The marks are read after they are written:
   * when two groups do this at the same time, the later one sees both marks.
   *
   * `fresh`: no group had marked the message when it was read; the first mark lists the groups that it waits for. If a group in another
   * process marks it at the same time, its list contains this group; the process that reads both marks corrects it.
   */
  async mark(
    messages: readonly { readonly _id: mongo.ObjectId; readonly fresh: boolean }[],
    { group, others, keep, settled }: Mark,
  ): Promise<void> {
    const kept = keep ? { $set: { keep: true } } : {};
    for (const some of chunks(messages, IDS)) {
      const first = idsOf(some.filter(({ fresh }) => fresh));
      const later = idsOf(some.filter(({ fresh }) => !fresh));
      const marks = [
        ...updates(first, { $addToSet: { done: group, waits: { $each: [...others] } }, ...kept }),
        ...updates(later, { $addToSet: { done: group }, $pull: { waits: group }, ...kept }),
      ];
      await this.write('update', marks, (refused, failure) => this.refusals.add(refused, group, failure));
      await this.correct(await this.leaveIfDone(idsOf(some), others, settled), others);
    }
  }

  /**
   * Messages that all groups have committed leave.
   * @param ids of messages that may have left already
   */
  async finish(ids: readonly MessageId[], groups: readonly string[], settled: Date | undefined): Promise<void> {
    for (const some of chunks(ids, IDS)) {
      await this.leaveIfDone(some.map(toObjectId), groups, settled);
    }
  }

  /** Resolves with the messages that stay, as they were read. */
  private async leaveIfDone(
    ids: readonly mongo.ObjectId[],
    groups: readonly string[],
    settled: Date | undefined,
  ): Promise<BufferDocument[]> {
    const found = await this.marksOf(ids);
    await this.leave(found.filter((document) => this.isDone(document, groups)).map(toLeaving), settled);
    const left = found.filter(({ processed, done, waits }) => processed && (done ?? waits) !== undefined);
    if (left.length > 0) await this.unmark({ _id: { $in: idsOf(left) } });
    return found.filter((document) => !document.processed && !this.isDone(document, groups));
  }

  /**
   * Takes marks off messages that had left already but are still stored, as kept messages or tombstones: a mark by `_id` alone meets them
   * as well. A kept message that lists groups it waits for is found only by reads that name one of them.
   */
  private async unmark(left: mongo.Filter<BufferDocument>): Promise<void> {
    const lists = { done: '', waits: '' };
    const statements = [
      // A tombstone has no content that could be kept.
      { q: { ...left, data: { $exists: false } }, u: { $unset: { ...lists, keep: '' } }, multi: true },
      { q: left, u: { $unset: lists }, multi: true },
    ];
    // What is refused stays as it is: such a message has left.
    refusedIn(await write(this.collections.buffer, 'update', statements));
  }

  /** Also for marks of processes that stopped before they took them off. The index has few such entries, or none. */
  async removeLateMarks(stream: string): Promise<void> {
    // The list may be empty. A hidden copy of a dead letter's message has a list as well, but no `settled`.
    const lists: mongo.Filter<BufferDocument>[] = [{ waits: { $gte: '' } as object }, { waits: [] }];
    for (const list of lists) await this.unmark({ stream, processed: true, ...list, settled: { $exists: true } });
  }

  /**
   * Corrects the lists of groups that messages wait for. A list may name a group that has committed: that group would read the message in
   * vain. It may lack a group that was registered after the list was made: that group would never find the message.
   */
  private async correct(marked: readonly BufferDocument[], others: readonly string[]): Promise<void> {
    const listed = marked.filter(({ waits }) => waits !== undefined);
    for (const group of new Set(listed.flatMap(({ done = [] }) => done))) {
      const wrong = listed.filter(({ waits, done }) => waits?.includes(group) && done?.includes(group));
      await this.writeAll('update', updates(idsOf(wrong), { $pull: { waits: group } }), IGNORED);
    }
    for (const group of others) {
      const lacking = listed.filter(({ waits, done }) => !waits?.includes(group) && !done?.includes(group));
      // Rare, so the second condition is acceptable: a message that has left in the meantime must not wait for any group.
      if (lacking.length > 0) {
        await this.updateMany({ _id: { $in: idsOf(lacking) }, processed: false }, { $addToSet: { waits: group } });
      }
    }
  }

  /** Makes messages that some group has committed wait for each of these groups that has not. */
  async waitForAll(stream: string, groups: readonly string[]): Promise<void> {
    for (const group of groups) {
      await this.updateMany(
        { stream, processed: false, waits: { $type: ARRAY, $ne: group }, done: { $ne: group }, ...WELL_FORMED },
        { $addToSet: { waits: group } },
      );
    }
  }

  /**
   * Removes messages that all groups have committed and that are still there, because a group that is gone held them back or because the
   * groups changed at the time. The others wait for each group that has not committed them. Does nothing for a stream without groups.
   */
  async removeLeftovers(stream: string, groups: readonly string[]): Promise<void> {
    if (groups.length === 0) return;
    await this.waitForAll(stream, groups);
    const cursor = this.collections.buffer.find(
      { ...MESSAGES, done: { $all: [...groups] }, stream, processed: false },
      { projection: MARKS, batchSize: IDS },
    );
    try {
      while (await cursor.hasNext()) await this.leave(cursor.readBufferedDocuments().map(toLeaving));
    } finally {
      await cursor.close();
    }
  }

  /** True if all of these groups have marked the message, as far as the server let them, and it has not left. */
  private isDone({ _id, done, processed }: BufferDocument, groups: readonly string[]): boolean {
    if (processed) return false;
    // Other processes may have changed the document.
    const marked = Array.isArray(done) ? done : [];
    return groups.every((group) => marked.includes(group) || this.isRefused(_id, group));
  }

  /** The group has committed the message, but could not mark it. */
  private isRefused(id: mongo.ObjectId, group: string): boolean {
    if (this.refusals.isEmpty) return false;
    const hex = id.toHexString();
    return this.refusals.has(hex, group) && !this.refusals.isUnburied(hex, group);
  }

  private marksOf(ids: readonly mongo.ObjectId[]): Promise<BufferDocument[]> {
    return this.collections.buffer
      .find({ _id: { $in: [...ids] } }, { projection: MARKS, batchSize: IDS + 1 })
      .toArray();
  }

  /** Like the driver's, but a document that the server refuses to change does not keep others from being changed. */
  async updateMany(filter: mongo.Filter<BufferDocument>, u: mongo.UpdateFilter<BufferDocument>): Promise<void> {
    const { buffer } = this.collections;
    try {
      await buffer.updateMany(filter, u);
    } catch (error) {
      if (!isRefusal(error)) throw error;
      const found = await buffer.find(filter, { projection: { _id: 1 } }).toArray();
      const one = (q: mongo.Document) => ({ q: { ...filter, ...q }, u, multi: true });
      await this.writeAll('update', changes(idsOf(found), one), IGNORED);
    }
  }

  private update(ids: readonly mongo.ObjectId[], u: mongo.UpdateFilter<BufferDocument>): Promise<void> {
    return this.writeAll('update', updates(ids, u), this.refusedByAll);
  }

  /** Consumers that settle in one turn share the commands. */
  private async delete(ids: readonly mongo.ObjectId[]): Promise<void> {
    if (ids.length > 0) await this.deletes.add(ids);
  }

  private async writeAll(command: 'update' | 'delete', all: readonly Change[], refused: OnRefusal): Promise<void> {
    for (const some of chunks(all, COMMAND)) await this.write(command, some, refused);
  }

  /** A statement fails as a whole if the server refuses one of its documents, so it is repeated in halves until that one is alone. */
  private async write(command: 'update' | 'delete', some: readonly Change[], refused: OnRefusal): Promise<void> {
    if (some.length === 0) return;
    const statements = some.map(({ ids, statement }) => statement({ _id: { $in: ids } }));
    const halves: Change[] = [];
    for (const failure of refusedIn(await write(this.collections.buffer, command, statements))) {
      const change = some[failure.index];
      if (!change) continue;
      if (change.ids.length === 1) refused(change.ids, failure);
      else halves.push(...changes(change.ids, change.statement, Math.ceil(change.ids.length / 2)));
    }
    await this.write(command, halves, refused);
  }
}

function changes(
  ids: readonly mongo.ObjectId[],
  statement: Change['statement'],
  size: number = STATEMENT,
): readonly Change[] {
  return chunks(ids, size).map((part) => ({ ids: part, statement }));
}

function updates(ids: readonly mongo.ObjectId[], u: mongo.UpdateFilter<BufferDocument>): readonly Change[] {
  return changes(ids, (q) => ({ q, u, multi: true }));
}

function idsOf(messages: readonly { readonly _id: mongo.ObjectId }[]): mongo.ObjectId[] {
  return messages.map(({ _id }) => _id);
}

const MARKS = { done: 1, waits: 1, keep: 1, dedupeKey: 1, processed: 1, replayOf: 1 } as const;

export function toTombstone(settled?: Date) {
  return {
    $set: { processed: true, ...(settled && { settled }) },
    $unset: { data: '', key: '', headers: '', done: '', waits: '', keep: '' },
  } as const;
}

function toLeaving({ _id, dedupeKey, keep, replayOf }: BufferDocument): LeavingMessage {
  return { _id, deduped: dedupeKey !== undefined, keep: keep === true && replayOf === undefined };
}

function chunks<V>(list: readonly V[], size: number): V[][] {
  const parts: V[][] = [];
  for (let from = 0; from < list.length; from += size) parts.push(list.slice(from, from + size));
  return parts;
}
