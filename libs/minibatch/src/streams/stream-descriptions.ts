import type { Clock } from '../common/clock.js';
import { AppendError, ErrorCode } from '../errors/minibatch.error.js';
import type { StreamInfo } from '../storage/stream-store.interface.js';
import type { StoreAccess } from './store-access.js';

/** An older description is read again; milliseconds. */
const DESCRIPTION_AGE = 2000;

interface Described {
  readonly info: StreamInfo;
  /** Monotonic time of the read. */
  readonly at: number;
}

/** What this process knows of streams: whether they exist and take messages. */
export class StreamDescriptions {
  private readonly known = new Map<string, Described>();
  private readonly reads = new Map<string, Promise<Described>>();

  constructor(
    private readonly access: StoreAccess,
    private readonly clock: Clock,
  ) {}

  /**
   * Creates the stream, once in the life of the process. Undefined if the stream is known to take messages.
   *
   * @param now monotonic
   * @throws AppendError `StreamClosed` (by the promise)
   */
  prepare(stream: string, now: number): Promise<void> | undefined {
    const described = this.known.get(stream);
    // A closed one may have been opened again since.
    if (described === undefined || described.info.status === 'closed') return this.requireOpen(stream);
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
      .then(() => this.access.store.ensureStream(stream))
      .then((info) => this.remember(info))
      .finally(() => this.reads.delete(stream));
    this.reads.set(stream, read);
    return read;
  }

  remember(info: StreamInfo): Described {
    const described = { info, at: this.clock.monotonic() };
    this.known.set(info.name, described);
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
