import type { DrainedStream } from '../consumers/drain.js';
import type { RunningConsumer } from '../consumers/run-time-consumers.js';
import type { AttachedSource, AttachOptions } from '../sources/source-runner.js';
import type { Source } from '../sources/source.interface.js';
import type {
  AppendOptions,
  AppendOutcome,
  DeadLetter,
  DeadLetterFilter,
  StreamInfo,
  StreamStats,
  StreamUpdate,
} from '../storage/stream-store.interface.js';
import type { CallSite } from './call-site.js';
import type { MessageFilter, StreamMessage } from './message-reading.js';
import type { RemovalOptions } from './removal.js';
import type { ReplayOptions } from './replay.js';
import type { StreamWindow, WindowFilter } from './window-reading.js';

export interface AppendMessageOptions {
  /**
   * Kept with the message; consumers see it. In a stream with several partitions, messages with the same key are in the same one, so they
   * stay in order. @default none
   */
  readonly key?: string;
  /** Kept with the message; consumers see them. @default none */
  readonly headers?: Readonly<Record<string, string>>;
  /**
   * A second message of the stream with the same id is acknowledged and ignored: makes a retry safe. Not empty; of more than 512
   * characters its SHA-256 is kept. @default none
   */
  readonly dedupeId?: string;
  /**
   * The user's own transaction: a Mongoose `ClientSession`, in PostgreSQL anything with `query(text, values)`. The message becomes visible
   * when it commits. Such an append is written separately, outside the grouping. A failure that goes away when the transaction is repeated is thrown as the
   * driver's own error, with its label `TransientTransactionError`; `withTransaction` retries on its own. @default none
   */
  readonly session?: unknown;
}

export interface AppendManyOptions<T = unknown> {
  /** Key, headers and dedupe id of each message. @default none */
  readonly each?: (data: T, index: number) => Omit<AppendMessageOptions, 'session'>;
  /** Your transaction, as in `append`. @default none */
  readonly session?: unknown;
}

/** A message on its way to the store. */
export interface OutgoingMessage {
  readonly data: unknown;
  readonly options?: Omit<AppendMessageOptions, 'session'> | undefined;
}

export type WriteOptions = Pick<AppendOptions, 'session'>;

/** An open window of a consumer. */
export interface OpenWindowChoice {
  /** The group that has the window. @default 'default' */
  readonly group?: string;
  /** `window.id`, as in log lines and the status; of a part, that of the whole: `window.split.of`. */
  readonly window: string;
}

/** An open window that a sink keeps. */
export interface SkipChoice extends OpenWindowChoice {
  /** Name of the sink, as in log lines. @default every sink that fails to take the result */
  readonly sink?: string;
}

/** Does the work of all handles of a process. */
export interface StreamOperations {
  /** When and where the handle was called. */
  readonly callSite: () => CallSite;
  /** @param since when the call was made; monotonic */
  write(
    stream: string,
    messages: readonly OutgoingMessage[],
    options: WriteOptions,
    since: number,
  ): Promise<readonly AppendOutcome[]>;
  attach(stream: string, source: Source, options: AttachOptions): AttachedSource;
  update(stream: string, change: StreamChange): Promise<void>;
  grow(stream: string, partitions: number): Promise<void>;
  stats(stream: string): Promise<StreamStats>;
  describe(stream: string): Promise<StreamInfo | undefined>;
  messages(stream: string, filter: MessageFilter): AsyncGenerator<StreamMessage, void, undefined>;
  windows(stream: string, filter: WindowFilter): AsyncGenerator<StreamWindow, void, undefined>;
  replay(stream: string, options: ReplayOptions): Promise<number>;
  deadLetters(stream: string, filter: DeadLetterFilter): AsyncGenerator<DeadLetter, void, undefined>;
  redrive(stream: string, filter: DeadLetterFilter): Promise<number>;
  discard(stream: string, filter: DeadLetterFilter): Promise<number>;
  giveUp(stream: string, window: OpenWindowChoice): Promise<void>;
  skip(stream: string, window: SkipChoice): Promise<void>;
  drop(stream: string, options: RemovalOptions): Promise<void>;
  removeGroup(stream: string, group: string, options: RemovalOptions): Promise<void>;
  consume(stream: string, options: unknown, handler: unknown): Promise<RunningConsumer>;
  drain(stream: string, options: unknown, handler: unknown): Promise<DrainedStream>;
}

export type StreamChange = StreamUpdate;
