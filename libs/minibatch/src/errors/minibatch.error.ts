import { clean, cut, isA, messageOf, MOST_MESSAGE_BYTES } from './error-text.js';
import { redactCause, redactDetails } from './redact.js';

export { messageOf } from './error-text.js';

/**
 * Every code the package raises, with the situation it stands for. A code is part of the public API: it never changes
 * its meaning, so programs may switch on it.
 */
export const ErrorCode = {
  /** An option is missing, contradictory or outside its range. */
  InvalidOptions: 'MINIBATCH_INVALID_OPTIONS',
  /** Two consumers of one stream use the same group, or two pipelines have one name. */
  DuplicateGroup: 'MINIBATCH_DUPLICATE_GROUP',
  /** `MinibatchModule.forRoot()` was imported twice in one application. */
  DuplicateModule: 'MINIBATCH_DUPLICATE_MODULE',
  /** Something of the package was asked for, and `MinibatchModule.forRoot()` is not imported. */
  MissingModule: 'MINIBATCH_MISSING_MODULE',
  /** A consumer, source, sink or emitter has constructor parameters that Nest can't inject, for nothing tells it what they are. */
  NotInjectable: 'MINIBATCH_NOT_INJECTABLE',
  /** A `@Streaming` or `@StreamSource` host is request-scoped or transient. */
  ScopedHost: 'MINIBATCH_SCOPED_HOST',
  /** A token given as sink, source or emitter can't be resolved, or what it resolves to lacks the port's method. */
  UnresolvedProvider: 'MINIBATCH_UNRESOLVED_PROVIDER',
  /** The default store found no Mongoose connection under the given name. */
  NoConnection: 'MINIBATCH_NO_CONNECTION',
  /** A Mongoose model or collection of ours has been taken by the application. */
  ModelConflict: 'MINIBATCH_MODEL_CONFLICT',
  /**
   * What was given to `append` can't be stored: a function, a symbol, a cycle, a bigint of more than 64 bits in the data; a key, a header or
   * a dedupe id that is not a string. `details.path` says where.
   */
  NotStorable: 'MINIBATCH_NOT_STORABLE',
  /** One message is larger than the store accepts. */
  MessageTooLarge: 'MINIBATCH_MESSAGE_TOO_LARGE',
  /** `append` failed; the error's `stored` says whether the message may be in the store. */
  AppendFailed: 'MINIBATCH_APPEND_FAILED',
  /** The messages are stored, but the position of their source is not: after a restart the source reads them again. */
  CheckpointFailed: 'MINIBATCH_CHECKPOINT_FAILED',
  /** The stream does not exist. */
  UnknownStream: 'MINIBATCH_UNKNOWN_STREAM',
  /** The stream was closed and takes no more messages. */
  StreamClosed: 'MINIBATCH_STREAM_CLOSED',
  /** A stream can't have that many partitions: only a multiple of those it has. */
  InvalidPartitions: 'MINIBATCH_INVALID_PARTITIONS',
  /** No consumer group of that name is registered on the stream. */
  UnknownGroup: 'MINIBATCH_UNKNOWN_GROUP',
  /** A live process consumes the group, so neither it nor its stream is removed without `force`. */
  GroupInUse: 'MINIBATCH_GROUP_IN_USE',
  /** The group has no open window with that id: it was committed, or never existed. */
  UnknownWindow: 'MINIBATCH_UNKNOWN_WINDOW',
  /** `stream.skip`: no sink, or not the named one, has failed to take the window's result. */
  WindowNotBlocked: 'MINIBATCH_WINDOW_NOT_BLOCKED',
  /** The store can't be reached, or answered with an error. */
  StoreUnavailable: 'MINIBATCH_STORE_UNAVAILABLE',
  /** The store's server does not know the user, or the user lacks a right. */
  StoreDenied: 'MINIBATCH_STORE_DENIED',
  /**
   * The store's server refuses, and would again: the database is not there, its tables are not the store's, or it can't hold a value. The
   * message says what to change.
   */
  StoreRefused: 'MINIBATCH_STORE_REFUSED',
  /** The store's path can't be opened or written. */
  StorePath: 'MINIBATCH_STORE_PATH',
  /** The data on disk differ from what was written: a file was truncated, or a record is corrupt. */
  StoreDamaged: 'MINIBATCH_STORE_DAMAGED',
  /** The files of a store that is open were removed, renamed or replaced; nothing is read, written or acknowledged any longer. */
  StoreLost: 'MINIBATCH_STORE_LOST',
  /** Another process uses the store and can't share it with this one. */
  StoreInUse: 'MINIBATCH_STORE_IN_USE',
  /** An adapter's client package is not installed; the message says how to install it. */
  MissingPackage: 'MINIBATCH_MISSING_PACKAGE',
  /** Mongoose and this package have loaded different major versions of the bson package; the message says how to unify them. */
  BsonVersion: 'MINIBATCH_BSON_VERSION',
  /** The store lacks a feature that was asked for (e.g. `session` in LMDB, or pipelines). */
  StoreUnsupported: 'MINIBATCH_STORE_UNSUPPORTED',
  /** The database was written by a newer version of this package. */
  SchemaTooNew: 'MINIBATCH_SCHEMA_TOO_NEW',
  /** The database lacks the tables of the store, or has older ones, and the store may not make them (`migrate: false`). */
  SchemaMissing: 'MINIBATCH_SCHEMA_MISSING',
  /** This process no longer holds the consumer's lease (another one took over); its work for the consumer is discarded. */
  LeaseLost: 'MINIBATCH_LEASE_LOST',
  /** The event loop was blocked so long, while windows were in flight, that the lease could not be renewed in time. */
  EventLoopBlocked: 'MINIBATCH_EVENT_LOOP_BLOCKED',
  /**
   * The stream holds as many messages as it may (`maxBuffered`), or the process has as many appends in flight (`maxPendingAppends`,
   * `maxPendingAppendBytes`); nothing was stored. Append later, or consume faster.
   */
  StreamFull: 'MINIBATCH_STREAM_FULL',
  /** A custom strategy broke its contract (it threw, or selected messages that it was not shown). */
  EmitterFailed: 'MINIBATCH_EMITTER_FAILED',
  /** A `@Streaming` method threw or its promise was rejected; or an asynchronous function of a pipeline failed with some messages. */
  HandlerFailed: 'MINIBATCH_HANDLER_FAILED',
  /** A `@Streaming` method did not settle within its `retry.timeout`; counts as a failed attempt. */
  HandlerTimeout: 'MINIBATCH_HANDLER_TIMEOUT',
  /** A `@Streaming` method rejected messages of its window; they are tried alone and become dead letters. */
  MessagesRejected: 'MINIBATCH_MESSAGES_REJECTED',
  /** Every message of a window failed alone, or an asynchronous function of a pipeline with all that came to it: none is given up, and the consumer waits for the evidence of other windows or later attempts. */
  AllFailed: 'MINIBATCH_ALL_FAILED',
  /** `by` of a pipeline gave no key for a message. */
  NoKey: 'MINIBATCH_NO_KEY',
  /** `timed`, or `time` of windows, gave no time for a message. */
  BadTime: 'MINIBATCH_BAD_TIME',
  /** A message came too late for its windows. */
  Late: 'MINIBATCH_LATE',
  /** A message made what is stored of a window larger than it may be, or such that it can't be stored. */
  StateTooLarge: 'MINIBATCH_STATE_TOO_LARGE',
  /** Windows of a pipeline are open that an earlier version of it began with other options. */
  StageChanged: 'MINIBATCH_STAGE_CHANGED',
  /** The stored bytes of a message can't be decoded in JavaScript: it becomes a dead letter without having been handled. */
  Undecodable: 'MINIBATCH_UNDECODABLE',
  /** A sink's `put` threw or its promise was rejected. */
  SinkFailed: 'MINIBATCH_SINK_FAILED',
  /** A sink's `put` did not settle within `retry.sinkTimeout`; it is retried. */
  SinkTimeout: 'MINIBATCH_SINK_TIMEOUT',
  /** A sink can never take the result: it is too large, can't be encoded, or breaks a rule of the target. Retrying does not help. */
  ResultRefused: 'MINIBATCH_RESULT_REFUSED',
  /** A source ended with an error. */
  SourceFailed: 'MINIBATCH_SOURCE_FAILED',
  /** The omega|ml dataset does not exist. */
  UnknownDataset: 'MINIBATCH_UNKNOWN_DATASET',
  /** The omega|ml dataset is of a kind that is not read or written this way, or the rows do not fit it. */
  WrongDataset: 'MINIBATCH_WRONG_DATASET',
  /** An executor can't run windows now: its broker can't be reached, or no worker serves the consumer. The windows wait. */
  ExecutorUnavailable: 'MINIBATCH_EXECUTOR_UNAVAILABLE',
  /** An executor failed in a way that says nothing of the handler. The windows wait. */
  ExecutorFailed: 'MINIBATCH_EXECUTOR_FAILED',
  /** A worker died while it ran a handler: its thread ended, or its process stopped answering. */
  WorkerLost: 'MINIBATCH_WORKER_LOST',
  /** A worker had a window, and nobody knows what became of it. The window runs again. */
  ResultLost: 'MINIBATCH_RESULT_LOST',
  /** Emitter and worker speak different versions of the protocol between them. */
  ProtocolMismatch: 'MINIBATCH_PROTOCOL_MISMATCH',
  /** A handler in a worker returned what can't be sent back: more than `maxResultBytes`, or a value that can't be encoded. */
  ResultUnsendable: 'MINIBATCH_RESULT_UNSENDABLE',
  /** The Redis of an executor may drop keys when its memory is full (`maxmemory-policy`). */
  RedisMayEvict: 'MINIBATCH_REDIS_MAY_EVICT',
  /** `stream.drain` made no more progress; `details` says what it did before. The remaining messages wait for the group. */
  DrainBlocked: 'MINIBATCH_DRAIN_BLOCKED',
  /** The operation came after shutdown had begun. */
  ShuttingDown: 'MINIBATCH_SHUTTING_DOWN',
} as const;

