import type { Message } from '../windows/message.js';
import type { ConsumerKey } from './consumer-key.interface.js';

/**
 * Identifies a message within its store; opaque to all but the store. Comparing two ids of one stream as strings gives
 * the order in which `fetch` returns them.
 */
export type MessageId = string;

/**
 * A message as the store gives it back. It keeps the bytes that were stored, and its store knows them by the object: what is to be
 * buried or settled is handed back as it came, not as a copy.
 *
 * `data`, `key` and `headers` are decoded when they are first asked for and are the same at each look. They throw as `read` does.
 */
export interface StoredMessage {
  readonly id: MessageId;
  readonly created: Date;
  readonly data: unknown;
  readonly key?: string | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Size of the message as stored, in bytes; the read-ahead is bounded by it. */
  readonly bytes: number;
  /** True if the message was appended with a `dedupeId`: committing it leaves a tombstone. */
  readonly deduped?: boolean;
  /** True if it was put back, as a dead letter or as the copy of a kept message: it is wanted, however old it is. */
  readonly redriven?: boolean;
  /** True if the stream was cleared after the message had been appended: it is not wanted. Never together with `redriven`. */
  readonly cleared?: boolean;
  /**
   * Decodes the message again: nothing of what it returns is shared with an earlier call, with `data`, or with the stored bytes.
   *
   * @throws whatever the decoder throws if the bytes can't be decoded in JavaScript
   */
  read(): Message;
  /**
   * What `read` would decode, as bytes: handlers in other threads and processes get them. Absent: what `read` returns is encoded.
   */
  content?(): MessageContent;
}

/** The content of a message before it is decoded. */
export interface MessageContent {
  /** A BSON document `{ d: data, k?: key, h?: headers }`; other fields are ignored. It may point into the message: copy it. */
  readonly bson: Uint8Array;
  /** `bigint`: every int64 was a bigint. `auto`: it is a number if that is exact, because another language may have written it. */
  readonly int64: 'bigint' | 'auto';
}

/** Messages that the database does not let go. They stay in the buffer, and this process skips them for the group until it ends. */
export interface RefusedMessages {
  readonly ids: readonly MessageId[];
  /** In the words of the database. */
  readonly reason: string;
}

/** Where consumers have to look for messages. */
export interface StreamChanges {
  /** For the next call. */
  readonly mark: string;
  /** Streams that messages may have come to since; absent: to any. */
  readonly streams?: readonly string[];
}

/** One read of the buffer. */
export interface Block {
  readonly messages: readonly StoredMessage[];
  /** False when the read ended because nothing more was there, true when it ended at its limit. */
  readonly full: boolean;
  /** What the read came across and passed over, because it is no message or not one any more; absent as a rule. */
  readonly damaged?: readonly MessageId[];
}

export interface FetchLimits {
  /** Most messages to return. */
  readonly messages: number;
  /** Soft bound in bytes: a read ends with the message that reaches it, so at least one message is returned. */
  readonly bytes: number;
  /**
   * True: the read is not one of those by which the consumer goes through the stream. Somebody inspects the stream, or the consumer scans for
   * what is to be discarded. A store that lets consumers share their reads keeps this one apart.
   */
  readonly aside?: true;
}

/** Position in a read ordered by time. */
export interface TimeCursor {
  readonly created: Date;
  readonly id: MessageId;
}

/** Half-open: `from` ≤ created < `to`; an absent bound is open. */
export interface TimeRange {
  readonly from?: Date;
  readonly to?: Date;
}

/** Who hears of messages as they arrive; see `watch`. */
export interface StreamWatcher {
  /** Messages have come on the stream. */
  wake(stream: string): void;
  /** From now on it is told of all messages, and it was woken for those before. */
  started(): void;
  /** It may miss messages until `started` is called again. */
  failed(error: unknown): void;
}

/** Reads of the buffer, and how a process hears of messages that others append. */
export interface MessageStore {
  /**
   * Messages in append order, after the given id, that the group has not committed. Claimed ones are among them: the
   * caller knows its claims and subtracts them.
   */
  fetch(key: ConsumerKey, after: MessageId | undefined, limits: FetchLimits): Promise<Block>;
  /** The same in order of (created, id), for messages created in the range. */
  fetchByTime(key: ConsumerKey, range: TimeRange, after: TimeCursor | undefined, limits: FetchLimits): Promise<Block>;
  /** Only the ids, in append order, of what `fetch` would return up to and including `until`: the cheap way to scan from the start. */
  scan(
    key: ConsumerKey,
    after: MessageId | undefined,
    until: MessageId | undefined,
    limit: number,
  ): Promise<readonly MessageId[]>;
  /** The messages with these ids that are still in the buffer and not committed by the group, in the order of `ids`. */
  load(key: ConsumerKey, ids: readonly MessageId[]): Promise<readonly StoredMessage[]>;
  /**
   * Messages in the buffer that at least one group has not committed, counted no further than to `most`: cheap enough to be
   * asked every second.
   */
  count(stream: string, most: number): Promise<number>;
  /**
   * One cheap round trip for many consumers: a token each, in the order of `keys`, that differs from the one before whenever
   * messages may have come that the consumer has not seen.
   */
  poll(keys: readonly ConsumerKey[]): Promise<readonly string[]>;
  /**
   * What may have changed since the call that returned this mark, for a store that can tell at less cost than by a poll: consumers of other
   * streams are not polled then, and thousands of them rest at no cost. @default all are polled
   */
  changedStreams?(since: string | undefined): Promise<StreamChanges>;
  /**
   * Tells of messages of any process on these streams as soon as they arrive, until the signal aborts. What fails is retried
   * until then. Resolves when the signal aborts, or at once where the store can't: then there is only `poll`, as where it is absent.
   */
  watch?(streams: readonly string[], watcher: StreamWatcher, signal: AbortSignal): Promise<void>;
}
