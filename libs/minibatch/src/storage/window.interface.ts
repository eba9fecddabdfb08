import type { ConsumerKey } from './consumer-key.interface.js';
import type { Lease } from './lease.interface.js';
import type { MessageId, RefusedMessages, StoredMessage } from './message.interface.js';
import type { Effects } from './state.interface.js';

/** What a window says of itself in addition to its messages; stored with the claim and given to the handler. */
export interface WindowBounds {
  readonly start?: Date;
  readonly end?: Date;
  /** Number of the part when the messages of one interval did not fit into one window. */
  readonly part?: number;
  /** True for messages that arrived after their interval had been emitted. */
  readonly late?: boolean;
}

/** Messages of a window, by their places in `messageIds`: `from` ≤ index < `to`. */
export interface IndexRange {
  readonly from: number;
  readonly to: number;
}

/**
 * A window whose attempts are used up is bisected: its messages are tried in ever smaller parts, so that the bad ones are found
 * and the good ones get through. Where that stands is state of the window itself. Messages in none of the lists are done: they
 * went through, or are dead letters. The lists do not overlap; a store may pack them (`storage/split-codec.ts`).
 */
export interface SplitState {
  /** Still to be tried, in order. */
  readonly pending: readonly IndexRange[];
  /** Rejected by the handler itself: each is tried alone, once. */
  readonly alone: readonly IndexRange[];
  /** Failed alone: to be tried once more after something else has succeeded. */
  readonly again: readonly IndexRange[];
  /** The pending parts are tried for the last time. */
  readonly last: boolean;
}

/** Runs of a handler that count against its rate limit. */
export interface RateStart {
  /** When they began; of several the last. */
  readonly at: Date;
  /** Windows or messages, by the unit of the limit. */
  readonly cost: number;
}

/**
 * A claim: the window and the ids of its messages. Open from `claim` until `settle` removes it (or keeps it, marked
 * processed).
 */
export interface WindowRecord extends WindowBounds {
  /** Grows by one with every window of a consumer, never reused while a window with it is open. */
  readonly seq: number;
  /** Public id: stream, group and a digest of the message ids (of the bounds for an empty window). */
  readonly id: string;
  readonly messageIds: readonly MessageId[];
  readonly created: Date;
  /** True: a custom strategy dropped these messages; the window is committed without its handler. */
  readonly dropped?: boolean;
  /** Runs of the handler so far that ended in failure, plus one: 1 for a fresh window. */
  readonly attempt: number;
  /** Processes that died while the handler may have been running. */
  readonly recoveries: number;
  /** No attempt before this time. */
  readonly nextTry?: Date;
  /** What the last attempt failed with. */
  readonly error?: string;
  /** Present while the window is being taken apart. */
  readonly split?: SplitState;
  /** Since when the window is set aside: all of it failed, and the next ones are to show whether the fault is in its messages. */
  readonly aside?: Date;
  /** The handler is through, and these sinks have failed to take its result so far. */
  readonly blockedSinks?: readonly string[];
  /** What counted against the consumer's rate limit when the handler was about to begin, this run included. */
  readonly starts?: readonly RateStart[];
  /** The key whose window this is. */
  readonly key?: string;
  /** The rows of the consumer's state that it is made of, by slot: nothing else changes them while it is open. */
  readonly slots?: readonly string[];
}

/** A window as a reader without a lease sees it. */
export interface ReadWindow extends WindowRecord {
  /** True: its commit point is recorded, and its messages are about to leave the buffer. Only of a claimed window. */
  readonly finished?: true;
  /** When it was committed. Only of a kept window. */
  readonly settled?: Date;
}

/** One read of the windows of a consumer. */
export interface WindowPage {
  readonly windows: readonly ReadWindow[];
  /** Where the next read begins; absent on the last page. A page that has it may be empty. */
  readonly next?: string;
}

/** Where a consumer stands; written by every commit point and read back by `recover`. */
export interface ConsumerProgress {
  /** Highest `seq` that was committed. */
  readonly lastSeq: number;
  /** End of the last interval a fixed window was emitted for. */
  readonly lastEnd?: Date;
  /** Totals since the consumer was registered. */
  readonly windows: number;
  readonly messages: number;
  /** As of this commit; only of a consumer with a rate limit. */
  readonly starts?: readonly RateStart[];
}

/** The progress of a consumer that has not committed anything. */
export const NO_PROGRESS: ConsumerProgress = { lastSeq: 0, windows: 0, messages: 0 };

