import { LiveSet } from '../common/live-set.js';
import type {
  Block,
  ConsumerKey,
  MessageId,
  StoredMessage,
  StreamStore,
  TimeCursor,
  TimeRange,
} from '../storage/stream-store.interface.js';
import type { MessageBuffer } from '../windows/message-buffer.js';
import type { BufferedMessage } from '../windows/message.js';

/** Blocks read by cursor before a look from the start: late ids are found at the latest after so many blocks. */
const LOOK_EVERY = 8;
/** Up to so many owned messages are simply read again and subtracted; beyond, their ids are read first. */
const REREAD = 100;
/** Ids of one page of a look. */
const LOOK_PAGE = 2000;

/** A message read and not committed: what the store gave, and when it was first seen. */
export type ReadMessage = StoredMessage & BufferedMessage;

export interface ReaderLimits {
  /** Messages of one block. */
  readonly messages: number;
  /** Bytes of one block. */
  readonly bytes: number;
}

/**
 * Reads a consumer's part of the stream ahead, into the buffer the strategy chooses from.
 *
 * Nothing is skipped. Where ids come from several processes and interleave, a message may appear below one that was read before. So
 * a cursor serves only while reads come back full. As soon as one comes back short the next starts at the beginning again, and in
 * a long backlog every few blocks a look from the beginning finds what came in below the cursor. In a store with a total order
 * nothing comes in below it.
 *
 * Nothing is read twice. The reader owns the set of ids that it handed out and that have not left the store: those in the
 * buffer, in open windows, and in commits under way. Each read is subtracted by it. An id that is released while a read is under way
 * stays subtracted until that read has ended, because the read may have begun before the delete.
 */
export class Reader {
  private readonly owned = new LiveSet<MessageId>();
  private releasedDuringRead: MessageId[] = [];
  /** Reads under way. */
  private reads = 0;
  private cursor: MessageId | undefined;
  private blocksSinceLook = 0;
  private ranges: readonly TimeRange[] | undefined;
  private range = 0;
  private timeCursor: TimeCursor | undefined;
  private averageBytes = 256;
  private stale = true;
  /** When the last read began that came to the end of the stream. What is found after it was not there before. */
  private foundAll = -Infinity;
  private readCleared = false;
  private readonly damaged = new Set<MessageId>();
  private untold: MessageId[] = [];

  constructor(
    private readonly store: StreamStore,
    private readonly key: ConsumerKey,
    private readonly buffer: MessageBuffer,
    private readonly limits: ReaderLimits,
    private readonly now: () => number,
  ) {}

  /** True while there may be messages that no read has seen. */
  get unread(): boolean {
    return this.stale || !this.buffer.complete;
  }

  /** Messages have come: what was read last may not be all. */
  touch(): void {
    this.stale = true;
  }

  /** From the start, in append order. Not while a read is under way. */
  restart(): void {
    this.ranges = undefined;
    this.cursor = undefined;
    this.stale = true;
    this.buffer.complete = false;
  }

  /**
   * From the start, in order of time: one range after the other. What was left in the buffer is read again, so that all of it
   * is in order. Not while a read is under way.
   */
  restartByTime(ranges: readonly TimeRange[]): void {
    this.forget();
    this.ranges = ranges;
    this.range = 0;
    this.timeCursor = undefined;
  }

  /** What is in the buffer is not as the store has it any more: it will be read again. Not while a read is under way. */
  forget(): void {
    for (const { id } of this.buffer.messages) this.owned.delete(id);
    this.buffer.clear();
    // What was found before is found once more.
    this.foundAll = -Infinity;
    this.restart();
  }

  /** True if messages were read, since this was asked last, that a clearing has made unwanted. */
  takeReadCleared(): boolean {
    const read = this.readCleared;
    this.readCleared = false;
    return read;
  }

  /** Messages that the store could not make sense of, and that nobody has been told of. */
  takeDamaged(): readonly MessageId[] {
    const { untold } = this;
    if (untold.length > 0) this.untold = [];
    return untold;
  }

  /** Ids that recovered windows hold: reads leave them out. */
  own(messages: readonly { readonly id: MessageId }[]): void {
    for (const { id } of messages) this.owned.add(id);
  }

  /** These have left the store. */
  release(ids: readonly MessageId[]): void {
    if (this.reads > 0) this.releasedDuringRead.push(...ids);
    else for (const id of ids) this.owned.delete(id);
  }

  /** Reads one block of at most `room` messages into the buffer. One at a time. */
  async read(room: number): Promise<void> {
    const limit = Math.max(1, Math.min(room, this.limits.messages));
    this.stale = false;
    const began = this.now();
    try {
      await this.during(async () => {
        this.buffer.complete = this.ranges ? await this.readByTime(limit) : await this.readOn(limit);
      });
      if (this.buffer.complete && !this.ranges) this.foundAll = began;
    } catch (error) {
      this.stale = true;
      throw error;
    }
  }