export type ErrorCode = (typeof ErrorCode)[keyof typeof ErrorCode];

/** UTF-8 bytes of a message: errors of others are quoted in it. */
const MOST_BYTES = 8_000;

/** Messages of our errors without the code at their end. Not a property: it would be printed with each error. */
const bareTexts = new WeakMap<object, string>();

export interface MinibatchErrorOptions {
  /** The error underneath. @default none */
  cause?: unknown;
  /** Facts a program may want to read: stream, consumer, option, given, allowed, … @default none */
  details?: Readonly<Record<string, unknown>>;
}

/**
 * The one error class of the package. The message says what went wrong, where, and what to do; `code` is stable. Credentials are taken
 * out of the message, the details and the cause.
 *
 * @example
 * ```ts
 * try {
 *   await streams.append('flights', data);
 * } catch (error) {
 *   if (!(error instanceof MinibatchError && error.code === ErrorCode.MessageTooLarge)) throw error;
 * }
 * ```
 */
export class MinibatchError extends Error {
  override readonly name: string = 'MinibatchError';
  readonly code: ErrorCode;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, message: string, options: MinibatchErrorOptions = {}) {
    const text = clean(message, MOST_BYTES);
    super(`${text} [${code}]`, options.cause === undefined ? undefined : { cause: redactCause(options.cause) });
    bareTexts.set(this, text);
    this.code = code;
    this.details = redactDetails(options.details);
  }
}

