/**
 * The storage port. Everything the engine knows of a database is on this page; nothing here names one.
 *
 * Who calls: `StreamService` and the `Stream` handle append and manage; the emitter's loop, which holds the lease of its
 * consumer, fetches, claims, commits and settles; `StatusService` reads statistics. Every adapter passes the contract suite
 * in `testing/store-contract.ts`.
 *
 * Errors: every method rejects with a `MinibatchError`. `LeaseLost` is final for the lease it names. `StoreUnavailable`
 * means "try again later": the caller backs off and calls again with the same arguments, therefore every method is
 * idempotent — a call whose answer was lost may simply be repeated.
 */

import type { Message } from '../windows/message.js';

/**
 * Identifies a message within its store; opaque to all but the store. Comparing two ids of one stream as strings gives
 * the order in which `fetch` returns them.
 */
export type MessageId = string;

/** A consumer's part of a stream: the unit of leasing, claiming and committing. */
export interface ConsumerKey {
  readonly stream: string;
  /** The consumer's name on the stream; `default` for a single one. */
  readonly group: string;
  /** 0 until a stream asks for more. */
  readonly partition: number;
}

/** What a producer hands to the store. */
export interface NewMessage {
  readonly stream: string;
  /** Storable plain data, already checked and copied (see `streams/storable.ts`). */
  readonly data: unknown;
  /** About how many bytes the data take, if that has been counted. */
  readonly bytes?: number;
  /** Whether there are bigints among the data, if somebody has looked. */
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
  /** The user's own transaction (a Mongoose `ClientSession`): the messages become visible when it commits, the positions too. */
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
 * duplicate, whatever becomes of the others: in one transaction with them where the store has one, else after them.
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
  /** True if it was put back, as a dead letter or as the copy of a kept message: somebody wants it, however old it is. */
  readonly redriven?: boolean;
  /** True if the stream was cleared after the message had been appended: nobody wants it. Never together with `redriven`. */
  readonly cleared?: boolean;
  /**
   * Decodes the message anew: nothing of what it returns is shared with an earlier call, with `data`, or with the stored bytes.
   *
   * @throws whatever the decoder throws if the bytes can't be decoded in JavaScript
   */
  read(): Message;
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
  /** True: the caller inspects the stream from outside. A store that lets consumers share their reads keeps this one apart. */
  readonly inspecting?: true;
}

/** Position in a read ordered by time. */
export interface TimeCursor {
  readonly created: Date;
  readonly id: MessageId;
}

/** Of kept messages those that match all that is given. Half-open, as `TimeRange`: `from` ≤ id < `to`. */
export interface KeptRange {
  readonly from?: MessageId;
  readonly to?: MessageId;
  readonly created?: TimeRange;
}

/** Half-open: `from` ≤ created < `to`; an absent bound is open. */
export interface TimeRange {
  readonly from?: Date;
  readonly to?: Date;
}

/** Who holds a lease. The fields beyond `id` tell a process on the same host whether the owner is dead. */
export interface LeaseOwner {
  /** Unique per running scheduler: a restarted process is another owner. */
  readonly id: string;
  readonly host: string;
  /** Differs after a reboot of the host; empty where it can't be known. */
  readonly bootId: string;
  readonly pid: number;
  /** When the process was started, in the platform's own units, so that a reused pid is told apart; empty where unknown. */
  readonly startTime: string;
}

/** A lease as it lies in the store, for candidates to watch. */
export interface LeaseState {
  /** Absent: nobody holds it. */
  readonly owner?: LeaseOwner;
  /** Grows by one with every acquisition. */
  readonly fence: number;
  /** Grows with every renewal, so that watchers see that the owner lives without comparing clocks. */
  readonly counter: number;
  /** The owner may be silent for so long, if that is longer than the candidate's own lease time; milliseconds. */
  readonly holdTime?: number;
  /**
   * The store knows nothing of the consumer: its stream was dropped, or the database it was in. It has to register again. Not set for a
   * group that was removed.
   */
  readonly missing?: true;
}

