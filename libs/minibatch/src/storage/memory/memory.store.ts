import { MAX_ENCODED_BYTES } from '../encoded-message.js';
import type {
  AppendOptions,
  AppendOutcome,
  Block,
  Commit,
  ConsumerKey,
  DeadLetter,
  DeadLetterFilter,
  FetchLimits,
  GroupKey,
  KeptRange,
  Lease,
  LeaseOwner,
  LeaseState,
  MessageId,
  NewDeadLetter,
  NewMessage,
  NewStream,
  Recovery,
  RegisterGroupOptions,
  Renewal,
  RenewalNotice,
  SettledWindow,
  SettleOptions,
  StateLimits,
  StatePage,
  StateRow,
  StoredMessage,
  StreamInfo,
  StreamStats,
  StreamStore,
  StreamUpdate,
  SweepResult,
  SweepTimes,
  TimeCursor,
  TimeRange,
  WindowPage,
  WindowRecord,
} from '../stream-store.interface.js';
import { append } from './append.js';
import { readCheckpoint } from './checkpoints.js';
import * as claims from './claims.js';
import { commit } from './commit.js';
import { bury, discardLetters, listLetters } from './dead-letters.js';
import { registerGroup, removeGroup } from './groups.js';
import * as leases from './leases.js';
import { MemoryDatabase } from './memory.database.js';
import { fetchMessages, fetchMessagesByTime, loadMessages, scanMessages } from './reads.js';
import { redriveLetters } from './redrive.js';
import { replayMessages } from './replay.js';
import { expire, sweep } from './retention.js';
import { settle } from './settle.js';
import { countMessages, pollToken, streamStats } from './statistics.js';
import * as state from './state.js';
import * as streams from './streams.js';
import { findWindow, readKept, readWindows } from './windows.js';

export { MemoryDatabase } from './memory.database.js';

/**
 * Keeps streams in memory: for tests, and to try things out. Its content is gone with the process. It never waits for anything, so
 * tests with a virtual clock are deterministic.
 *
 * Messages are kept as BSON: they come back as from MongoDB, and nobody can change what is stored.
 */
export class MemoryStreamStore implements StreamStore {
  readonly name = 'memory';
  readonly maxMessageBytes = MAX_ENCODED_BYTES;
  readonly polling: StreamStore['polling'] = { busy: 20, idle: 250 };
  readonly totalOrder: boolean = true;
  readonly idPattern = /^[0-9a-f]{14}$/;

  /**
   * @param database stores with the same one see each other's streams, as two processes on one server do.
   *   @default one of its own
   */
  constructor(private readonly database: MemoryDatabase = new MemoryDatabase()) {}

  async open(): Promise<void> {}

  async close(): Promise<void> {}

  // ---- streams and groups

  async ensureStream(stream: string, made?: NewStream): Promise<StreamInfo> {
    return streams.ensureStream(this.database, stream, made);
  }

  async describeStream(stream: string): Promise<StreamInfo | undefined> {
    return streams.describeStream(this.database, stream);
  }

  async listStreams(names?: readonly string[]): Promise<readonly StreamInfo[]> {
    return streams.listStreams(this.database, names);
  }

  async updateStream(stream: string, change: StreamUpdate): Promise<StreamInfo> {
    return streams.updateStream(this.database, stream, change);
  }

  async dropStream(stream: string): Promise<void> {
    streams.dropStream(this.database, stream);
  }

  async registerGroup(key: GroupKey, options: RegisterGroupOptions = {}): Promise<void> {
    registerGroup(this.database, key, options);
  }

  async removeGroup(stream: string, group: string): Promise<void> {
    removeGroup(this.database, stream, group);
  }

  // ---- append

  async append(messages: readonly NewMessage[], options: AppendOptions = {}): Promise<readonly AppendOutcome[]> {
    return append(this.database, messages, options);
  }

  async readCheckpoint(stream: string, source: string): Promise<unknown> {
    return readCheckpoint(this.database, stream, source);
  }

  // ---- lease

  async readLeases(keys: readonly ConsumerKey[]): Promise<readonly LeaseState[]> {
    return keys.map((key) => leases.readLease(this.database, key));
  }

  async acquireLease(
    key: ConsumerKey,
    owner: LeaseOwner,
    expected: LeaseState,
    holdTime?: number,
  ): Promise<Lease | undefined> {
    return leases.acquireLease(this.database, key, owner, expected, holdTime);
  }

  async requestLease(key: ConsumerKey, heir: LeaseOwner | undefined, expected: LeaseState): Promise<boolean> {
    return leases.requestLease(this.database, key, heir, expected);
  }

