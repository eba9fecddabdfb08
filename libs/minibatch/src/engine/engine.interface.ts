import type { BoundExecutor, WindowHandler } from '../executors/executor.interface.js';
import type { BackoffOptions } from '../common/backoff.js';
import type { ConsumerKey, GroupKey } from '../storage/stream-store.interface.js';
import type { EmitterContext, WindowEmitter } from '../windows/window-emitter.js';
import type { NamedSink, Stage } from './stage.interface.js';

export type * from './stage.interface.js';

/** A consumer, resolved and validated: all the engine needs to run it. Durations in milliseconds. */
export interface ConsumerDefinition {
  readonly key: ConsumerKey;
  /** `Class.method`, for log lines, errors and the status. */
  readonly label: string;
  /** The strategy; this consumer's own instance. */
  readonly emitter: WindowEmitter;
  /** Makes another instance of it for each further partition of the stream. Absent: the consumer works for its own partition alone. */
  readonly another?: () => Promise<WindowEmitter>;
  readonly emitterContext: Omit<EmitterContext, 'stream' | 'group' | 'now' | 'lastEnd'>;
  /** How windows are made, for the boot log. @default by the strategy */
  readonly windows?: string;
  /** True if the strategy reads in order of time: the store may keep an index. */
  readonly timeOrder: boolean;
  readonly handler: WindowHandler;
  /**
   * Instead of `handler`, for a consumer with a state. It has no executor, no sinks, and one worker; unless it fires windows of its rows, which
   * are handled like others.
   */
  readonly stage?: Stage;
  /** Absent: the handler runs in this process. */
  readonly executor?: BoundExecutor;
  readonly sinks: readonly NamedSink[];
  /** Windows in flight at the same time. 1: strictly one after another. */
  readonly workers: number;
  /** Keep messages and windows after the commit, marked processed. */
  readonly keep: boolean;
  /** Attempts of a failed window and the waits between them. A failed sink is retried with the same waits. */
  readonly retry: AttemptOptions;
  /** How often the handler may begin. */
  readonly rateLimit?: RateLimit;
  /** When every message of a window fails alone: let other windows decide, wait and try again, or give them all up. */
  readonly onAllFailed: OnAllFailed;
  /** When a sink can never take a result: wait and try again, or give up the messages that it was made of. */
  readonly onRefused: OnRefused;
  /** Most messages of a window; longer selections are emitted in parts. */
  readonly maxSize: number;
  /** Most bytes of a window (at least one message). */
  readonly maxBytes: number;
  /** Most unclaimed messages that a custom strategy is shown. */
  readonly lookAhead: number;
  /** Hands the progress of this group over to the consumer's one. */
  readonly replaces?: string;
  /**
   * Given by a drain: what is in the stream is emitted, ready or not, and this is called once nothing is left in a partition. It may be
   * called more than once.
   */
  readonly drained?: (partition: number) => void;
  /**
   * Given for a consumer that is to be there only as long as its stream is: called when the stream turns out to be gone, perhaps more than
   * once. Without it, the consumer makes the stream again.
   */
  readonly dropped?: () => void;
}

export interface AttemptOptions extends BackoffOptions {
  /** Runs of the handler with the whole window before it is taken apart. */
  readonly attempts: number;
  /** A run of the handler that takes longer counts as failed; milliseconds. Absent: no limit. */
  readonly timeout?: number;
  /** A try of a sink that takes longer counts as failed; milliseconds. Absent: no limit. */
  readonly sinkTimeout?: number;
  /** Whether what follows waits for a run that has timed out and has not ended. @default 'wait' */
  readonly onTimeout?: OnTimeout;
}

export type OnTimeout = 'wait' | 'abandon';

export type OnAllFailed = 'evidence' | 'block' | 'deadLetter';

export type OnRefused = 'block' | 'deadLetter';

/** At most `most` windows, or messages, in any period of `per` milliseconds. */
export interface RateLimit {
  readonly unit: 'windows' | 'messages';
  readonly most: number;
  readonly per: number;
}

/** How long the content of a stream is kept; milliseconds. Absent: indefinitely. */
export interface Retention {
  /** Messages that are not claimed, since they were created. */
  readonly buffered?: number;
  /** Messages and windows that are kept, since they were committed. */
  readonly kept?: number;
  /** Since they died. */
  readonly deadLetters?: number;
}

