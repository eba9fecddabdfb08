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
  StreamChanges,
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
import { cleanUp } from './cleanup.js';
import { commit } from './commit.js';
import { bury, discardLetters, listLetters, prepareLetter } from './dead-letters.js';
import { LmdbEnvironment } from './environment.js';
import * as groups from './groups.js';
import { ensureKeptOrder } from './kept-messages.js';
import * as leases from './leases.js';
import { fetchMessages, fetchMessagesByTime, loadMessages, scanMessages } from './reads.js';
import { redriveLetters } from './redrive.js';
import { replayMessages } from './replay.js';
import { expire, sweep } from './retention.js';
import { settle } from './settle.js';
import { dueState, listState, prepareEffects, readState } from './state.js';
import { countMessages, pollToken, streamStats } from './statistics.js';
import { checkSchema, ensureTimeOrder, findStreamId, streamById, tailOf } from './stream-records.js';
import * as streams from './streams.js';
import type { ReadView, WriteView } from './view.js';
import { findWindow, readKept, readWindows } from './windows.js';
import { WriteFailed } from './write-failed.js';

export interface LmdbStoreOptions {
  /** A directory on a local disk; created if it does not exist. Processes of one host that give the same path share it. */
  readonly path: string;
  /** Maximum number of processes that have the path open at the same time. @default 126 */
  readonly maxReaders?: number;
  /**
   * Permissions of the files that the store makes, as for `chmod`; the process's umask may take some away. A directory that it makes is
   * open to everyone who may read or write the files. Existing files keep theirs. @default 0o600
   */
  readonly mode?: number;
}

/**
 * Keeps streams in an LMDB environment: embedded, durable, shared by the processes of one host.
 *
 * Every write is one transaction that checks again everything it depends on, so that several processes may use the path at the
 * same time, and resolves when it is on disk. Messages have a total order. Writes made at the same time share a sync.
 */
export class LmdbStreamStore implements StreamStore {
  readonly name = 'lmdb';
  readonly maxMessageBytes = MAX_ENCODED_BYTES;
  /** Of one transaction: written in a fraction of a second, while all other writers of the path wait. */
  readonly maxEffectBytes = 64 * 1024 * 1024;
  readonly polling = { busy: 20, idle: 250 };
  /** Numbers are given inside write transactions, which run one after the other. */
  readonly totalOrder = true;
  readonly idPattern = /^[0-9a-f]{20}$/;
  private opening: Promise<LmdbEnvironment> | undefined;
  private environment: LmdbEnvironment | undefined;

  constructor(private readonly options: LmdbStoreOptions) {}

  /**
   * @throws MinibatchError `MissingPackage` if the package lmdb is not installed, `StorePath` if the path can't be used,
   *   `StoreDamaged` if its data file was cut off, `StoreInUse` if a process has it open that can't share it, `SchemaTooNew` if a
   *   newer version of this package wrote it
   */
  async open(): Promise<void> {
    const opening = (this.opening ??= this.openEnvironment());
    try {
      const environment = await opening;
      // Otherwise it was closed in the meantime.
      if (this.opening === opening) this.environment = environment;
    } catch (error) {
      if (this.opening === opening) this.opening = undefined;
      throw error;
    }
  }

  async close(): Promise<void> {
    const { opening } = this;
    this.opening = undefined;
    this.environment = undefined;
    await (await opening?.catch(() => undefined))?.close();
  }

  // ---- streams and groups

  ensureStream(stream: string, made?: NewStream): Promise<StreamInfo> {
    return this.write((view) => streams.ensureStream(view, stream, made));
  }

  async describeStream(stream: string): Promise<StreamInfo | undefined> {
    return this.read((view) => streams.describeStream(view, stream));
  }

  async listStreams(names?: readonly string[]): Promise<readonly StreamInfo[]> {
    return this.read((view) => streams.listStreams(view, names));
  }

  updateStream(stream: string, change: StreamUpdate): Promise<StreamInfo> {
    return this.write((view) => streams.updateStream(view, stream, change));
  }

