import type { StringValue } from 'ms';
import { checkDuration, invalidOption } from '../../common/checks.js';
import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
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
  StreamWatcher,
  SweepResult,
  SweepTimes,
  TimeCursor,
  TimeRange,
  WindowPage,
  WindowRecord,
} from '../stream-store.interface.js';
import { Appends } from './append.js';
import { readCheckpoint } from './checkpoints.js';
import * as claims from './claims.js';
import { type Committed, commitWrite } from './commit.js';
import { Database } from './database.js';
import { bury, discardLetters, listLetters } from './dead-letters.js';
import { durabilityWarnings } from './durability.js';
import { Floors } from './floors.js';
import { registerGroup, removeGroup } from './groups.js';
import { ID_PATTERN } from './ids.js';
import { KnownStreams } from './known-streams.js';
import { LeaseWrites } from './lease-writes.js';
import * as leases from './leases.js';
import { prepareTables } from './migrations.js';
import { Notifications } from './notifications.js';
import { poolOf } from './own-pool.js';
import type { PostgresPool } from './pool.js';
import { Reads } from './reads.js';
import { redriveLetters } from './redrive.js';
import { replayMessages } from './replay.js';
import { expire, sweep } from './retention.js';
import { SCHEMA } from './schema.js';
import { settleWrite } from './settle.js';
import { countMessages, pollTokens, streamStats } from './statistics.js';
import { dueState, listState, prepareEffects, readState } from './state.js';
import * as streams from './streams.js';
import { ensureTimeOrder } from './time-order.js';
import { findWindow, readKept, readWindows } from './windows.js';

export interface PostgresStoreOptions {
  /**
   * The application's own pool of `pg`, which is neither opened nor closed. One connection listens for messages of other processes, so it
   * needs two or more; give it four or more. @default one of the store, made of `connectionString` or `connection`
   */
  readonly pool?: PostgresPool;
  /** As `postgres://user:password@host:5432/database`. @default the variables PGHOST, PGUSER and so on */
  readonly connectionString?: string;
  /** Further options of the store's own pool, such as `ssl` or `max`. @default those of pg */
  readonly connection?: Readonly<Record<string, unknown>>;
  /** The schema that has the tables. Stores with different ones do not see each other's streams. @default 'minibatch' */
  readonly schema?: string;
  /** Whether the store makes its tables, and changes those of an older version. @default true */
  readonly migrate?: boolean;
  /** Whether processes tell each other of new messages by NOTIFY. Without, they poll. @default true */
  readonly notify?: boolean;
  /** Whether statements are prepared. Set it to false behind a PgBouncer before 1.21 that pools transactions. @default true */
  readonly prepared?: boolean;
  /** How long the store tries to reach its server before a call fails: milliseconds, or a string such as `'10s'`. @default '10s' */
  readonly patience?: number | StringValue;
}

/** What an open store consists of. */
interface Parts {
  readonly database: Database;
  readonly notifications: Notifications;
  readonly floors: Floors;
  readonly reads: Reads;
  readonly appends: Appends;
  readonly writes: LeaseWrites;
  /** Ends the pool if it is the store's own. */
  end(): Promise<void>;
}

const PATIENCE = 10_000;
/** Streams whose last commit point is remembered; more than this come and go. */
const MOST_STREAMS = 10_000;

/**
 * Keeps streams in PostgreSQL 13 or later. Each call is one statement or one transaction, which checks the lease that it depends on, and
 * resolves when it is on disk.
 */
export class PostgresStreamStore implements StreamStore {
  readonly name = 'postgres';
  readonly maxMessageBytes = MAX_ENCODED_BYTES;
  /** Of one transaction, in statements of up to 16 MiB: the server and this process keep a few copies of one statement. */
  readonly maxEffectBytes = 64 * 1024 * 1024;
  readonly polling = { busy: 50, idle: 2_000 };
  /** Numbers are given within transactions, which commit in another order. */
  readonly totalOrder = false;
  readonly idPattern = ID_PATTERN;
  readonly patience: number;
  warnings: readonly string[] = [];
  private opening: Promise<Parts> | undefined;
  private opened: Parts | undefined;
  /** By stream, as its last commit point here has returned it. */
  private readonly formerMarks = new Map<string, boolean>();

  constructor(private readonly options: PostgresStoreOptions = {}) {
    this.patience = checkDuration('postgresStore', 'patience', options.patience ?? PATIENCE, { min: 0 });
  }

  /** @throws MinibatchError `MissingPackage` if pg is not installed, `SchemaTooNew`, `SchemaMissing`, `StoreDenied`, `StoreUnavailable` */
  async open(): Promise<void> {
    const opening = (this.opening ??= this.openParts());
    try {
      const parts = await opening;
      // Otherwise it was closed in the meantime.
      if (this.opening === opening) this.opened = parts;
    } catch (error) {
      if (this.opening === opening) this.opening = undefined;
      throw error;
    }
  }

