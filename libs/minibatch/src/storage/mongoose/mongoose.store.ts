import type { Connection, mongo } from 'mongoose';
import { checkBsonVersion } from '../../common/bson-version.js';
import { SYSTEM_CLOCK } from '../../common/clock.js';
import type { MongooseCollections } from '../store-definition.js';
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
  RefusedMessages,
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
  StreamWatcher,
  SweepResult,
  SweepTimes,
  TimeCursor,
  TimeRange,
  WindowPage,
  WindowRecord,
} from '../stream-store.interface.js';
import { AddedPartitions } from './added-partitions.js';
import { Appends } from './append.js';
import { BufferPages } from './blocks.js';
import { ChangeWatch } from './change-watch.js';
import { Checkpoints } from './checkpoints.js';
import { ClaimLocations } from './claim-locations.js';
import { Claims } from './claims.js';
import { ConsumerMemory } from './consumer-memory.js';
import { Collections, collectionNames } from './collections.js';
import { CommitPoint } from './commit.js';
import { DeadLetters } from './dead-letters.js';
import { MAX_EFFECT_BYTES } from './effects.js';
import { MessageRemoval } from './message-removal.js';
import { firstConnection } from './first-connection.js';
import { GroupCommits } from './group-commits.js';
import { GroupListVersions } from './group-list-versions.js';
import { Groups } from './groups.js';
import { Indexes } from './indexes.js';
import { BufferInserts } from './buffer-inserts.js';
import { KeptWindows } from './kept-windows.js';
import { Leases } from './leases.js';
import { DeadLetterReads } from './dead-letter-reads.js';
import { messageIds } from './message-ids.js';
import { MAX_DOCUMENT_MESSAGE_BYTES } from './message-limit.js';
import { Reads } from './reads.js';
import { Redrive } from './redrive.js';
import { Refusals } from './refusals.js';
import { Replay } from './replay.js';
import { Settlement } from './settle.js';
import { SharedReads } from './shared-reads.js';
import type { StateReads } from './state.js';
import { stateRoles } from './state-roles.js';
import { MarkDelay } from './mark-delay.js';
import { Statistics } from './statistics.js';
import { guarded } from './store-errors.js';
import { Streams } from './streams.js';
import { Retention } from './retention.js';
import { TransactionInserts } from './transaction-inserts.js';
import { WindowReads } from './windows.js';
import { WindowRemoval } from './window-removal.js';

export interface MongooseStreamStoreOptions {
  /** Names of the collections. The defaults are those of the Python library minibatch, so that both can use one database. */
  readonly collections?: MongooseCollections;
}

/**
 * The default store: MongoDB, through the application's Mongoose connection, which it neither opens nor closes. The store only composes its
 * roles. Each role is a class in a file of its own.
 */
export class MongooseStreamStore implements StreamStore {
  readonly name = 'mongoose';
  readonly maxMessageBytes = MAX_DOCUMENT_MESSAGE_BYTES;
  readonly maxEffectBytes = MAX_EFFECT_BYTES;
  readonly maxWindowEffectBytes = MAX_EFFECT_BYTES;
  readonly polling = { busy: 50, idle: 2_000 };
  readonly totalOrder = false;
  readonly idPattern = /^[0-9a-f]{24}$/;

  private readonly collections: Collections;
  private readonly indexes: Indexes;
  private readonly streams: Streams;
  private readonly groups: Groups;
  private readonly added: AddedPartitions;
  private readonly appends: Appends;
  private readonly checkpoints: Checkpoints;
  private readonly leases: Leases;
  private readonly reads: Reads;
  private readonly windows: WindowReads;
  private readonly memory: ConsumerMemory;
  private readonly claims: Claims;
  private readonly commits: CommitPoint;
  private readonly settlement: Settlement;
  private readonly deadLetterRecords: DeadLetters;
  private readonly redrives: Redrive;
  private readonly replays: Replay;
  private readonly statistics: Statistics;
  private readonly retention: Retention;
  private readonly state: StateReads;
  private readonly changes: ChangeWatch;
  private readonly closing = new AbortController();
  private opening: Promise<void> | undefined;
  /** Assumed until the server has said otherwise, because it is the safe assumption. */
  private repeatsWrites = true;
  private standalone = false;