  async dropStream(stream: string): Promise<void> {
    await this.write((view) => streams.dropStream(view, stream));
    await this.cleanUp();
  }

  async registerGroup(key: GroupKey, options: RegisterGroupOptions = {}): Promise<void> {
    const leaves = await this.write((view) => groups.register(view, key, options));
    if (leaves) await this.cleanUp();
  }

  async removeGroup(stream: string, group: string): Promise<void> {
    await this.write((view) => groups.remove(view, stream, group));
    await this.cleanUp();
  }

  // ---- append

  append(messages: readonly NewMessage[], options: AppendOptions = {}): Promise<readonly AppendOutcome[]> {
    return append((change) => this.write(change), messages, options);
  }

  async readCheckpoint(stream: string, source: string): Promise<unknown> {
    return this.read((view) => readCheckpoint(view, stream, source));
  }

  // ---- lease

  async readLeases(keys: readonly ConsumerKey[]): Promise<readonly LeaseState[]> {
    return this.read((view) => keys.map((key) => leases.readLease(view, key)));
  }

  acquireLease(
    key: ConsumerKey,
    owner: LeaseOwner,
    expected: LeaseState,
    holdTime?: number,
  ): Promise<Lease | undefined> {
    return this.write((view) => leases.acquire(view, key, owner, expected, holdTime));
  }

  requestLease(key: ConsumerKey, heir: LeaseOwner | undefined, expected: LeaseState): Promise<boolean> {
    return this.write((view) => leases.request(view, key, heir, expected));
  }

  async renewLeases(held: readonly Renewal[]): Promise<readonly RenewalNotice[]> {
    if (held.length === 0) return [];
    return this.write((view) => held.flatMap((lease) => leases.renew(view, lease) ?? []));
  }

  releaseLease(lease: Lease): Promise<void> {
    return this.write((view) => leases.release(view, lease));
  }

  // ---- the consumer's loop

  async recover(lease: Lease): Promise<Recovery> {
    return this.read((view) => claims.recover(view, lease));
  }

  async fetch(key: ConsumerKey, after: MessageId | undefined, limits: FetchLimits): Promise<Block> {
    return this.read((view) => fetchMessages(view, key, after, limits));
  }

  async fetchByTime(
    key: ConsumerKey,
    range: TimeRange,
    after: TimeCursor | undefined,
    limits: FetchLimits,
  ): Promise<Block> {
    const unindexed = this.read((view) => {
      const stream = findStreamId(view, key.stream);
      return stream === undefined || tailOf(view, stream).timeOrder ? undefined : stream;
    });
    // A consumer that reads by time says so when it registers; one that did not is served all the same.
    if (unindexed !== undefined) await this.write((view) => ensureTimeOrder(view, unindexed));
    return this.read((view) => fetchMessagesByTime(view, key, range, after, limits));
  }

  async scan(
    key: ConsumerKey,
    after: MessageId | undefined,
    until: MessageId | undefined,
    limit: number,
  ): Promise<readonly MessageId[]> {
    return this.read((view) => scanMessages(view, key, after, until, limit));
  }

  async load(key: ConsumerKey, ids: readonly MessageId[]): Promise<readonly StoredMessage[]> {
    return this.read((view) => loadMessages(view, key, ids));
  }

  async claim(lease: Lease, windows: readonly WindowRecord[]): Promise<void> {
    if (windows.length > 0) await this.write((view) => claims.claim(view, lease, windows));
  }

  async commit(lease: Lease, point: Commit, asked?: (count: number) => void): Promise<readonly string[]> {
    const effects = point.effects && prepareEffects(point.effects);
    const committed = await this.write((view) => commit(view, lease, point, effects));
    asked?.(committed.asked);
    return committed.groups;
  }

  settle(lease: Lease, settled: readonly SettledWindow[], options: SettleOptions): Promise<void> {
    return this.write((view) => settle(view, lease, settled, options));
  }

  async findWindow(key: ConsumerKey, window: string): Promise<WindowRecord | undefined> {
    return this.read((view) => findWindow(view, key, window));
  }

