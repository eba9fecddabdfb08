import type { Clock } from '../common/clock.js';
import type { Mutable } from '../common/mutable.js';
import { AppendError, ErrorCode } from '../errors/minibatch.error.js';
import type { AppendOutcome, NewMessage } from '../storage/stream-store.interface.js';
import { notStored } from './append-failures.js';
import type { SourcePosition } from './append-entries.js';
import { AppendQueue } from './append-queue.js';
import { BufferLimit } from './buffer-limit.js';
import { labelsOf } from './message-labels.js';
import type { PendingLimits } from './pending-limit.js';
import { toStorable } from '../storage/storable.js';
import type { StoreAccess } from './store-access.js';
import type { OutgoingMessage, WriteOptions } from './stream-operations.js';
import type { StreamDescriptions } from './stream-descriptions.js';

interface WriterParts {
  readonly access: StoreAccess;
  readonly descriptions: StreamDescriptions;
  readonly clock: Clock;
  readonly pending: PendingLimits;
  /** Messages have been stored on the stream. */
  readonly appended: (stream: string) => void;
}

type PositionedOptions = WriteOptions & { readonly position?: SourcePosition };

/** Brings messages from a call to the store: copies and checks them, holds them back while a stream is full, and has them written. */
export class StreamWriter {
  private readonly limits = new Map<string, BufferLimit>();
  private readonly closing = new AbortController();
  private readonly queue: AppendQueue;
  private refusing = false;

  constructor(private readonly parts: WriterParts) {
    const { access, descriptions, clock, pending, appended } = parts;
    this.queue = new AppendQueue({
      store: access.store,
      clock,
      limits: pending,
      prepare: (stream) => descriptions.prepare(stream),
      look: (stream) => descriptions.read(stream),
      appended,
    });
  }

  get isRefusing(): boolean {
    return this.refusing;
  }

  /** Keeps the stream from growing beyond this many messages. */
  limit(stream: string, maxBuffered: number): void {
    const { access, clock } = this.parts;
    this.limits.set(stream, new BufferLimit(stream, maxBuffered, access.store, clock, this.closing.signal));
  }

  /**
   * Copies and checks the messages before anything else happens, so later changes by the caller do not matter.
   *
   * @param waits for room in a full stream or a full queue
   * @throws AppendError
   */
  write(
    stream: string,
    messages: readonly OutgoingMessage[],
    options: PositionedOptions,
    waits: boolean,
  ): Promise<readonly AppendOutcome[]> {
    if (this.refusing) {
      throw new AppendError(ErrorCode.ShuttingDown, `append to '${stream}': the application is shutting down`, 'no');
    }
    const now = new Date(this.parts.clock.now());
    const outgoing = messages.map((message, index) => this.outgoing(stream, now, message, index, messages.length));
    const admitted = outgoing.length > 0 ? this.admit(stream, outgoing.length, waits) : undefined;
    if (!admitted) return this.send(stream, outgoing, options, waits);
    return admitted.then(() => {
      const created = new Date(this.parts.clock.now());
      const late = outgoing.map((message) => ({ ...message, created }));
      return this.send(stream, late, options, waits);
    });
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

  private admit(stream: string, messages: number, waits: boolean): Promise<void> | undefined {
    const limit = this.limits.get(stream);
    if (!limit) return undefined;
    const { access } = this.parts;
    // The limit asks the store, which has to be open.
    if (access.isOpen) return limit.admit(messages, waits);
    return access.open().then(
      () => limit.admit(messages, waits),
      (error: unknown) => Promise.reject(notStored(error)),
    );
  }

  private send(
    stream: string,
    messages: readonly NewMessage[],
    { session, position }: PositionedOptions,
    waits: boolean,
  ): Promise<readonly AppendOutcome[]> {
    if (session !== undefined && session !== null) return this.writeInSession(stream, messages, session);
    if (messages.length === 0 && !position) return Promise.resolve([]);
    return this.queue.add(stream, messages, position, waits);
  }

  /** In the user's transaction, so it can't share a write with others. The stream is prepared outside of it. */
  private async writeInSession(
    stream: string,
    messages: readonly NewMessage[],
    session: unknown,
  ): Promise<readonly AppendOutcome[]> {
    const { access, descriptions, appended } = this.parts;
    await descriptions.prepare(stream)?.catch((error: unknown) => Promise.reject(notStored(error)));
    // An error of the driver passes unchanged: a transaction is repeated only for the driver's own errors.
    const outcomes = await access.store.append(messages, { session });
    appended(stream);
    return outcomes;
  }
}