  constructor(
    private readonly connection: Connection,
    options: MongooseStreamStoreOptions = {},
  ) {
    const collections = new Collections(connection, collectionNames(options.collections));
    const versions = new GroupListVersions();
    const groupCommits = new GroupCommits();
    const refusals = new Refusals();
    const removal = new MessageRemoval(collections, groupCommits, refusals);
    const pages = new BufferPages(collections, refusals);
    const sharedReads = new SharedReads(pages, versions);
    const locations = new ClaimLocations();
    const windowRemoval = new WindowRemoval(collections, locations);
    const markDelay = new MarkDelay();
    const deadLetterReads = new DeadLetterReads(collections);

    this.collections = collections;
    this.indexes = new Indexes(collections);
    const state = stateRoles(collections, this.indexes, (messages) => this.append(messages));
    this.streams = new Streams(collections, this.indexes, state.removal);
    this.groups = new Groups(collections, this.streams, removal, versions, state);
    const inserts = new BufferInserts(
      collections,
      () => this.repeatsWrites,
      () => !this.standalone,
      SYSTEM_CLOCK,
      () => this.patience ?? 0,
    );
    this.checkpoints = new Checkpoints(collections, this.streams);
    this.appends = new Appends(messageIds, inserts, new TransactionInserts(collections), this.checkpoints);
    this.state = state.reads;
    this.added = new AddedPartitions(collections);
    this.leases = new Leases(collections, this.added, state.decided);
    this.memory = new ConsumerMemory(locations, versions, markDelay, sharedReads, state.decided);
    this.reads = new Reads(collections, pages, sharedReads, versions);
    this.windows = new WindowReads(collections);
    this.claims = new Claims(collections, locations, versions, markDelay, state.effects);
    this.commits = new CommitPoint(collections, versions, state.effects);
    this.settlement = new Settlement(
      removal,
      groupCommits,
      windowRemoval,
      new KeptWindows(collections, locations, windowRemoval),
      sharedReads,
      markDelay,
      versions,
      refusals,
      state.effects,
    );
    this.deadLetterRecords = new DeadLetters(collections, deadLetterReads, refusals);
    this.redrives = new Redrive(collections, deadLetterReads, messageIds);
    this.replays = new Replay(collections, pages, messageIds);
    this.statistics = new Statistics(collections, this.streams);
    this.retention = new Retention(collections, this.streams, removal, pages, state.removal);
    this.changes = new ChangeWatch(collections, {
      origin: messageIds.originHex,
      isStandalone: () => this.standalone,
      removed: () => this.indexes.ensureNow(),
    });
  }

  get patience(): number | undefined {
    // There is no client before the application connects.
    return (this.connection.getClient() as mongo.MongoClient | undefined)?.options.serverSelectionTimeoutMS;
  }

  open(): Promise<void> {
    this.opening ??= this.prepare().catch((error: unknown) => {
      this.opening = undefined;
      throw error;
    });
    return this.opening;
  }

  async close(): Promise<void> {
    this.closing.abort();
  }

  ensureStream(stream: string, made?: NewStream): Promise<StreamInfo> {
    return this.streams.ensure(stream, made);
  }

  describeStream(stream: string): Promise<StreamInfo | undefined> {
    return this.streams.describe(stream);
  }

  listStreams(streams?: readonly string[]): Promise<readonly StreamInfo[]> {
    this.indexes.ensureNowAndThen();
    return this.streams.list(streams);
  }

  async updateStream(stream: string, change: StreamUpdate): Promise<StreamInfo> {
    const info = await this.streams.update(stream, change);
    if (change.grow) await this.added.extend(info);
    return info;
  }

  dropStream(stream: string): Promise<void> {
    return this.streams.drop(stream);
  }

  registerGroup(key: GroupKey, options: RegisterGroupOptions = {}): Promise<void> {
    return this.groups.register(key, options);
  }

  removeGroup(stream: string, group: string): Promise<void> {
    return this.groups.remove(stream, group);
  }

  append(messages: readonly NewMessage[], options: AppendOptions = {}): Promise<readonly AppendOutcome[]> {
    return this.appends.append(messages, options);
  }

  readCheckpoint(stream: string, source: string): Promise<unknown> {
    return this.checkpoints.read(stream, source);
  }

  readLeases(keys: readonly ConsumerKey[]): Promise<readonly LeaseState[]> {
    return this.leases.read(keys);
  }

  acquireLease(
    key: ConsumerKey,
    owner: LeaseOwner,
    expected: LeaseState,
    holdTime?: number,
  ): Promise<Lease | undefined> {
    return this.leases.acquire(key, owner, expected, holdTime);
  }

  requestLease(key: ConsumerKey, heir: LeaseOwner | undefined, expected: LeaseState): Promise<boolean> {
    return this.leases.request(key, heir, expected);
  }

  renewLeases(leases: readonly Renewal[]): Promise<readonly RenewalNotice[]> {
    return this.leases.renew(leases);
  }

  async releaseLease(lease: Lease): Promise<void> {
    try {
      await this.leases.release(lease);
    } finally {
      this.memory.forget(lease);
    }
  }

  recover(lease: Lease): Promise<Recovery> {
    return this.claims.recover(lease);
  }

  fetch(key: ConsumerKey, after: MessageId | undefined, limits: FetchLimits): Promise<Block> {
    return this.reads.fetch(key, after, limits);
  }

