import type { Lease } from './lease.interface.js';
import type { MessageId, RefusedMessages, StoredMessage } from './message.interface.js';

/** A message that a consumer gave up. */
export interface NewDeadLetter {
  /**
   * The object that was fetched: the letter gets the bytes that were appended, whether or not they can be decoded. Or one that was in a row of
   * the consumer's state, which gives them by `content`.
   */
  readonly message: StoredMessage;
  /** Public id of the window it was in. */
  readonly window: string;
  /** `Class.method`. */
  readonly consumer: string;
  /** Runs of the handler that failed with it. */
  readonly attempts: number;
  readonly error: string;
  readonly stack?: string;
  readonly died: Date;
}

/** A dead letter as it lies in the store. */
export interface DeadLetter {
  /** Opaque; comparing two of one stream as strings gives the order in which they are listed: that of `died`, roughly. */
  readonly id: string;
  readonly stream: string;
  readonly group: string;
  readonly messageId: MessageId;
  readonly created: Date;
  readonly data: unknown;
  readonly key?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /**
   * Why `data`, `key` and `headers` are absent, where the message can't be decoded in JavaScript. The letter has the bytes that were
   * appended, and a redrive puts them back.
   */
  readonly undecodable?: string;
  readonly window: string;
  readonly consumer: string;
  readonly attempts: number;
  readonly error: string;
  readonly stack?: string;
  readonly died: Date;
}

/** Which dead letters of a stream; those that match all that is given. */
export interface DeadLetterFilter {
  /** Only those of this group. @default all */
  readonly group?: string;
  /** Only those with these ids. @default all */
  readonly ids?: readonly string[];
  /** Only those that died before this time. @default all */
  readonly before?: Date;
}

/** Messages that consumers gave up. */
export interface DeadLetterStore {
  /**
   * Stores messages that the lease's consumer gives up, durably: the caller commits their window afterwards. A message that is
   * a dead letter of the group already stays as it is. Resolves with messages that fit into no letter, if there are any. @throws LeaseLost where the store can tell
   */
  bury(lease: Lease, letters: readonly NewDeadLetter[]): Promise<RefusedMessages | void>;
  /**
   * Dead letters of the stream in the order of their ids, after the given one. There are no more behind a read that brings none.
   *
   * @param limit of letters
   * @param bytes of their messages, about: a read ends with the letter that reaches it. @default any number
   */
  deadLetters(
    stream: string,
    filter: DeadLetterFilter,
    after: string | undefined,
    limit: number,
    bytes?: number,
  ): Promise<readonly DeadLetter[]>;
  /**
   * Puts the messages back into the buffer, behind what is there, for their own group only: other groups do not see them again, and do not
   * keep them by what they committed before. A group that is registered while they wait gets them. Then the letters are gone. Resolves with how many. A call that is repeated after a crash in its middle neither loses nor
   * doubles a message. Letters of a group that was removed stay.
   */
  redrive(stream: string, filter: DeadLetterFilter): Promise<number>;
  /** Removes them for good. Resolves with how many. */
  discard(stream: string, filter: DeadLetterFilter): Promise<number>;
}