  /** A read by somebody else, beside the others: the messages that are wanted and not owned yet; they are from now on. */
  async beside(
    read: () => Promise<Block>,
    isWanted: (message: StoredMessage) => boolean,
  ): Promise<{ readonly block: Block; readonly fresh: readonly ReadMessage[] }> {
    return this.during(async () => {
      const block = await read();
      this.passOver(block);
      return { block, fresh: this.adopt(block.messages.filter(isWanted)) };
    });
  }

  private async during<R>(read: () => Promise<R>): Promise<R> {
    this.reads += 1;
    try {
      return await read();
    } finally {
      this.reads -= 1;
      if (this.reads === 0) {
        for (const id of this.releasedDuringRead) this.owned.delete(id);
        this.releasedDuringRead = [];
      }
    }
  }

  /** Resolves with true if nothing is left to read. */
  private async readOn(limit: number): Promise<boolean> {
    const { cursor } = this;
    if (cursor === undefined) return this.readFromStart(limit);
    if (this.store.totalOrder) {
      const block = await this.store.fetch(this.key, cursor, { messages: limit, bytes: this.limits.bytes });
      this.take(block.messages);
      this.passOver(block);
      this.cursor = block.messages.at(-1)?.id ?? cursor;
      return !block.full;
    }

    this.blocksSinceLook += 1;
    if (this.blocksSinceLook >= LOOK_EVERY) {
      this.blocksSinceLook = 0;
      await this.look(cursor, limit);
    }
    const block = await this.store.fetch(this.key, cursor, { messages: limit, bytes: this.limits.bytes });
    this.take(block.messages);
    this.passOver(block);
    // Short: the backlog ends here, but what came in below the cursor shows only from the start.
    this.cursor = block.full ? block.messages.at(-1)?.id : undefined;
    return false;
  }

  private async readFromStart(limit: number): Promise<boolean> {
    this.blocksSinceLook = 0;
    if (this.owned.size > REREAD) {
      const { stopped, last } = await this.look(undefined, limit);
      this.cursor = this.store.totalOrder ? (stopped ?? last) : stopped;
      return stopped === undefined;
    }
    const block = await this.store.fetch(this.key, undefined, {
      messages: limit + this.owned.size,
      bytes: this.limits.bytes,
    });
    this.take(block.messages);
    this.passOver(block);
    this.cursor = block.full || this.store.totalOrder ? block.messages.at(-1)?.id : undefined;
    return !block.full;
  }

  /**
   * From the start: reads ids only, up to and including `until`, and then the messages among them that are not owned, up to `limit`.
   * Resolves with the id where it stopped because of a limit, or that of the last message if it came to the end.
   */
  private async look(
    until: MessageId | undefined,
    limit: number,
  ): Promise<{ readonly stopped?: MessageId; readonly last?: MessageId }> {
    // By bytes too: the ids tell nothing of the sizes, so the average of what was seen has to do.
    const most = Math.max(1, Math.min(limit, Math.floor(this.limits.bytes / this.averageBytes)));
    let found = 0;
    for (let after: MessageId | undefined; ;) {
      const ids = await this.store.scan(this.key, after, until, LOOK_PAGE);
      const fresh = ids.filter((id) => !this.owned.has(id));
      const wanted = fresh.slice(0, most - found);
      if (wanted.length > 0) this.take(await this.store.load(this.key, wanted));
      found += wanted.length;
      if (wanted.length < fresh.length) return { stopped: wanted.at(-1) ?? after };
      after = ids.at(-1) ?? after;
      if (ids.length < LOOK_PAGE) return { last: after };
      if (found >= most) return { stopped: after };
    }
  }

  private async readByTime(limit: number): Promise<boolean> {
    const { ranges = [] } = this;
    const range = ranges[this.range];
    if (range === undefined) return true;
    const block = await this.store.fetchByTime(this.key, range, this.timeCursor, {
      messages: limit,
      bytes: this.limits.bytes,
    });
    this.take(block.messages);
    this.passOver(block);
    const last = block.messages.at(-1);
    if (block.full && last) {
      this.timeCursor = { created: last.created, id: last.id };
      return false;
    }
    this.range += 1;
    this.timeCursor = undefined;
    return this.range >= ranges.length;
  }

  private passOver({ damaged = [] }: Block): void {
    for (const id of damaged) {
      if (this.damaged.has(id)) continue;
      this.damaged.add(id);
      this.untold.push(id);
    }
  }

  private take(messages: readonly StoredMessage[]): void {
    if (messages.length > 0) {
      this.averageBytes = Math.max(1, messages.reduce((sum, { bytes }) => sum + bytes, 0) / messages.length);
    }
    this.buffer.push(this.adopt(messages));
  }

  private adopt(messages: readonly StoredMessage[]): readonly ReadMessage[] {
    const seen = this.now();
    const notBefore = this.foundAll;
    const fresh: ReadMessage[] = [];
    for (const message of messages) {
      if (!this.owned.add(message.id)) continue;
      if (message.cleared) this.readCleared = true;
      // The store made the object for this read alone: no copy.
      fresh.push(Object.assign(message, { seen, notBefore }) as ReadMessage);
    }
    return fresh;
  }
}