/** The right to claim and commit for a consumer, until another process acquires it. */
export interface Lease {
  readonly key: ConsumerKey;
  readonly owner: LeaseOwner;
  readonly fence: number;
}

/** A lease to be renewed. */
export interface Renewal extends Lease {
  /** Stored for candidates to see; what is absent stays as it is. */
  readonly holdTime?: number;
}

/** What a window says of itself beside its messages; stored with the claim and given to the handler. */
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
  /** True: an own strategy dropped these messages; the window is committed without its handler. */
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
}

/** A window as a look at the stream finds it. */
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

/** A message that a consumer gave up. */
export interface NewDeadLetter {
  /** The object that was fetched: the letter gets the bytes that were appended, whether or not they can be decoded. */
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
  readonly group?: string;
  readonly ids?: readonly string[];
  /** Died before this time. */
  readonly before?: Date;
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

/** Runs of a handler that count against its rate limit. */
export interface RateStart {
  /** When they began; of several the last. */
  readonly at: Date;
  /** Windows or messages, by the unit of the limit. */
  readonly cost: number;
}

/** The commit point: these windows are finished, and this is where the consumer stands afterwards. */
export interface Commit {
  /** `seq`s of the finished windows, and of those of earlier commits that are not settled yet; they replace those of the commit before. */
  readonly finished: readonly number[];
  readonly progress: ConsumerProgress;
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

/** A stream as it is stored. */
export interface StreamInfo {
  readonly name: string;
  readonly status: 'init' | 'open' | 'closed';
  readonly created: Date;
  readonly closed?: Date;
  readonly groups: readonly string[];
  /** True: consumers of the stream start no new windows. */
  readonly paused: boolean;
  /** Grows with each request to emit the tail now. */
  readonly flushes: number;
  /** Grows with each `clear`; absent if there was none. */
  readonly clearings?: number;
  /** What operators want done with open windows; absent if there is nothing. */
  readonly requests?: readonly WindowRequest[];
}

/** What an operator wants done with an open window, by whichever process holds the lease. */
export interface WindowRequest {
  readonly group: string;
  /** Public id. */
  readonly window: string;
  /** `giveUp`: its messages become dead letters. `skip`: it is committed although a sink did not take its result. */
  readonly action: 'giveUp' | 'skip';
  /** `skip`: the name of the sink. Absent: every sink that fails. */
  readonly sink?: string;
}

/** What can be changed of a stream. */
export interface StreamUpdate {
  readonly status?: 'open' | 'closed';
  readonly paused?: boolean;
  /** Asks for the tail to be emitted now. */
  readonly flush?: true;
  /**
   * Messages that are in the buffer now are not wanted any more, but for redriven ones: from the moment this resolves reads give them
   * as `cleared`, and consumers commit them unhandled. It goes by what is there, never by a clock: a message whose append was
   * acknowledged before the call is cleared, one whose append begins after it has resolved never is.
   */
  readonly clear?: true;
  /** Added to the requests, once. */
  readonly request?: WindowRequest;
  /** The window is not open any more: nothing is wanted of it. */
  readonly answered?: WindowRequest;
}

export interface ConsumerStats {
  readonly group: string;
  readonly partition: number;
  readonly lease: LeaseState;
  readonly progress: ConsumerProgress;
  /** Claimed and not settled. */
  readonly openWindows: number;
  /** Messages in the buffer that the group has not committed, claimed ones included. */
  readonly pending: number;
}

/** Documents of the stream in a shared database that can't be read as messages. */
export interface ForeignDocuments {
  readonly documents: number;
  /** The id of one of them, as text. */
  readonly example: string;
}

/** Counted in the database. */
export interface StreamStats extends StreamInfo {
  /** Messages in the buffer that at least one group has not committed. */
  readonly buffered: number;
  /** `created` of the oldest of them. */
  readonly oldest?: Date;
  /** Dead letters of all groups. */
  readonly deadLetters: number;
  /** What others have put into the buffer that is no message, if there is any: reads pass it over. */
  readonly foreign?: ForeignDocuments;
  /**
   * When a consumer of another library, which does not know our claims, last took messages from it; absent if none ever did. In MongoDB
   * that is Python's minibatch.
   */
  readonly readElsewhere?: Date;
  readonly consumers: readonly ConsumerStats[];
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

export interface StreamStore {
  /** For log lines and the status: `mongoose`, `lmdb`, `memory`. */
  readonly name: string;
  /** Largest message in bytes, envelope included. */
  readonly maxMessageBytes: number;
  /** Longest wait in milliseconds between polls for messages of other processes: soon after activity, and at rest. */
  readonly polling: { readonly busy: number; readonly idle: number };
  /**
   * True: a message never turns up before one that could be read already, so who has read up to an id need not look there again. False:
   * ids are given by the processes that append, and interleave.
   */
  readonly totalOrder: boolean;
  /** What ids of messages look like, for those that people give. Absent: any text is taken for one. */
  readonly idPattern?: RegExp;
  /**
   * How long the store looks for its server before it says that it is out of reach; milliseconds. Appends that wait in the process wait
   * as long. @default what the failed call took
   */
  readonly patience?: number | undefined;

