import type { MessageId } from './message.interface.js';

/** What a producer hands to the store. */
export interface NewMessage {
  readonly stream: string;
  /** Storable plain data, already checked and copied (see `streams/storable.ts`). */
  readonly data: unknown;
  /** About how many bytes the data take, if that has been counted. */
  readonly bytes?: number;
  /** Whether the data contain bigints, if that is known. */
  readonly bigints?: boolean;
  /** Set by the appending process before the write. */
  readonly created: Date;
  readonly key?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** A second message of the stream with the same `dedupeId` is acknowledged and ignored. */
  readonly dedupeId?: string;
  readonly partition?: number;
}

/** What became of one message of an `append`; in the order of the call. */
export type AppendOutcome =
  | { readonly status: 'stored'; readonly id: MessageId }
  /** Its `dedupeId` had been seen before; the stored message (or its tombstone) stays as it is. */
  | { readonly status: 'duplicate' }
  /** This one failed; others of the call are not touched. An `AppendError`, so it says whether it may be stored. */
  | {
      readonly status: 'failed';
      readonly error: Error;
      /**
       * True: the store was out of reach, so that another call would fail in the same way. If the error says `stored: 'no'`, the message
       * waits for the store and is appended again, as long as the call may take.
       */
      readonly storeAway?: boolean;
    };

export interface AppendOptions {
  /**
   * The application's own transaction, as the store takes one: the messages become visible when it commits, the positions too. MongoDB takes a
   * Mongoose `ClientSession`, PostgreSQL anything with `query(text, values)`.
   */
  readonly session?: unknown;
  /** Positions of sources; of several for one source on one stream the last that can be stored counts. */
  readonly checkpoints?: readonly Checkpoint[];
  /**
   * If given, `append` need not wait for messages that something outside holds up, such as another's open transaction that has used the
   * same dedupe id. It calls this with their indexes before it resolves, and the outcomes in its answer are `failed` for them. Positions
   * behind them are not stored.
   */
  readonly late?: (index: number, outcome: Promise<AppendOutcome>) => void;
}

/**
 * A source's position, and the messages of the write that it stands for. It is stored if and only if each of these is stored or a
 * duplicate, whatever becomes of the others: in one transaction with them where the store has transactions, otherwise after them.
 */
export interface Checkpoint {
  /** The position belongs to this stream, whichever streams the write has messages for. */
  readonly stream: string;
  readonly source: string;
  /** Plain storable data. */
  readonly position: unknown;
  /** Index of its first message in the write. */
  readonly from: number;
  /** Index behind its last message; `from` for a position that stands for no message. */
  readonly to: number;
}

/** Appends messages, and the positions of sources with them. */
export interface AppendStore {
  /**
   * Stores the messages durably; resolves with one outcome a message, in the order of the call. Within one call the
   * order of the messages is the order of their ids. Ignores the stream's status. A call without messages stores
   * its checkpoints.
   *
   * @throws CheckpointError if messages were written but a position that was due could not be; it has the outcomes
   * @throws AppendError if nothing at all can be said of the call; in a `session` also the error of the store's driver, by which the
   *   transaction is repeated
   */
  append(messages: readonly NewMessage[], options?: AppendOptions): Promise<readonly AppendOutcome[]>;
  /** The stored position of a source, or undefined. */
  readCheckpoint(stream: string, source: string): Promise<unknown>;
}