  fetchByTime(key: ConsumerKey, range: TimeRange, after: TimeCursor | undefined, limits: FetchLimits): Promise<Block> {
    return this.reads.fetchByTime(key, range, after, limits);
  }

  scan(
    key: ConsumerKey,
    after: MessageId | undefined,
    until: MessageId | undefined,
    limit: number,
  ): Promise<readonly MessageId[]> {
    return this.reads.scan(key, after, until, limit);
  }

  load(key: ConsumerKey, ids: readonly MessageId[]): Promise<readonly StoredMessage[]> {
    return this.reads.load(key, ids);
  }

  claim(lease: Lease, windows: readonly WindowRecord[]): Promise<readonly number[]> {
    return this.claims.claim(lease, windows);
  }

  commit(lease: Lease, commit: Commit, asked?: (count: number) => void): Promise<readonly string[]> {
    return this.commits.commit(lease, commit, asked);
  }

  settle(lease: Lease, windows: readonly SettledWindow[], options: SettleOptions): Promise<RefusedMessages | void> {
    return this.settlement.settle(lease, windows, options);
  }

  findWindow(key: ConsumerKey, window: string): Promise<WindowRecord | undefined> {
    return this.claims.find(key, window);
  }

  reschedule(lease: Lease, window: WindowRecord): Promise<void> {
    return this.claims.reschedule(lease, window);
  }

  bury(lease: Lease, letters: readonly NewDeadLetter[]): Promise<RefusedMessages | void> {
    return this.deadLetterRecords.bury(lease, letters);
  }

  deadLetters(
    stream: string,
    filter: DeadLetterFilter,
    after: string | undefined,
    limit: number,
    bytes?: number,
  ): Promise<readonly DeadLetter[]> {
    return this.deadLetterRecords.list(stream, filter, after, limit, bytes);
  }

  redrive(stream: string, filter: DeadLetterFilter): Promise<number> {
    return this.redrives.redrive(stream, filter);
  }

  discard(stream: string, filter: DeadLetterFilter): Promise<number> {
    return this.deadLetterRecords.discard(stream, filter);
  }

  readKept(stream: string, after: MessageId | undefined, limits: FetchLimits): Promise<Block> {
    return this.reads.kept(stream, after, limits);
  }

  readWindows(
    key: ConsumerKey,
    state: 'claimed' | 'kept',
    after: string | undefined,
    limit: number,
  ): Promise<WindowPage> {
    return state === 'kept' ? this.windows.kept(key, after, limit) : this.windows.claimed(key);
  }

  replay(stream: string, group: string, range: KeptRange): Promise<number> {
    return this.replays.replay(stream, group, range);
  }

  readState(key: ConsumerKey, slots: readonly string[]): Promise<readonly StateRow[]> {
    return this.state.read(key, slots);
  }

  dueState(
    key: ConsumerKey,
    before: Date,
    after: Pick<StateRow, 'slot' | 'due'> | undefined,
    limits: StateLimits,
  ): Promise<readonly StateRow[]> {
    return this.state.due(key, before, after, limits);
  }

  listState(key: ConsumerKey, after: string | undefined, limits: StateLimits): Promise<StatePage> {
    return this.state.list(key, after, limits);
  }

  poll(keys: readonly ConsumerKey[]): Promise<readonly string[]> {
    return this.statistics.poll(keys);
  }

  watch(streams: readonly string[], watcher: StreamWatcher, signal: AbortSignal): Promise<void> {
    return this.changes.watch(streams, watcher, AbortSignal.any([signal, this.closing.signal]));
  }

  count(stream: string, most: number): Promise<number> {
    return this.statistics.count(stream, most);
  }

  stats(streams?: readonly string[]): Promise<readonly StreamStats[]> {
    return this.statistics.stats(streams);
  }

  sweep(stream: string, before: SweepTimes): Promise<SweepResult> {
    return this.retention.sweep(stream, before);
  }

  expire(stream: string, before?: Date): Promise<number> {
    return this.retention.expire(stream, before);
  }

  private async prepare(): Promise<void> {
    checkBsonVersion('The store in MongoDB', this.connection);
    await guarded('be reached', () => firstConnection(this.connection));
    this.collections.register();
    await guarded('prepare the collections', async () => {
      await this.streams.checkVersion();
      await this.indexes.ensure();
      this.standalone = await this.isStandalone();
      if (this.standalone || this.collections.wantJournal) await this.collections.useJournal();
      this.repeatsWrites = !this.standalone && this.connection.getClient().options.retryWrites;
    });
  }

  private async isStandalone(): Promise<boolean> {
    // The old name of the command, which every server knows.
    const hello = await this.collections.database.command({ isMaster: 1 }, { readPreference: 'primary' });
    return hello['setName'] === undefined && hello['msg'] !== 'isdbgrid';
  }
}
