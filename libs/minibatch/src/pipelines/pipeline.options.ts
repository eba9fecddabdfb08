import type { AttemptRetryOptions, Duration } from '../definitions/shared.options.js';
import type { FieldOrFunction } from '../flow/field-or-function.js';

/** How many messages a pipeline handles at once, and how long it waits for them. */
export interface BatchOptions {
  /** Most messages that are handled and committed together. @default 1,000 */
  readonly size?: number;
  /** Longest wait of a message for others: milliseconds, at least 10, or a string like `'250ms'`. @default '250ms' */
  readonly interval?: Duration;
}

/** Options of `into`, and of `to` in addition to `key`. All outlets of one source stream are one consumer: they have to say the same, or nothing. */
export interface OutletOptions {
  /** What is handled and committed together. @default up to 1,000 messages, or those of 250 ms */
  readonly batch?: BatchOptions;
  /** Most messages of a batch that are in asynchronous functions at the same time. Results stay in the order of the messages. @default 1 */
  readonly concurrency?: number;
}

/** Options of `to`. */
export interface StreamOutletOptions<T = never> extends OutletOptions {
  /**
   * Key of the new messages: a field of the data, or a function of data and message. Messages with the same key go to the same partition of the stream.
   * @default the key of the source's message
   */
  readonly key?: FieldOrFunction<T, string | undefined>;
}

/** Options of `@Pipeline`. */
export interface PipelineOptions {
  /** Takes over the progress and the dead letters of this group on each source stream, which is then gone. @default none */
  readonly replaces?: string;
  /**
   * How often a message is tried whose asynchronous function fails, and the waits between the tries. A sink that fails is tried with the same
   * waits, without end. `timeout` holds for a run with a whole batch. @default those of the module
   */
  readonly retry?: Omit<AttemptRetryOptions, 'sinkTimeout'>;
  /**
   * What happens if an asynchronous function fails with every message of a batch that comes to it: the messages may be bad, or what the function
   * calls may be down. `'block'` gives nothing up and tries again without end; `'deadLetter'` gives the messages up when their attempts are used
   * up. @default 'block'
   */
  readonly onAllFailed?: 'block' | 'deadLetter';
}