  async close(): Promise<void> {
    const { opening } = this;
    this.opening = undefined;
    this.opened = undefined;
    const parts = await opening?.catch(() => undefined);
    await parts?.end();
  }

  // ---- streams and groups

  ensureStream(stream: string, made?: NewStream): Promise<StreamInfo> {
    return this.with(({ database }) => streams.ensureStream(database, stream, made));
  }

  describeStream(stream: string): Promise<StreamInfo | undefined> {
    return this.with(({ database }) => streams.describeStream(database, stream));
  }

  listStreams(names?: readonly string[]): Promise<readonly StreamInfo[]> {
    return this.with(({ database }) => streams.listStreams(database, names));
  }

  updateStream(stream: string, change: StreamUpdate): Promise<StreamInfo> {
    return this.with(({ database }) => streams.updateStream(database, stream, change));
  }

  dropStream(stream: string): Promise<void> {
    return this.with(({ database }) => streams.dropStream(database, stream));
  }

  registerGroup(key: GroupKey, options: RegisterGroupOptions = {}): Promise<void> {
    return this.with(async ({ database, notifications }) => {
      await registerGroup(database, key, options);
      if (options.timeOrder) await ensureTimeOrder(database);
      notifications.tell([key.stream]);
    });
  }

  removeGroup(stream: string, group: string): Promise<void> {
    return this.with(({ database }) => removeGroup(database, stream, group));
  }

  // ---- append

  append(messages: readonly NewMessage[], options: AppendOptions = {}): Promise<readonly AppendOutcome[]> {
    return this.with(({ appends }) => appends.append(messages, options));
  }

  readCheckpoint(stream: string, source: string): Promise<unknown> {
    return this.with(({ database }) => readCheckpoint(database, stream, source));
  }

  // ---- lease

  readLeases(keys: readonly ConsumerKey[]): Promise<readonly LeaseState[]> {
    return this.with(({ database }) => leases.readLeases(database, keys));
  }

  acquireLease(
    key: ConsumerKey,
    owner: LeaseOwner,
    expected: LeaseState,
    holdTime?: number,
  ): Promise<Lease | undefined> {
    return this.with(({ database }) => leases.acquireLease(database, key, owner, expected, holdTime));
  }

  requestLease(key: ConsumerKey, heir: LeaseOwner | undefined, expected: LeaseState): Promise<boolean> {
    return this.with(({ database }) => leases.requestLease(database, key, heir, expected));
  }

  renewLeases(held: readonly Renewal[]): Promise<readonly RenewalNotice[]> {
    return this.with(({ database }) => leases.renewLeases(database, held));
  }

  releaseLease(lease: Lease): Promise<void> {
    return this.with(({ database }) => leases.releaseLease(database, lease));
  }

  // ---- the consumer's loop

  recover(lease: Lease): Promise<Recovery> {
    return this.with(({ database }) => claims.recover(database, lease));
  }

  fetch(key: ConsumerKey, after: MessageId | undefined, limits: FetchLimits): Promise<Block> {
    return this.with(({ reads }) => reads.fetch(key, after, limits));
  }

  fetchByTime(key: ConsumerKey, range: TimeRange, after: TimeCursor | undefined, limits: FetchLimits): Promise<Block> {
    return this.with(({ reads }) => reads.fetchByTime(key, range, after, limits));
  }

  scan(
    key: ConsumerKey,
    after: MessageId | undefined,
    until: MessageId | undefined,
    limit: number,
  ): Promise<readonly MessageId[]> {
    return this.with(({ reads }) => reads.scan(key, after, until, limit));
  }

  load(key: ConsumerKey, ids: readonly MessageId[]): Promise<readonly StoredMessage[]> {
    return this.with(({ reads }) => reads.load(key, ids));
  }

  async claim(lease: Lease, windows: readonly WindowRecord[]): Promise<void> {
    if (windows.length > 0) await this.with(({ writes }) => writes.write(lease, claims.claimWrite(lease, windows)));
  }

  async commit(lease: Lease, point: Commit, asked?: (count: number) => void): Promise<readonly string[]> {
    const effects = point.effects && prepareEffects(point.effects);
    const write = commitWrite(lease, point, effects);
    const committed = await this.with(async ({ writes, notifications }) => {
      const answer = await writes.write<Committed>(lease, write);
      if (effects) notifications.tell(effects.streams);
      return answer;
    });
    if (this.formerMarks.size >= MOST_STREAMS) this.formerMarks.clear();
    this.formerMarks.set(lease.key.stream, committed.has_former_marks);
    asked?.(committed.asked);
    return committed.groups;
  }

  async settle(lease: Lease, settled: readonly SettledWindow[], options: SettleOptions): Promise<void> {
    // What a recovery has found was committed elsewhere.
    const hasFormerMarks = this.formerMarks.get(lease.key.stream) ?? true;
    await this.with(({ writes }) => writes.write(lease, settleWrite(lease, settled, options, hasFormerMarks)));
  }