export interface EngineOptions {
  /** A holder that has not renewed its lease for this long is replaced by another process. @default 15 s */
  readonly leaseTime: number;
  /** A hand-over of a lease that takes longer is logged, and the heir soon asks for another lease instead. @default 10 s */
  readonly handover: number;
  /** Leases that this process takes while others may take them. @default as many as there are */
  readonly maxLeases?: number;
  /** Messages read beyond those in open windows. @default 1200 */
  readonly readAhead: number;
  /** The same in bytes. @default 16 MiB */
  readonly readAheadBytes: number;
  /** How long a `dedupeId` is remembered after its message was committed. @default 1 day */
  readonly dedupeTime: number;
}

/**
 * What a consumer is doing in this process.
 *
 * ```text
 * stopped ─▶ standby ─▶ recovering ─▶ running ─▶ stopping ─▶ stopped
 *               ▲            │           │
 *               └────────────┴───────────┘  lease lost
 * ```
 *
 * `standby`: another process holds the lease, or the store can't be reached. The finer states of `running` are derived:
 * see `ConsumerActivity`.
 */
export const ConsumerState = {
  Stopped: 'stopped',
  Standby: 'standby',
  Recovering: 'recovering',
  Running: 'running',
  Stopping: 'stopping',
} as const;
export type ConsumerState = (typeof ConsumerState)[keyof typeof ConsumerState];

/** What a running consumer waits for; of a consumer in `standby` only `unavailable` is shown. */
export type ConsumerActivity =
  /** Nothing to do, or a window that is not ready yet. */
  | 'waiting'
  /** Windows are being handled. */
  | 'handling'
  /** A window waits for its next attempt. */
  | 'retrying'
  /** The `rateLimit` does not admit a window now. */
  | 'throttled'
  /** A sink does not take a result, an executor can't run windows, or every message of one window after another fails; it is retried indefinitely. */
  | 'blocked'
  /** A custom strategy can't take anything of what it is shown, and no more fits in; or it threw, and is asked again later. */
  | 'stalled'
  /** The stream was paused. */
  | 'paused'
  /** The store does not answer, or denies what the consumer needs; in `standby`: for its group, or for the lease. */
  | 'unavailable';

export interface SetAside {
  readonly windows: number;
  readonly messages: number;
  /** When the first of them was set aside. */
  readonly since: Date;
  /** Public id of the first of them, and what it failed with last. */
  readonly window: string;
  readonly error: string;
}

/** A run of the handler, or a try of a sink, that has not settled for a minute, or has timed out. */
export interface Unsettled {
  readonly window: string;
  /** The sink's name; absent if it is the handler. */
  readonly sink?: string;
  readonly since: Date;
  /** It has outlived `retry.timeout` or `retry.sinkTimeout`, and still runs. */
  readonly timedOut?: boolean;
}

/** A sink that does not take the result of a window. It is retried until it does, or until `stream.skip` or `stream.giveUp`. */
export interface BlockedSink {
  /** Id of the window, for `skip` and `giveUp`. */
  readonly window: string;
  readonly sink: string;
  /** When its first try failed in this process. */
  readonly since: Date;
  /** Tries that failed. */
  readonly attempts: number;
  /** It says that it can never take this result. */
  readonly refused?: true;
  /** What the last try failed with. */
  readonly error: string;
}

/** An executor that can't run windows now. They are retried until it does; nothing of it counts against them. */
export interface BlockedExecutor {
  readonly executor: string;
  /** Id of the window that has waited longest. */
  readonly window: string;
  /** Windows that wait. */
  readonly windows: number;
  /** When its first try failed in this process. */
  readonly since: Date;
  /** Tries that failed. */
  readonly attempts: number;
  /** What the last try failed with. */
  readonly code: string;
  readonly error: string;
}

/** A consumer of this process, as the status shows it. Counters since the start of the process. */
export interface ConsumerStatus {
  readonly key: ConsumerKey;
  /** `Class.method`. */
  readonly label: string;
  readonly state: ConsumerState;
  readonly activity?: ConsumerActivity;
  /** Messages read and not yet in a window. */
  readonly buffered: number;
  /** Windows claimed and not yet committed. */
  readonly inFlight: number;
  readonly committedWindows: number;
  readonly committedMessages: number;
  /** Runs of the handler that failed. */
  readonly failures: number;
  /** Runs of the handler whose worker was lost. */
  readonly lostWorkers: number;
  /** Tries of a sink that failed. */
  readonly sinkFailures: number;
  /** Results that a sink never got, because an operator skipped it (`stream.skip`). */
  readonly skippedSinks: number;
  /** Messages that a custom strategy dropped, and late ones that windows of a pipeline drop. */
  readonly dropped: number;
  /** Messages that were discarded unhandled, because of `maxAge` or because the stream was cleared. */
  readonly expired: number;
  /** Messages that became dead letters. */
  readonly deadLettered: number;
  /** Messages that vanished from the buffer while in an open window. */
  readonly vanished: number;
  /** Messages that the store could not decode and that were skipped. */
  readonly damaged: number;
  /** Windows taken over from an earlier process. */
  readonly recovered: number;
  /** Windows that wait until others show whether the fault is in their messages. */
  readonly setAside?: SetAside;
  /** Sinks that do not take a result, with the windows that wait for them; ten at the most. */
  readonly blockedSinks?: readonly BlockedSink[];
  /** An executor that can't run windows now, and how many wait for it. */
  readonly blockedExecutor?: BlockedExecutor;
  /** Handlers and sinks that have not settled for a minute, or have timed out; ten at the most. */
  readonly unsettled?: readonly Unsettled[];
  readonly lastError?: { readonly at: Date; readonly code: string; readonly message: string };
  /** When the last window was committed. */
  readonly lastCommit?: Date;
  /** The partition whose earlier messages have to be handled first: the stream has grown. */
  readonly heldBackBy?: number;
  /** It is held back until then at least; afterwards for as long as that partition has such messages. */
  readonly heldBackUntil?: Date;
  /** The process that gets the consumer when what runs here is finished. */
  readonly heir?: Heir;
}

