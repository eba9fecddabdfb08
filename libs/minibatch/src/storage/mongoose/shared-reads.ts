import {
  type Block,
  type ConsumerKey,
  type FetchLimits,
  type MessageId,
  type SettledWindow,
} from '../stream-store.interface.js';
import { behind, type BufferPage, type BufferPages, toBlock, waiting, waitingForAny } from './blocks.js';
import type { GroupListVersions } from './group-list-versions.js';
import { isNetworkError, isServerLost } from './store-errors.js';
import { endOfTurn } from './turn-batch.js';

/** The last read of a stream and partition. */
interface Read {
  readonly after: MessageId | undefined;
  /** The groups it reads for. */
  readonly groups: Set<string>;
  /** Groups that have not taken the result; once there are none, the read is forgotten. */
  readonly expected: Set<string>;
  limit: number;
  /** When it was sent, as a count of events; absent before. */
  sent?: number;
  /** The version of the list of groups known at that moment. */
  groupsVersion?: number | undefined;
  readonly page: Promise<BufferPage>;
}

/** What is known of a consumer's reads and settlements. */
interface Reader {
  /** Where its next read begins; undefined: at the start. */
  place: MessageId | undefined;
  /** When it last began to read from the start, as a count of events. */
  begun: number;
  /** The highest id that it has settled. */
  settled: MessageId;
}

const IN_ORDER = { _id: 1 } as const;

/**
 * Lets groups of this process that go through a backlog together share their reads: the last block is kept for the groups that were at the
 * same position when it was read. Groups that read from the start in the same turn of the event loop, because a message woke them, share
 * that read as well.
 *
 * A kept block is older than the call that it answers. So a group takes it only if the block can't contain a message that the group has
 * settled, and if it was read after the group began to read from the start. Messages appended since then come after the block, or the next
 * read from the start finds them, as if the group had read the block at that time.
 */
export class SharedReads {
  private readonly last = new Map<string, Read>();
  private readonly readers = new Map<string, Map<string, Reader>>();
  private moment = 0;

  constructor(
    private readonly pages: BufferPages,
    private readonly versions: GroupListVersions,
  ) {}

  /** The consumer begins to read from the start. */
  begin(key: ConsumerKey): void {
    this.moment += 1;
    this.readerOf(key).begun = this.moment;
  }

  settled(key: ConsumerKey, windows: readonly SettledWindow[]): void {
    const reader = this.readerOf(key);
    for (const { window, messages } of windows) {
      for (const { id } of messages) if (id > reader.settled) reader.settled = id;
      // Messages that had left or were marked before the window was loaded.
      if (messages.length === window.messageIds.length) continue;
      for (const id of window.messageIds) if (id > reader.settled) reader.settled = id;
    }
  }

  /** The consumer has left: nothing is kept for it. */
  forget(key: ConsumerKey): void {
    const id = partitionOf(key);
    const readers = this.readers.get(id);
    readers?.delete(key.group);
    if (readers?.size === 0) this.readers.delete(id);
    const read = this.last.get(id);
    if (read?.expected.delete(key.group) && read.expected.size === 0) this.last.delete(id);
  }

  async fetch(key: ConsumerKey, after: MessageId | undefined, limits: FetchLimits): Promise<Block> {
    const block = (await this.fetchTogether(key, after, limits)) ?? (await this.fetchAlone(key, after, limits));
    this.readerOf(key).place = block.full ? block.messages.at(-1)?.id : undefined;
    return block;
  }

  /** Undefined if the shared read does not suffice. */
  private async fetchTogether(
    key: ConsumerKey,
    after: MessageId | undefined,
    limits: FetchLimits,
  ): Promise<Block | undefined> {
    const kept = this.keptFor(key, after);
    const read = kept ?? this.send(key, after);
    const isOld = read.sent !== undefined;
    if (!isOld) {
      read.groups.add(key.group);
      read.limit = Math.max(read.limit, limits.messages);
    }
    if (after === undefined) this.begin(key);
    let page: BufferPage | undefined;
    try {
      page = await read.page;
    } catch (error) {
      if (!kept && (read.groups.size === 1 || isNetworkError(error) || isServerLost(error))) throw error;
    } finally {
      this.taken(key, read, page);
    }
    if (!page || (isOld && !page.more)) return undefined;
    const { documents, more } = page;
    // A read for one group asked for what waits for it alone.
    const own =
      read.groups.size === 1 ? documents : documents.filter((document) => this.pages.waitsFor(document, key.group));
    const block = toBlock({ documents: own, more }, limits, read.groupsVersion);
    // All of it was for other groups, so there is no position to continue from.
    return block.full && block.messages.length === 0 ? undefined : block;
  }

  private async fetchAlone(key: ConsumerKey, after: MessageId | undefined, limits: FetchLimits): Promise<Block> {
    const filter = { ...waiting(key), ...behind(after) };
    const groupsVersion = this.versions.current(key.stream);
    const query = { filter, sort: IN_ORDER, limit: limits.messages, groups: [key.group] };
    return toBlock(await this.pages.find(key.stream, query), limits, groupsVersion);
  }

  private keptFor(key: ConsumerKey, after: MessageId | undefined): Read | undefined {
    const read = this.last.get(partitionOf(key));
    if (!read || read.after !== after) return undefined;
    if (read.sent === undefined) return read;
    if (after === undefined || !read.expected.has(key.group)) return undefined;
    const { begun, settled } = this.readerOf(key);
    return begun < read.sent && settled <= after ? read : undefined;
  }

  private send(key: ConsumerKey, after: MessageId | undefined): Read {
    const id = partitionOf(key);
    const companions: string[] = [];
    if (after !== undefined) {
      for (const [group, { place }] of this.readersOf(key)) if (place === after) companions.push(group);
    }
    const page = endOfTurn().then(() => {
      this.moment += 1;
      read.sent = this.moment;
      read.groupsVersion = this.versions.current(key.stream);
      const groups = [...read.groups];
      const [group] = groups;
      if (after === undefined && group !== undefined && groups.length === 1) {
        return this.pages.findFirst({ ...key, group }, read.limit);
      }
      const waits = waitingForAny(key.stream, key.partition, groups);
      const filter = { ...waits, ...behind(after) };
      return this.pages.find(key.stream, { filter, sort: IN_ORDER, limit: read.limit, groups });
    });
    const read: Read = { after, groups: new Set(companions), expected: new Set(companions), limit: 0, page };
    this.last.set(id, read);
    return read;
  }

  /** Forgets the read as soon as no group is waiting for it. */
  private taken(key: ConsumerKey, read: Read, page: BufferPage | undefined): void {
    read.expected.delete(key.group);
    const id = partitionOf(key);
    if ((read.expected.size === 0 || !page?.more) && this.last.get(id) === read) this.last.delete(id);
  }

  private readerOf(key: ConsumerKey): Reader {
    const readers = this.readersOf(key);
    let reader = readers.get(key.group);
    if (!reader) readers.set(key.group, (reader = { place: undefined, begun: 0, settled: '' }));
    return reader;
  }

  private readersOf(key: ConsumerKey): Map<string, Reader> {
    const id = partitionOf(key);
    let readers = this.readers.get(id);
    if (!readers) {
      readers = new Map<string, Reader>();
      this.readers.set(id, readers);
    }
    return readers;
  }
}

function partitionOf({ stream, partition }: ConsumerKey): string {
  return `${partition} ${stream}`;
}
