import type {
  Block,
  ConsumerKey,
  MessageId,
  StoredMessage,
  StreamStore,
  TimeCursor,
  TimeRange,
} from '../storage/stream-store.interface.js';

/** Blocks read by cursor before a scan from the start: late ids are found at the latest after this many blocks. */
const BLOCKS_BETWEEN_SCANS = 8;
/** Up to this many owned messages are read again and subtracted; beyond, their ids are read first. */
const MOST_REREAD = 100;
/** Ids of one page of a scan. */
const SCAN_PAGE = 2000;

export interface BlockLimits {
  /** Messages of one block. */
  readonly messages: number;
  /** Bytes of one block. */
  readonly bytes: number;
}

/** What a cursor needs to know of the messages that this process already holds, and where it delivers what it reads. */
export interface BlockReceiver {
  readonly ownedCount: number;
  owns(id: MessageId): boolean;
  /** Messages in reading order, some of which may be owned already. */
  receive(messages: readonly StoredMessage[]): void;
  skipDamaged(block: Block): void;
}

/**
 * Where reading stands in a consumer's part of the stream, and how the next block is found.
 *
 * Nothing is skipped. Where ids come from several processes and interleave, a message may appear below one that was read before. So a
 * cursor serves only while reads come back full. As soon as one comes back short the next starts at the beginning again, and in a long
 * backlog a scan from the beginning every few blocks finds what came in below the cursor. In a store with a total order nothing comes
 * in below it.
 */
export class StreamCursor {
  private cursor: MessageId | undefined;
  private blocksSinceScan = 0;
  private ranges: readonly TimeRange[] | undefined;
  private range = 0;
  private timeCursor: TimeCursor | undefined;
  private averageBytes = 256;

  constructor(
    private readonly store: StreamStore,
    private readonly key: ConsumerKey,
    private readonly limits: BlockLimits,
    private readonly receiver: BlockReceiver,
  ) {}

  /** True if it reads in order of time. */
  get isByTime(): boolean {
    return this.ranges !== undefined;
  }

  /** From the start, in append order. */
  restart(): void {
    this.ranges = undefined;
    this.cursor = undefined;
  }

  /** From the start, in order of time: one range after the other. */
  restartByTime(ranges: readonly TimeRange[]): void {
    this.cursor = undefined;
    this.ranges = ranges;
    this.range = 0;
    this.timeCursor = undefined;
  }

  /** Reads one block of at most `room` messages. Resolves with true if nothing is left to read. One call at a time. */
  next(room: number): Promise<boolean> {
    const limit = Math.max(1, Math.min(room, this.limits.messages));
    return this.ranges ? this.nextByTime(this.ranges, limit) : this.nextInOrder(limit);
  }

  private async nextInOrder(limit: number): Promise<boolean> {
    const { cursor } = this;
    if (cursor === undefined) return this.fromStart(limit);
    if (this.store.totalOrder) {
      const block = await this.fetch(cursor, limit);
      this.cursor = block.messages.at(-1)?.id ?? cursor;
      return !block.full;
    }

    this.blocksSinceScan += 1;
    if (this.blocksSinceScan >= BLOCKS_BETWEEN_SCANS) {
      this.blocksSinceScan = 0;
      await this.scan(cursor, limit);
    }
    const block = await this.fetch(cursor, limit);
    // Short: the backlog ends here, but what came in below the cursor shows only from the start.
    this.cursor = block.full ? block.messages.at(-1)?.id : undefined;
    return false;
  }

  private async fromStart(limit: number): Promise<boolean> {
    this.blocksSinceScan = 0;
    const { ownedCount } = this.receiver;
    if (ownedCount > MOST_REREAD) {
      const { stopped, last } = await this.scan(undefined, limit);
      this.cursor = this.store.totalOrder ? (stopped ?? last) : stopped;
      return stopped === undefined;
    }
    const block = await this.fetch(undefined, limit + ownedCount);
    this.cursor = block.full || this.store.totalOrder ? block.messages.at(-1)?.id : undefined;
    return !block.full;
  }

  private async fetch(after: MessageId | undefined, messages: number): Promise<Block> {
    const block = await this.store.fetch(this.key, after, { messages, bytes: this.limits.bytes });
    this.receive(block.messages);
    this.receiver.skipDamaged(block);
    return block;
  }

  /**
   * From the start: reads ids only, up to and including `until`, and then the messages among them that are not owned, up to `limit`.
   * Resolves with the id where it stopped because of a limit, or that of the last message if it came to the end.
   */
  private async scan(
    until: MessageId | undefined,
    limit: number,
  ): Promise<{ readonly stopped?: MessageId; readonly last?: MessageId }> {
    // By bytes too: the ids tell nothing of the sizes, so the average of what was seen has to do.
    const most = Math.max(1, Math.min(limit, Math.floor(this.limits.bytes / this.averageBytes)));
    let found = 0;
    for (let after: MessageId | undefined; ;) {
      const ids = await this.store.scan(this.key, after, until, SCAN_PAGE);
      const fresh = ids.filter((id) => !this.receiver.owns(id));
      const wanted = fresh.slice(0, most - found);
      if (wanted.length > 0) this.receive(await this.store.load(this.key, wanted));
      found += wanted.length;
      if (wanted.length < fresh.length) return { stopped: wanted.at(-1) ?? after };
      after = ids.at(-1) ?? after;
      if (ids.length < SCAN_PAGE) return { last: after };
      if (found >= most) return { stopped: after };
    }
  }

  private async nextByTime(ranges: readonly TimeRange[], limit: number): Promise<boolean> {
    const range = ranges[this.range];
    if (range === undefined) return true;
    const block = await this.store.fetchByTime(this.key, range, this.timeCursor, {
      messages: limit,
      bytes: this.limits.bytes,
    });
    this.receive(block.messages);
    this.receiver.skipDamaged(block);
    const last = block.messages.at(-1);
    if (block.full && last) {
      this.timeCursor = { created: last.created, id: last.id };
      return false;
    }
    this.range += 1;
    this.timeCursor = undefined;
    return this.range >= ranges.length;
  }

  private receive(messages: readonly StoredMessage[]): void {
    if (messages.length > 0) {
      this.averageBytes = Math.max(1, messages.reduce((sum, { bytes }) => sum + bytes, 0) / messages.length);
    }
    this.receiver.receive(messages);
  }
}