  findWindow(key: ConsumerKey, window: string): Promise<WindowRecord | undefined> {
    return this.with(({ database }) => findWindow(database, key, window));
  }

  reschedule(lease: Lease, window: WindowRecord): Promise<void> {
    return this.with(({ database }) => claims.reschedule(database, lease, window));
  }

  readState(key: ConsumerKey, slots: readonly string[]): Promise<readonly StateRow[]> {
    return this.with(({ database }) => readState(database, key, slots));
  }

  dueState(
    key: ConsumerKey,
    before: Date,
    after: Pick<StateRow, 'slot' | 'due'> | undefined,
    limits: StateLimits,
  ): Promise<readonly StateRow[]> {
    return this.with(({ database }) => dueState(database, key, before, after, limits));
  }

  listState(key: ConsumerKey, after: string | undefined, limits: StateLimits): Promise<StatePage> {
    return this.with(({ database }) => listState(database, key, after, limits));
  }

  // ---- dead letters

  bury(lease: Lease, letters: readonly NewDeadLetter[]): Promise<void> {
    return this.with(({ database }) => bury(database, lease, letters));
  }

  deadLetters(
    stream: string,
    filter: DeadLetterFilter,
    after: string | undefined,
    limit: number,
    bytes?: number,
  ): Promise<readonly DeadLetter[]> {
    return this.with(({ database }) => listLetters(database, stream, filter, after, limit, bytes));
  }

  redrive(stream: string, filter: DeadLetterFilter): Promise<number> {
    return this.with(async ({ database, notifications }) => {
      const count = await redriveLetters(database, stream, filter);
      if (count > 0) notifications.tell([stream]);
      return count;
    });
  }

  discard(stream: string, filter: DeadLetterFilter): Promise<number> {
    return this.with(({ database }) => discardLetters(database, stream, filter));
  }

  // ---- looking into a stream

  readKept(stream: string, after: MessageId | undefined, limits: FetchLimits): Promise<Block> {
    return this.with(({ database }) => readKept(database, stream, after, limits));
  }

  readWindows(
    key: ConsumerKey,
    state: 'claimed' | 'kept',
    after: string | undefined,
    limit: number,
  ): Promise<WindowPage> {
    return this.with(({ database }) => readWindows(database, key, state, after, limit));
  }

  replay(stream: string, group: string, range: KeptRange): Promise<number> {
    return this.with(async ({ database, notifications }) => {
      const count = await replayMessages(database, stream, group, range);
      if (count > 0) notifications.tell([stream]);
      return count;
    });
  }

  // ---- wake-ups and statistics

  watch(names: readonly string[], watcher: StreamWatcher, signal: AbortSignal): Promise<void> {
    return this.with(({ notifications }) => notifications.watch(names, watcher, signal));
  }

  poll(keys: readonly ConsumerKey[]): Promise<readonly string[]> {
    return this.with(({ database, floors }) => pollTokens(database, floors, keys));
  }

  count(stream: string, most: number): Promise<number> {
    return this.with(({ database, floors }) => countMessages(database, floors, stream, most));
  }

  stats(names?: readonly string[]): Promise<readonly StreamStats[]> {
    return this.with(({ database }) => streamStats(database, names));
  }

  sweep(stream: string, before: SweepTimes): Promise<SweepResult> {
    return this.with(({ database }) => sweep(database, stream, before));
  }

  expire(stream: string, before?: Date): Promise<number> {
    return this.with(({ database }) => expire(database, stream, before));
  }

  // ---- within

  private async openParts(): Promise<Parts> {
    const { schema = SCHEMA, migrate = true, notify = true, prepared = true } = this.options;
    const used = await poolOf(this.options, this.patience);
    const options = { schema, prepared, patience: this.patience };
    const tables = new Database(used.pool, options);
    const database = new Database(used.pool, options, () => prepareTables(tables, migrate));
    if (notify && database.most === 1) {
      await used.end();
      throw invalidOption(
        'postgresStore',
        'max',
        1,
        'a pool of 2 connections or more, because one listens for messages of other processes; or set `notify: false`',
      );
    }
    const notifications = new Notifications(database, notify);
    const floors = new Floors(database);
    const appends = new Appends(database, notifications, new KnownStreams(database));
    const parts: Parts = {
      database,
      notifications,
      floors,
      reads: new Reads(database, floors),
      appends,
      writes: new LeaseWrites(database),
      end: async () => {
        notifications.close();
        appends.close();
        database.close();
        tables.close();
        await used.end();
      },
    };
    try {
      await prepareTables(tables, migrate);
      this.warnings = await durabilityWarnings(database);
      return parts;
    } catch (error) {
      await parts.end();
      throw error;
    }
  }

  private async with<R>(work: (parts: Parts) => Promise<R>): Promise<R> {
    if (this.opened !== undefined) return work(this.opened);
    throw new MinibatchError(ErrorCode.StoreUnavailable, 'The PostgreSQL store is not open. Call open() first');
  }
}
