import type { Message } from './message.js';

/**
 * A batch of messages, handed to a `@Streaming` method. Immutable. A class and not an interface, so that it can be
 * imported as a value where decorator metadata needs one; nobody but the engine makes one.
 */
export abstract class Window<T = unknown> {
  /**
   * Made of stream, group and a digest of the message ids: the same messages always give the same id, so it serves
   * sinks as idempotency key.
   */
  abstract readonly id: string;
  /** The stream's name. */
  abstract readonly stream: string;
  /** The consumer's group on the stream. */
  abstract readonly group: string;
  /** The partition of the stream that its messages are in; 0 if the stream has one. */
  abstract readonly partition: number;
  /** The messages' data, in order. */
  abstract readonly data: readonly T[];
  /** The messages with id, created, key and headers, in the order of `data`. */
  abstract readonly messages: readonly Message<T>[];
  /** Start of the interval, inclusive; time windows only. */
  abstract readonly start?: Date;
  /** End of the interval, exclusive; time windows only. */
  abstract readonly end?: Date;
  /** 0, 1, 2, … when one interval had more messages than a window may hold; otherwise undefined. */
  abstract readonly part?: number;
  /** True when the messages came after their interval had been emitted. */
  abstract readonly late: boolean;
  /** The key whose window this is; only with `by`. */
  abstract readonly key?: string;
  /** True when it was emitted before its end: by a flush, with fewer messages than `size`, or as the first message of a session with `leading`. */
  abstract readonly partial: boolean;
  /** How often a window with this key and these bounds was emitted before. */
  abstract readonly revision: number;
  /** 1 for the first run of the handler; grows with each failure. */
  abstract readonly attempt: number;
  /**
   * Present when a window that failed for good is being taken apart to find its bad messages: this is the part `[from, to)` of the
   * window with the id `of`.
   */
  abstract readonly split?: { readonly of: string; readonly from: number; readonly to: number };
  /** Aborts when the result will not count any more: the lease was lost, the attempt took too long, or the module is shutting down. */
  abstract readonly signal: AbortSignal;
  /**
   * Aborts as soon as the application begins to shut down. The handler may run on until `signal` aborts too, `shutdownTimeout` later; one
   * that can stop early returns what it has, or throws: then the window is redelivered, and no attempt is counted. Aborts when the
   * lease is lost, too, and when another process asks for the consumer: then the handler may run on for as long as it likes.
   */
  abstract readonly closing: AbortSignal;

  /**
   * Says that one message is bad, while the others are good: the result is for the others, which are committed. The message is
   * tried alone once more and then becomes a dead letter. Has no effect if the handler throws afterwards.
   *
   * @param message one of `messages`
   * @param reason an error or a text; stands in the dead letter
   * @throws MinibatchError `InvalidOptions` for a message of another window
   */
  abstract reject(message: Message<T>, reason: unknown): void;
}
