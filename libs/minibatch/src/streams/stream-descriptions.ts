import type { Clock } from '../common/clock.js';
import { AppendError, ErrorCode } from '../errors/minibatch.error.js';
import { ensureDeclared, partitionCount, partitionsAt } from '../storage/partitions.js';
import type { StreamInfo } from '../storage/stream-store.interface.js';
import type { StoreAccess } from './store-access.js';

/** An older description is read again; milliseconds. */
const DESCRIPTION_AGE = 2000;
/**
 * A message with a key waits until one that is older than this has been read again: the stream may have more partitions by now. Less than
 * the time between a growth and the first use of new partitions (`GROWTH_NOTICE`).
 */
const OLDEST_WITH_KEYS = 5000;

interface Described {
  readonly info: StreamInfo;
  /** Monotonic time of the read. */
  readonly at: number;
}

/** What this process knows of streams: whether they exist and take messages. */
export class StreamDescriptions {
  private readonly known = new Map<string, Described>();
  private isPartitioned = false;
  private readonly reads = new Map<string, Promise<Described>>();

  constructor(
    private readonly access: StoreAccess,
    private readonly clock: Clock,
    /** How many partitions a stream is declared to have. */
    private readonly declared: (stream: string) => number | undefined,
    /** A stream was described for the first time. */
    private readonly found: (info: StreamInfo) => void = () => undefined,
  ) {}

  /** True once any stream is known to have several partitions. */
  get hasPartitions(): boolean {
    return this.isPartitioned;
  }

  /** How many partitions the stream has for what is sent at this time. */
  partitions(stream: string, time: number): number {
    const known = this.known.get(stream);
    return known ? partitionsAt(known.info, time) : 1;
  }

  /**
   * Creates the stream, once in the life of the process. Undefined if the stream is known to take messages.
   *
   * @param now monotonic
   * @param hasKeys whether messages that are about to be appended have keys
   * @throws AppendError `StreamClosed` (by the promise)
   */
  prepare(stream: string, now: number, hasKeys: () => boolean): Promise<void> | undefined {
    const described = this.known.get(stream);
    // A closed one may have been opened again since.
    if (described === undefined || described.info.status === 'closed') return this.requireOpen(stream);
    if (now - described.at > OLDEST_WITH_KEYS && hasKeys()) return this.requireOpen(stream);
    if (now - described.at > DESCRIPTION_AGE && !this.reads.has(stream)) {
      // Another process may have closed it. Later appends hear of that, this one does not wait. If the read fails, the append reports it.
      this.read(stream).catch(() => undefined);
    }
    return undefined;
  }

  private async requireOpen(stream: string): Promise<void> {
    const { info } = await this.read(stream);
    if (info.status !== 'closed') return;
    throw new AppendError(
      ErrorCode.StreamClosed,
      `the stream '${stream}' was closed and takes no more messages: append to another one`,
      'no',
      { details: { stream } },
    );
  }

  /** Reads the description from the store, and creates the stream if there is none; calls at the same time share one read. */
  read(stream: string): Promise<Described> {
    const current = this.reads.get(stream);
    if (current) return current;
    const read = this.access
      .open()
      .then(() => ensureDeclared(this.access.store, stream, this.declared(stream), this.clock.now()))
      .then((info) => this.follow(info))
      .finally(() => this.reads.delete(stream));
    this.reads.set(stream, read);
    return read;
  }

  /**
   * Another process may have dropped the stream and made it again with fewer partitions. What this process has appended since may be in one
   * of the earlier ones, until the next sweep; the first one is made here.
   */
  private async follow(info: StreamInfo): Promise<Described> {
    const before = this.known.get(info.name)?.info;
    const described = this.remember(info);
    if (!before) this.found(info);
    if (before && partitionCount(info) < partitionCount(before)) {
      // The next one comes by the clock.
      await this.access.store.sweep(info.name, {}).catch(() => undefined);
    }
    return described;
  }

  remember(info: StreamInfo): Described {
    const described = { info, at: this.clock.monotonic() };
    this.known.set(info.name, described);
    this.isPartitioned ||= partitionCount(info) > 1;
    return described;
  }

  forget(stream: string): void {
    this.known.delete(stream);
  }

  /** Resolves when no read is in flight. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.reads.values());
  }
}