  async renewLeases(held: readonly Renewal[]): Promise<readonly RenewalNotice[]> {
    return held.flatMap((lease) => leases.renewLease(this.database, lease) ?? []);
  }

  async releaseLease(lease: Lease): Promise<void> {
    leases.releaseLease(this.database, lease);
  }

  // ---- the consumer's loop

  async recover(lease: Lease): Promise<Recovery> {
    return claims.recover(this.database, lease);
  }

  async fetch(key: ConsumerKey, after: MessageId | undefined, limits: FetchLimits): Promise<Block> {
    return fetchMessages(this.database, key, after, limits);
  }

  async fetchByTime(
    key: ConsumerKey,
    range: TimeRange,
    after: TimeCursor | undefined,
    limits: FetchLimits,
  ): Promise<Block> {
    return fetchMessagesByTime(this.database, key, range, after, limits);
  }

  async scan(
    key: ConsumerKey,
    after: MessageId | undefined,
    until: MessageId | undefined,
    limit: number,
  ): Promise<readonly MessageId[]> {
    return scanMessages(this.database, key, after, until, limit);
  }

  async load(key: ConsumerKey, ids: readonly MessageId[]): Promise<readonly StoredMessage[]> {
    return loadMessages(this.database, key, ids);
  }

  async claim(lease: Lease, windows: readonly WindowRecord[]): Promise<void> {
    claims.claim(this.database, lease, windows);
  }

  async commit(lease: Lease, point: Commit, asked?: (count: number) => void): Promise<readonly string[]> {
    const committed = commit(this.database, lease, point);
    asked?.(committed.asked);
    return committed.groups;
  }

  async settle(lease: Lease, settled: readonly SettledWindow[], options: SettleOptions): Promise<void> {
    settle(this.database, lease, settled, options);
  }

  async findWindow(key: ConsumerKey, window: string): Promise<WindowRecord | undefined> {
    return findWindow(this.database, key, window);
  }

  async reschedule(lease: Lease, window: WindowRecord): Promise<void> {
    claims.reschedule(this.database, lease, window);
  }

  // ---- state

  async readState(key: ConsumerKey, slots: readonly string[]): Promise<readonly StateRow[]> {
    return state.readState(this.database, key, slots);
  }

  async dueState(
    key: ConsumerKey,
    before: Date,
    after: Pick<StateRow, 'slot' | 'due'> | undefined,
    limits: StateLimits,
  ): Promise<readonly StateRow[]> {
    return state.dueState(this.database, key, before, after, limits);
  }

  async listState(key: ConsumerKey, after: string | undefined, limits: StateLimits): Promise<StatePage> {
    return state.listState(this.database, key, after, limits);
  }

  // ---- dead letters

  async bury(lease: Lease, letters: readonly NewDeadLetter[]): Promise<void> {
    bury(this.database, lease, letters);
  }

  async deadLetters(
    stream: string,
    filter: DeadLetterFilter,
    after: string | undefined,
    limit: number,
    bytes?: number,
  ): Promise<readonly DeadLetter[]> {
    return listLetters(this.database, stream, filter, after, limit, bytes);
  }

  async redrive(stream: string, filter: DeadLetterFilter): Promise<number> {
    return redriveLetters(this.database, stream, filter);
  }

  async discard(stream: string, filter: DeadLetterFilter): Promise<number> {
    return discardLetters(this.database, stream, filter);
  }

  // ---- looking into a stream

  async readKept(stream: string, after: MessageId | undefined, limits: FetchLimits): Promise<Block> {
    return readKept(this.database, stream, after, limits);
  }

  async readWindows(
    key: ConsumerKey,
    state: 'claimed' | 'kept',
    after: string | undefined,
    limit: number,
  ): Promise<WindowPage> {
    return readWindows(this.database, key, state, after, limit);
  }

  async replay(stream: string, group: string, range: KeptRange): Promise<number> {
    return replayMessages(this.database, stream, group, range);
  }

  // ---- wake-ups and statistics

  async poll(keys: readonly ConsumerKey[]): Promise<readonly string[]> {
    return keys.map((key) => pollToken(this.database, key));
  }

  async count(stream: string, most: number): Promise<number> {
    return Math.min(countMessages(this.database, stream), most);
  }

  async stats(names?: readonly string[]): Promise<readonly StreamStats[]> {
    return streamStats(this.database, names);
  }

  async sweep(stream: string, before: SweepTimes): Promise<SweepResult> {
    return sweep(this.database, stream, before);
  }

  async expire(stream: string, before?: Date): Promise<number> {
    return expire(this.database, stream, before);
  }
}