  /** Prepares the store: connects, makes indexes, checks the schema version. Idempotent. */
  open(): Promise<void>;
  /** Gives back what `open` took; never closes a connection that the application owns. Idempotent. */
  close(): Promise<void>;

  // ---- streams and groups

  /** Creates the stream if it is not there and opens it if its status is `init`. Does not open a closed one. */
  ensureStream(stream: string): Promise<StreamInfo>;
  /** The stream, or undefined. */
  describeStream(stream: string): Promise<StreamInfo | undefined>;
  /** Several at once, those that exist; all when no names are given. By name. */
  listStreams(streams?: readonly string[]): Promise<readonly StreamInfo[]>;
  /** Changes what is given. @throws UnknownStream */
  updateStream(stream: string, change: StreamUpdate): Promise<StreamInfo>;
  /**
   * Removes the stream with its messages, windows, consumers and checkpoints. Consumers that run lose their leases, and register again,
   * which makes a new stream.
   */
  dropStream(stream: string): Promise<void>;
  /**
   * Makes the group known, so that from the moment this resolves no message leaves the buffer without it. Idempotent.
   * `timeOrder` says that `fetchByTime` will be called for it: an adapter may keep an index. With `replaces`, the other group's
   * progress, open windows, done marks and dead letters become this group's and the other one is gone. The letters join
   * those it has, also if it has lived before and keeps its own progress: a message that both gave up has two.
   */
  registerGroup(
    key: ConsumerKey,
    options?: { readonly timeOrder?: boolean; readonly replaces?: string },
  ): Promise<void>;
  /**
   * Forgets the group, its open windows and its progress; messages only it held back leave the buffer. What it has settled with `keep`
   * is kept, also if it waits for other groups and leaves later. @throws UnknownGroup
   */
  removeGroup(stream: string, group: string): Promise<void>;

  // ---- append

  /**
   * Stores the messages durably; resolves with one outcome a message, in the order of the call. Within one call the
   * order of the messages is the order of their ids. Does not look at the stream's status. A call without messages stores
   * its checkpoints.
   *
   * @throws CheckpointError if messages were written but a position that was due could not be; it has the outcomes
   * @throws AppendError if nothing at all can be said of the call; in a `session` also the error of the store's driver, by which the
   *   transaction is repeated
   */
  append(messages: readonly NewMessage[], options?: AppendOptions): Promise<readonly AppendOutcome[]>;
  /** The stored position of a source, or undefined. */
  readCheckpoint(stream: string, source: string): Promise<unknown>;

