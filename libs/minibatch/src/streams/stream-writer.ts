import { orAborted } from '../common/abort.js';
import type { Clock } from '../common/clock.js';
import type { Mutable } from '../common/mutable.js';
import { AppendError, ErrorCode } from '../errors/minibatch.error.js';
import { shuttingDown } from '../errors/shutting-down.js';
import type { AppendOutcome, NewMessage } from '../storage/stream-store.interface.js';
import { notStored } from './append-failures.js';
import type { SourcePosition } from './append-entries.js';
import { AppendQueue } from './append-queue.js';
import { BufferLimit } from './buffer-limit.js';
import { labelsOf } from './message-labels.js';
import type { PendingLimits } from './pending-limit.js';
import { Placement } from './placement.js';
import { toStorable } from '../storage/storable.js';
import type { StoreAccess } from './store-access.js';
import type { OutgoingMessage, WriteOptions } from './stream-operations.js';
import type { StreamDescriptions } from './stream-descriptions.js';

/** What keeps a stream from growing. */
interface Limit {
  readonly buffer: BufferLimit;
  /** Appends wait for room, if they do not say otherwise. */
  readonly waits: boolean;
}

interface WriterParts {
  readonly access: StoreAccess;
  readonly descriptions: StreamDescriptions;
  readonly clock: Clock;
  readonly pending: PendingLimits;
  /** Messages have been stored on the stream; in this partition, if it has several. */
  readonly appended: (stream: string, partition?: number) => void;
}

interface OutgoingOptions extends WriteOptions {
  readonly position?: SourcePosition;
  /** For room in a full stream or a full queue. @default as the stream's limit says */
  readonly waits?: boolean;
}

/** Brings messages from a call to the store: copies and checks them, holds them back while a stream is full, and has them written. */
export class StreamWriter {
  private readonly limits = new Map<string, Limit>();
  private readonly closing = new AbortController();
  private readonly queue: AppendQueue;
  private readonly placement: Placement;
  private refusing = false;

  constructor(private readonly parts: WriterParts) {
    const { access, descriptions, clock, pending, appended } = parts;
    this.placement = new Placement(clock, (stream, time) => descriptions.partitions(stream, time));
    this.queue = new AppendQueue({
      store: access.store,
      clock,
      limits: pending,
      prepare: (stream, now, hasKeys) => descriptions.prepare(stream, now, hasKeys),
      place: (messages) => this.place(messages),
      look: (stream) => descriptions.read(stream),
      appended,
    });
  }

  get isRefusing(): boolean {
    return this.refusing;
  }

  /**
   * Keeps the stream from growing beyond this many messages.
   *
   * @param waits whether appends wait for room, if they do not say otherwise
   */
  limit(stream: string, maxBuffered: number, waits: boolean): void {
    const { access, clock } = this.parts;
    const buffer = new BufferLimit(stream, maxBuffered, access.store, clock, this.closing.signal);
    this.limits.set(stream, { buffer, waits });
  }

  /**
   * Copies and checks the messages before anything else happens, so later changes by the caller do not matter.
   *
   * @param since when the call was made; monotonic
   * @throws AppendError
   */
  write(
    stream: string,
    messages: readonly OutgoingMessage[],
    options: OutgoingOptions,
    since = this.parts.clock.monotonic(),
  ): Promise<readonly AppendOutcome[]> {
    if (this.refusing) {
      throw new AppendError(ErrorCode.ShuttingDown, `append to '${stream}': the application is shutting down`, 'no');
    }
    const created = new Date(this.parts.clock.now());
    const { length } = messages;
    const outgoing = messages.map((message, index) => this.outgoing(stream, created, message, index, length));
    const limit = length > 0 ? this.limits.get(stream) : undefined;
    return limit
      ? this.admit(limit, stream, outgoing, options, since)
      : this.send(stream, outgoing, options, options.waits, since);
  }

