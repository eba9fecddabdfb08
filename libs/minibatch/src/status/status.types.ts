import type {
  BlockedExecutor,
  BlockedSink,
  ConsumerNote,
  ConsumerStatus,
  Heir,
  SetAside,
  Unsettled,
} from '../engine/engine.interface.js';
import type { SourceState } from '../sources/source-runner.js';

/** The state of all streams, as plain JSON; times are ISO strings. */
export interface StatusSnapshot {
  readonly at: string;
  readonly store: {
    readonly name: string;
    /** How this process notices messages that other processes append. */
    readonly wakeUps: 'watching' | 'polling';
    /** Why it polls although the store can notify it; retried, and set until that works. */
    readonly watchError?: ErrorReport;
    /** Set if the store did not answer: only what this process knows is shown then. */
    readonly error?: ErrorReport;
  };
  readonly health: HealthSummary;
  /** By name. */
  readonly streams: readonly StreamReport[];
}

export interface StreamReport {
  readonly name: string;
  /** Absent while the stream is not in the store, or the store did not answer. */
  readonly stored?: {
    readonly status: 'init' | 'open' | 'closed';
    readonly created: string;
    readonly closed?: string;
    readonly paused: boolean;
    /** How many it has; absent: one, and nobody has said how many. */
    readonly partitions?: number;
    /** Messages that at least one group has not committed. */
    readonly buffered: number;
    /** When the oldest of them was appended. */
    readonly oldest?: string;
    /** Messages that consumers gave up, and that nobody has put back or removed. */
    readonly deadLetters: number;
    /** Documents in the buffer that are no messages, with the id of one of them: something else wrote them, and they are passed over. */
    readonly foreign?: { readonly documents: number; readonly example: string };
    /** When a consumer of Python's minibatch last took messages from it, if one ever did. */
    readonly readElsewhere?: string;
  };
  readonly consumers: readonly ConsumerReport[];
  /** Sources of this process. */
  readonly sources: readonly SourceReport[];
}

export interface ConsumerReport {
  readonly group: string;
  readonly partition: number;
  /** What the store knows, for all processes together. */
  readonly stored?: {
    /** The process that works on it. */
    readonly holder?: { readonly host: string; readonly pid: number };
    /** The process that has asked for it, and gets it when the holder has finished what runs. */
    readonly heir?: { readonly host: string; readonly pid: number };
    /** Messages in the buffer that the group has not committed. */
    readonly pending: number;
    /** At least 100 messages wait in the partition, and more than twice its share of what waits for the group. */
    readonly hot?: true;
    readonly openWindows: number;
    /** Totals since the group was registered. */
    readonly windows: number;
    readonly messages: number;
  };
  /**
   * What the process that works on it has told of that, if it is another one. It tells so when it renews its lease, three times in each lease
   * time, and only when something has changed: `at` is when it did so last, by its own clock. Texts are cut, and lists end after the third.
   */
  readonly remote?: ConsumerNote & { readonly host: string; readonly pid: number };
  /** What this process does for it; absent if it does not run here. */
  readonly local?: Omit<
    ConsumerStatus,
    | 'key'
    | 'heldBackUntil'
    | 'setAside'
    | 'blockedSinks'
    | 'blockedExecutor'
    | 'unsettled'
    | 'lastError'
    | 'lastCommit'
    | 'heir'
  > & {
    readonly heldBackUntil?: string;
    readonly setAside?: Omit<SetAside, 'since'> & { readonly since: string };
    readonly blockedSinks?: readonly (Omit<BlockedSink, 'since'> & { readonly since: string })[];
    readonly blockedExecutor?: Omit<BlockedExecutor, 'since'> & { readonly since: string };
    readonly unsettled?: readonly (Omit<Unsettled, 'since'> & { readonly since: string })[];
    readonly lastError?: ErrorReport;
    readonly lastCommit?: string;
    /** The process that has asked for it, and since when this one knows. */
    readonly heir?: Omit<Heir, 'since'> & { readonly since: string };
  };
}

export interface SourceReport {
  readonly name: string;
  readonly state: SourceState;
  readonly appended: number;
  /** Messages that the stream had seen before, by their `dedupeId`. */
  readonly duplicates: number;
  readonly failures: number;
  readonly lastError?: ErrorReport;
}

export interface ErrorReport {
  readonly at: string;
  readonly code: string;
  readonly message: string;
}

/** `degraded`: something needs an operator, or resumes only when a failure ends. */
export interface HealthSummary {
  readonly status: 'ok' | 'degraded';
  readonly reasons: readonly HealthReason[];
}

export interface HealthReason {
  readonly what:
    | 'store-unavailable'
    | 'consumer-blocked'
    | 'consumer-stalled'
    | 'consumer-retrying'
    | 'consumer-unsettled'
    | 'consumer-unavailable'
    | 'group-unserved'
    | 'stream-unconsumed'
    | 'stream-read-elsewhere'
    | 'source-failing';
  readonly stream?: string;
  readonly group?: string;
  readonly message: string;
}