  // ---- lease

  /**
   * The leases of the consumers in the order of `keys`; one that was never held has fence 0, and one that was dropped is `missing`. As
   * long as the stream exists the fence of a key never goes back, also if its group is removed, replaced or registered again. One round
   * trip.
   */
  readLeases(keys: readonly ConsumerKey[]): Promise<readonly LeaseState[]>;
  /**
   * Compare-and-set: becomes the holder if the lease still is as `expected` (fence and counter); the fence grows by one, and
   * `holdTime` is as given, or gone. Undefined if it was not, or if the group is not registered: what it would commit would not be held for
   * it. Whether the present owner may be replaced is the caller's judgement.
   */
  acquireLease(
    key: ConsumerKey,
    owner: LeaseOwner,
    expected: LeaseState,
    holdTime?: number,
  ): Promise<Lease | undefined>;
  /** Renews all of one owner's leases in one round trip; resolves with those that are lost. */
  renewLeases(leases: readonly Renewal[]): Promise<readonly Lease[]>;
  /** Gives the lease back, so that the next candidate takes it at once. Nothing happens if it is lost. */
  releaseLease(lease: Lease): Promise<void>;

  // ---- the consumer's loop

  /**
   * Adopts the consumer's windows under the new fence, in this order: windows with a fence below the adopted one are void
   * and removed; the others get the new fence; the new fence is stored as adopted, if the lease is still ours. From then on a
   * claim that turns up late with a smaller fence is void. @throws LeaseLost
   */
  recover(lease: Lease): Promise<Recovery>;
  /**
   * Messages in append order, after the given id, that the group has not committed. Claimed ones are among them: the
   * caller knows its claims and subtracts them.
   */
  fetch(key: ConsumerKey, after: MessageId | undefined, limits: FetchLimits): Promise<Block>;
  /** The same in order of (created, id), for messages created in the range. */
  fetchByTime(key: ConsumerKey, range: TimeRange, after: TimeCursor | undefined, limits: FetchLimits): Promise<Block>;
  /** Only the ids, in append order, of what `fetch` would return up to and including `until`: the cheap look from the start. */
  scan(
    key: ConsumerKey,
    after: MessageId | undefined,
    until: MessageId | undefined,
    limit: number,
  ): Promise<readonly MessageId[]>;
  /** The messages with these ids that are still in the buffer and not committed by the group, in the order of `ids`. */
  load(key: ConsumerKey, ids: readonly MessageId[]): Promise<readonly StoredMessage[]>;
  /** Stores the windows as claimed under the lease's fence; all or, after a failure, any part of them. @throws LeaseLost where the store can tell */
  claim(lease: Lease, windows: readonly WindowRecord[]): Promise<void>;
  /**
   * The commit point: one conditional update of the consumer's own record, which also renews the lease. Resolves with the
   * stream's groups as of that moment. @throws LeaseLost — then nothing was recorded and nothing may be removed
   */
  commit(lease: Lease, commit: Commit): Promise<readonly string[]>;
  /**
   * After the commit point: the messages leave the buffer (or are marked done by the group, if others have not committed
   * them), then the windows leave. Deletes by ids, never by range. A deduped message becomes a tombstone.
   */
  settle(lease: Lease, windows: readonly SettledWindow[], options: SettleOptions): Promise<void>;
  /** The group's open window with this public id; undefined if there is none. */
  findWindow(key: ConsumerKey, window: string): Promise<WindowRecord | undefined>;
  /**
   * Stores attempt, nextTry, error, recoveries, split, aside, blockedSinks and starts of an open window; what is absent is removed.
   *
   * @throws LeaseLost
   */
  reschedule(lease: Lease, window: WindowRecord): Promise<void>;

  // ---- dead letters