/**
 * `append` failed. `stored` says what is known of the message: `'no'` — it is not in the store, append it again;
 * `'unknown'` — the store may have written it before the answer was lost: append again with the same `dedupeId`, or
 * accept that it may be there twice.
 */
export class AppendError extends MinibatchError {
  override readonly name: string = 'AppendError';
  readonly stored: 'no' | 'unknown';

  constructor(code: ErrorCode, message: string, stored: 'no' | 'unknown', options: MinibatchErrorOptions = {}) {
    super(code, message, options);
    this.stored = stored;
  }
}

/** `append` refused the message for what is in it: to append it again is of no use. */
export function isUnstorable(error: unknown): error is MinibatchError {
  if (!isA(error, MinibatchError)) return false;
  return error.code === ErrorCode.NotStorable || error.code === ErrorCode.MessageTooLarge;
}

/** A message that a handler refuses, and why. */
export interface RejectedMessage {
  /** The message, as it is in `window.messages`. */
  readonly message: { readonly id: string };
  /** An error, or a text. */
  readonly reason: unknown;
}

/**
 * Thrown by a `@Streaming` method: these messages of the window are bad, the others are good. The others are committed, without a
 * result; these are tried alone once more and then become dead letters. To reject messages and still return a result for
 * the others, call `window.reject`.
 *
 * @example
 * ```ts
 * throw new RejectMessages(window.messages.filter((m) => !valid(m.data)).map((message) => ({ message, reason: 'invalid' })));
 * ```
 */
export class RejectMessages extends MinibatchError {
  override readonly name: string = 'RejectMessages';

  constructor(readonly rejected: readonly RejectedMessage[]) {
    const reasons = [...new Set(rejected.map(({ reason }) => messageOf(reason)))].slice(0, 3).join('; ');
    super(
      ErrorCode.MessagesRejected,
      `rejected ${rejected.length} message${rejected.length === 1 ? '' : 's'} of the window: ${reasons}`,
    );
  }
}

/**
 * Thrown by a sink that can never take a result: the result itself is at fault, and the same `put` would fail again. Throw it for what
 * can't be encoded, is too large, or breaks a rule of the target; never for an outage, a timeout or missing rights. The consumer's
 * `onRefused` says what follows.
 *
 * @example
 * ```ts
 * if (response.status === 422) throw new ResultRefused(`the ledger refused the result: ${await response.text()}`);
 * ```
 */
export class ResultRefused extends MinibatchError {
  override readonly name: string = 'ResultRefused';

  constructor(message: string, options: MinibatchErrorOptions = {}) {
    super(ErrorCode.ResultRefused, message, options);
  }
}

/** As `messageOf`, without the code of an error of ours: to be quoted in another error, which has a code of its own. */
export function bareMessageOf(error: unknown): string {
  const text = typeof error === 'object' && error !== null ? bareTexts.get(error) : undefined;
  return text === undefined ? messageOf(error) : cut(text, MOST_MESSAGE_BYTES);
}

/** The code of anything that was thrown: that of our own errors, otherwise the given one. */
export function codeOf(error: unknown, otherwise: ErrorCode): ErrorCode {
  return isA(error, MinibatchError) ? error.code : otherwise;
}