/**
 * What the holder of a consumer's lease tells other processes, which can't see its work: its status. It rides on the renewals of the lease,
 * so others learn of it within a third of the lease time, and it takes no further command.
 */
export type ConsumerNote = Dated<Told> & {
  /** When the holder said so, by its clock. */
  readonly at: string;
};

type Told = Omit<ConsumerStatus, 'key' | 'heir'>;
/** As JSON has it. */
type Dated<V> = V extends Date
  ? string
  : V extends readonly (infer E)[]
    ? readonly Dated<E>[]
    : V extends object
      ? { readonly [K in keyof V]: Dated<V[K]> }
      : V;

/** A note as it is stored, and what tells whether it is one of the present lease. */
export interface StoredNote {
  readonly v: number;
  readonly fence: number;
  readonly at: string;
  readonly status: Dated<Told>;
}

/** Of `StoredNote`. */
export const NOTE_VERSION = 1;
/** A process that has asked for a consumer. */
export interface Heir {
  readonly host: string;
  readonly pid: number;
  /** Since when this process knows. */
  readonly since: Date;
}

export interface DrainResult {
  /** Windows that were in flight and were committed. */
  readonly drained: number;
  /** Windows that were in flight and were not finished in time; they are redelivered. */
  readonly abandoned: number;
}

/** The engine: runs consumers on a store until it is stopped. Knows nothing of Nest. */
/** How this process notices messages that others have appended. */
export interface WakeUpStatus {
  /** `watching`: the store notifies this process as they arrive. `polling`: the store is asked at intervals. */
  readonly by: 'watching' | 'polling';
  /** Why the store does not notify this process, though it could. */
  readonly lastError?: { readonly at: Date; readonly code: string; readonly message: string };
}

export interface Engine {
  /** Before or after `start`. The consumer runs once its group is registered. */
  add(definition: ConsumerDefinition): void;
  /**
   * Adds a consumer and runs it now, also before `start`. Resolves when its group is registered; if the store is not available it keeps
   * trying in the background and resolves anyway. Rejects if the group can't be registered, and forgets the consumer.
   */
  run(definition: ConsumerDefinition): Promise<void>;
  /** Ends one consumer in all its partitions, as `stop` ends them all. Its group stays registered. */
  remove(key: GroupKey, timeout: number): Promise<DrainResult>;
  /**
   * Registers the groups and begins to compete for the leases. Resolves when every group is registered; if the store is
   * not available it keeps trying in the background and resolves anyway.
   */
  start(): Promise<void>;
  /**
   * No new windows; running handlers may finish for `timeout` milliseconds, then their signals abort; what is finished is
   * committed; leases are given back.
   * @param hurry when it aborts, the time is up at once
   */
  stop(timeout: number, hurry?: AbortSignal): Promise<DrainResult>;
  /** Before or after `start`, also for streams that nobody consumes here. */
  retain(stream: string, retention: Retention): void;
  /** How many partitions the stream is declared to have. Before or after `start`; what is stored wins over it. */
  declare(stream: string, partitions: number): void;
  /** Messages have come on the stream, or on one partition of it. */
  wake(stream: string, partition?: number): void;
  /** The stream was paused, resumed or is to be flushed: check now, not at the next round. */
  refresh(stream: string): Promise<void>;
  status(): readonly ConsumerStatus[];
  wakeUps(): WakeUpStatus;
  /** Resolves when nothing is in flight that does not wait for the clock or for new messages; for tests. */
  settled(): Promise<void>;
}