  /**
   * Stores messages that the lease's consumer gives up, durably: the caller commits their window afterwards. A message that is
   * a dead letter of the group already stays as it is. @throws LeaseLost where the store can tell
   */
  bury(lease: Lease, letters: readonly NewDeadLetter[]): Promise<void>;
  /** Dead letters of the stream in the order of their ids, after the given one. */
  deadLetters(
    stream: string,
    filter: DeadLetterFilter,
    after: string | undefined,
    limit: number,
  ): Promise<readonly DeadLetter[]>;
  /**
   * Puts the messages back into the buffer, behind what is there, for their own group only: other groups do not see them again, and do not
   * keep them by what they committed before. A group that is registered while they wait gets them. Then the letters are gone. Resolves with how many. A call that is repeated after a crash in its middle neither loses nor
   * doubles a message. Letters of a group that was removed stay.
   */
  redrive(stream: string, filter: DeadLetterFilter): Promise<number>;
  /** Removes them for good. Resolves with how many. */
  discard(stream: string, filter: DeadLetterFilter): Promise<number>;

  // ---- looking into a stream. Read-only and without a lease. What needs one that the store lacks is refused with `StoreUnsupported`

  /**
   * Kept messages in the order of their ids, after the given one. What is in their place and is no message is passed over. The limits
   * are those of `fetch`.
   */
  readKept?(stream: string, after: MessageId | undefined, limits: FetchLimits): Promise<Block>;
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

  /**
   * Puts copies of kept messages into the buffer, in the order of their ids, behind what is there and for this group alone: for the other
   * groups of the stream they count as committed. A group that is registered while they wait gets them, too. The kept messages stay. Resolves with how many copies it made.
   *
   * A message is passed over while a copy of it waits for the group, whichever group the copy was made for; so a call that is repeated
   * after a crash in its middle goes on where that ended. A copy is `redriven`, has no dedupe id, and is never kept itself. Does nothing for a group that is not
   * registered. What is kept after the call began may be left out.
   */
  replay?(stream: string, group: string, range: KeptRange): Promise<number>;

  // ---- wake-ups and statistics

  /**
   * One cheap round trip for many consumers: a token each, in the order of `keys`, that differs from the one before whenever
   * messages may have come that the consumer has not seen.
   */
  poll(keys: readonly ConsumerKey[]): Promise<readonly string[]>;
  /**
   * Tells of messages of any process on these streams as soon as they arrive, until the signal aborts. What fails is tried again
   * until then. Resolves when the signal aborts, or at once where the store can't: then there is only `poll`, as where it is absent.
   */
  watch?(streams: readonly string[], watcher: StreamWatcher, signal: AbortSignal): Promise<void>;
  /**
   * Messages in the buffer that at least one group has not committed, counted no further than to `most`: cheap enough to be
   * asked every second.
   */
  count(stream: string, most: number): Promise<number>;
  /** Counted in the store; of all streams when no names are given. */
  stats(streams?: readonly string[]): Promise<readonly StreamStats[]>;
  /** Removes tombstones and kept messages and windows that were settled before the time; resolves with how many of each. */
  sweep(stream: string, before: { readonly tombstones?: Date; readonly kept?: Date }): Promise<SweepResult>;
  /**
   * Removes messages of a stream that has no groups: those that are `cleared`, and those created before the time, if one is given.
   * Deduped ones become tombstones, redriven ones stay. Resolves with how many. Does nothing, and ends, as soon as the stream has a
   * group: from then on its messages are the group's.
   */
  expire(stream: string, before?: Date): Promise<number>;
}

export interface SweepResult {
  readonly tombstones: number;
  readonly messages: number;
  readonly windows: number;
}

/** A consumer's key as one string, for maps and log lines. Names can hold anything but NUL. */
export function consumerId(key: ConsumerKey): string {
  return `${key.stream}\0${key.group}\0${key.partition}`;
}

/** The progress of a consumer that has not committed anything. */
export const NO_PROGRESS: ConsumerProgress = { lastSeq: 0, windows: 0, messages: 0 };