  reschedule(lease: Lease, window: WindowRecord): Promise<void> {
    return this.write((view) => claims.reschedule(view, lease, window));
  }

  async readState(key: ConsumerKey, slots: readonly string[]): Promise<readonly StateRow[]> {
    return this.read((view) => readState(view, key, slots));
  }

  async dueState(
    key: ConsumerKey,
    before: Date,
    after: Pick<StateRow, 'slot' | 'due'> | undefined,
    limits: StateLimits,
  ): Promise<readonly StateRow[]> {
    return this.read((view) => dueState(view, key, before, after, limits));
  }

  async listState(key: ConsumerKey, after: string | undefined, limits: StateLimits): Promise<StatePage> {
    return this.read((view) => listState(view, key, after, limits));
  }

  // ---- dead letters

  async bury(lease: Lease, letters: readonly NewDeadLetter[]): Promise<void> {
    if (letters.length === 0) return;
    const prepared = letters.map(prepareLetter);
    await this.write((view) => bury(view, lease, prepared));
  }

  async deadLetters(
    stream: string,
    filter: DeadLetterFilter,
    after: string | undefined,
    limit: number,
    bytes?: number,
  ): Promise<readonly DeadLetter[]> {
    return this.read((view) => listLetters(view, stream, filter, after, limit, bytes));
  }

  async redrive(stream: string, filter: DeadLetterFilter): Promise<number> {
    return redriveLetters(this.ready(), stream, filter);
  }

  async discard(stream: string, filter: DeadLetterFilter): Promise<number> {
    return discardLetters(this.ready(), stream, filter);
  }

  // ---- looking into a stream

  async readKept(stream: string, after: MessageId | undefined, limits: FetchLimits): Promise<Block> {
    await ensureKeptOrder(this.ready(), stream);
    return this.read((view) => readKept(view, stream, after, limits));
  }

  async readWindows(
    key: ConsumerKey,
    state: 'claimed' | 'kept',
    after: string | undefined,
    limit: number,
  ): Promise<WindowPage> {
    return this.read((view) => readWindows(view, key, state, after, limit));
  }

  async replay(stream: string, group: string, range: KeptRange): Promise<number> {
    await ensureKeptOrder(this.ready(), stream);
    return replayMessages(this.ready(), stream, group, range);
  }

  // ---- wake-ups and statistics

  async poll(keys: readonly ConsumerKey[]): Promise<readonly string[]> {
    return this.read((view) => keys.map((key) => pollToken(view, findStreamId(view, key.stream))));
  }

  async changedStreams(since: string | undefined): Promise<StreamChanges> {
    const { changes } = this.ready();
    return this.read((view) => changes.since(since, (stream) => streamById(view, stream)?.name));
  }

  async count(stream: string, most: number): Promise<number> {
    return this.read((view) => Math.min(countMessages(view, stream), most));
  }

  async stats(streams?: readonly string[]): Promise<readonly StreamStats[]> {
    return this.read((view) => streamStats(view, streams));
  }

  async sweep(stream: string, before: SweepTimes): Promise<SweepResult> {
    return sweep(this.ready(), stream, before);
  }

  async expire(stream: string, before?: Date): Promise<number> {
    return expire(this.ready(), stream, before);
  }

  // ---- within

  private async openEnvironment(): Promise<LmdbEnvironment> {
    const { path, maxReaders = 126, mode = 0o600 } = this.options;
    const environment = await LmdbEnvironment.open(path, maxReaders, mode);
    try {
      await environment.write((view) => checkSchema(view, path));
      await cleanUp(environment);
      return environment;
    } catch (error) {
      await environment.close();
      throw error;
    }
  }

  private ready(): LmdbEnvironment {
    if (this.environment !== undefined) return this.environment;
    throw new WriteFailed('no', `The LMDB store at '${this.options.path}' is not open. Call open() first`);
  }

  private read<R>(query: (view: ReadView) => R): R {
    return this.ready().read(query);
  }

  private async write<R>(change: (view: WriteView) => R): Promise<R> {
    return this.ready().write(change);
  }

  private cleanUp(): Promise<void> {
    return cleanUp(this.ready());
  }
}