/** The commit point: these windows are finished, and this is where the consumer stands afterwards. */
export interface Commit {
  /** `seq`s of the finished windows, and of those of earlier commits that are not settled yet; they replace those of the commit before. */
  readonly finished: readonly number[];
  readonly progress: ConsumerProgress;
  /** By `seq`, of windows that are finished by this commit: see `StateStore`. Those of one commit are applied in the order of `seq`. */
  readonly effects?: ReadonlyMap<number, Effects>;
}

/** A finished window whose messages are to leave the buffer. */
export interface SettledWindow {
  readonly window: WindowRecord;
  /** Its messages as they were fetched; those that are gone already are left out. */
  readonly messages: readonly StoredMessage[];
}

export interface SettleOptions {
  /** The groups of the stream as the commit point returned them. */
  readonly groups: readonly string[];
  /** Keep messages and windows, marked processed. */
  readonly keep: boolean;
  /** When they were settled, for `sweep`. @default now, by the system's clock */
  readonly at?: Date;
  /** Aborts when the consumer stops: from then on an adapter waits for nothing that would only spare it work. */
  readonly closing?: AbortSignal;
}

/** What a new holder of a lease finds. */
export interface Recovery {
  readonly progress: ConsumerProgress;
  /** Windows whose commit point was recorded but which may still be there: settle them, never handle them again. */
  readonly finished: readonly WindowRecord[];
  /** Windows that were claimed and not finished, by `seq`. */
  readonly open: readonly WindowRecord[];
  readonly groups: readonly string[];
}

/** A window's life in the store, from the claim until its messages leave. */
export interface WindowStore {
  /**
   * Adopts the consumer's windows under the new fence, in this order: windows with a fence below the adopted one are void
   * and removed; the others get the new fence; the new fence is stored as adopted, if the lease is still ours. From then on a
   * claim that turns up late with a smaller fence is void. @throws LeaseLost
   */
  recover(lease: Lease): Promise<Recovery>;
  /**
   * Stores the windows as claimed under the lease's fence; all or, after a failure, any part of them.
   *
   * A store that puts several of them into one record, in their order, may resolve with the `seq` of the last window of each record. To
   * settle all windows of a record together costs such a store fewer commands, so the engine prefers commits that end with a whole record.
   * That is no promise: a commit may also take some windows of a record and leave the others.
   *
   * @throws LeaseLost where the store can tell
   */
  claim(lease: Lease, windows: readonly WindowRecord[]): Promise<readonly number[] | void>;
  /**
   * The commit point: one conditional update of the consumer's own record, which also renews the lease. Resolves with the
   * stream's groups as of that moment. @throws LeaseLost — then nothing was recorded and nothing may be removed
   *
   * `asked` is called with `asked` of the stream as of that moment, or a little earlier: so a busy consumer sees with its next commit
   * that it was paused or the stream cleared. A store that would need one more command for it does not call it.
   */
  commit(lease: Lease, commit: Commit, asked?: (count: number) => void): Promise<readonly string[]>;
  /**
   * After the commit point: the messages leave the buffer (or are marked done by the group, if others have not committed
   * them), then the windows leave. Deletes by ids, never by range. A deduped message becomes a tombstone.
   * Resolves with messages that the database refused to change since the call before, if there are any.
   *
   * First it applies the windows' effects, if the commit point only recorded them, also those that a former holder has recorded.
   */
  settle(lease: Lease, windows: readonly SettledWindow[], options: SettleOptions): Promise<RefusedMessages | void>;
  /** The group's open window with this public id; undefined if there is none. */
  findWindow(key: ConsumerKey, window: string): Promise<WindowRecord | undefined>;
  /**
   * Stores attempt, nextTry, error, recoveries, split, aside, blockedSinks and starts of an open window; what is absent is removed.
   *
   * @throws LeaseLost
   */
  reschedule(lease: Lease, window: WindowRecord): Promise<void>;
  /**
   * Windows of a consumer: `claimed` ones in the order of `seq`, also those whose commit is recorded; or `kept` ones, in an order that
   * does not change while more are kept. At most `limit` of them where there may be many. `after` is the `next` of the page before.
   */
  readWindows?(
    key: ConsumerKey,
    state: 'claimed' | 'kept',
    after: string | undefined,
    limit: number,
  ): Promise<WindowPage>;
}