  /**
   * For messages that a consumer appends in its commit, and which are written by the store at once with it: waits for room in their
   * streams, makes these if need be, and decides on partitions.
   *
   * @param closing aborts when room is not to be waited for any longer
   * @param source the stream that the consumer takes messages out of: to wait for room there would be to wait for itself
   * @throws AppendError `StreamClosed`, `StreamFull`, `ShuttingDown`, `StoreUnavailable`
   */
  async prepare(messages: readonly NewMessage[], closing: AbortSignal, source: string): Promise<void> {
    const { clock, descriptions } = this.parts;
    for (const stream of new Set(messages.map((message) => message.stream))) {
      const own = messages.filter((message) => message.stream === stream);
      const admitted = stream === source ? undefined : this.limits.get(stream)?.buffer.admit(own.length, true);
      if (admitted) await orAborted(admitted, closing, () => shuttingDown(`append to '${stream}'`));
      const hasKeys = () => own.some(({ key }) => key !== undefined);
      await descriptions
        .prepare(stream, clock.monotonic(), hasKeys)
        ?.catch((error: unknown) => Promise.reject(notStored(error)));
    }
    this.place(messages);
  }

  private place(messages: readonly NewMessage[]): void {
    if (this.parts.descriptions.hasPartitions) this.placement.place(messages);
  }

  /** Resolves when everything that has been written so far is answered. */
  answered(): Promise<void> {
    return this.queue.answered();
  }

  /** Fails what is not answered yet. */
  abandon(): void {
    this.queue.abandon();
  }

  /** Refuses further messages, also those that wait for room in a full stream. */
  refuse(): void {
    this.refusing = true;
    this.closing.abort();
  }

  private outgoing(
    stream: string,
    created: Date,
    { data, options }: OutgoingMessage,
    index: number,
    count: number,
  ): NewMessage {
    const { value, bytes, bigints } = toStorable(data, this.parts.access.store.maxMessageBytes);
    const message: Mutable<NewMessage> = { stream, data: value, bytes, bigints, created };
    if (options === undefined) return message;
    // A closure: this is done for every message, and the text is only needed for an error.
    const where = () => (count === 1 ? `append to '${stream}'` : `append to '${stream}', message ${index}`);
    return Object.assign(message, labelsOf(where, options));
  }

  private admit(
    { buffer, waits: usually }: Limit,
    stream: string,
    messages: readonly NewMessage[],
    options: OutgoingOptions,
    since: number,
  ): Promise<readonly AppendOutcome[]> {
    const { access, clock } = this.parts;
    const { waits = usually } = options;
    const admitted = access.isOpen
      ? buffer.admit(messages.length, waits)
      : // The limit asks the store, which has to be open.
        access.open().then(
          () => buffer.admit(messages.length, waits),
          (error: unknown) => Promise.reject(notStored(error)),
        );
    if (!admitted) return this.send(stream, messages, options, waits, since);
    return admitted.then(() => {
      const created = new Date(clock.now());
      const late = messages.map((message) => ({ ...message, created }));
      return this.send(stream, late, options, waits, clock.monotonic());
    });
  }

  private send(
    stream: string,
    messages: readonly NewMessage[],
    { session, position }: OutgoingOptions,
    waits: boolean | undefined,
    since: number,
  ): Promise<readonly AppendOutcome[]> {
    if (session !== undefined && session !== null) return this.writeInSession(stream, messages, session);
    if (messages.length === 0 && !position) return Promise.resolve([]);
    return this.queue.add(stream, messages, position, waits, since);
  }

  /** In the user's transaction, so it can't share a write with others. The stream is prepared outside of it. */
  private async writeInSession(
    stream: string,
    messages: readonly NewMessage[],
    session: unknown,
  ): Promise<readonly AppendOutcome[]> {
    const { access, clock, descriptions, appended } = this.parts;
    const hasKeys = () => messages.some(({ key }) => key !== undefined);
    const prepared = descriptions.prepare(stream, clock.monotonic(), hasKeys);
    await prepared?.catch((error: unknown) => Promise.reject(notStored(error)));
    this.place(messages);
    // An error of the driver passes unchanged: a transaction is repeated only for the driver's own errors.
    const outcomes = await access.store.append(messages, { session });
    appended(stream);
    return outcomes;
  }
}
