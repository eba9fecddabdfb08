import { withoutCode } from '../../errors/error-text.js';
import { AppendError, ErrorCode, MinibatchError, messageOf } from '../../errors/minibatch.error.js';
import { answered } from '../checkpoints.js';
import { MAX_ENCODED_BYTES } from '../encoded-message.js';
import { sessionUnsupported, unknownStream } from '../store-faults.js';
import type {
  AppendOptions,
  AppendOutcome,
  Block,
  Commit,
  ConsumerKey,
  DeadLetter,
  DeadLetterFilter,
  FetchLimits,
  KeptRange,
  Lease,
  LeaseOwner,
  LeaseState,
  MessageId,
  NewDeadLetter,
  NewMessage,
  Recovery,
  Renewal,
  SettledWindow,
  SettleOptions,
  StoredMessage,
  StreamInfo,
  StreamStats,
  StreamStore,
  StreamUpdate,
  SweepResult,
  TimeCursor,
  TimeRange,
  WindowPage,
  WindowRecord,
} from '../stream-store.interface.js';
import {
  checkSchema,
  ensureStreamRecord,
  ensureTimeOrder,
  findStream,
  findStreamId,
  infoOf,
  pickStreams,
  saveStream,
  tailOf,
} from './streams.js';
import { cleanUp, dropStream, expireSome } from './cleanup.js';
import { LmdbEnvironment } from './environment.js';
import * as groups from './groups.js';
import { ensureKeptOrder, readKept, readKeptWindows } from './kept-messages.js';
import * as leases from './leases.js';
import { bury, listLetters, prepareLetter } from './dead-letters.js';
import { fetchMessages, fetchMessagesByTime, loadMessages, prepare, scanMessages, writeMessages } from './reads.js';
import { EncodedCheckpoints, readCheckpoint } from './checkpoints.js';
import type { StreamRecord } from './records.js';
import { discardLetters, redriveLetters } from './redrive.js';
import { replayMessages } from './replay.js';
import { countMessages, pollToken, streamStats, sweepSome } from './statistics.js';
import type { ReadView, WriteView } from './view.js';
import * as windows from './claims.js';
import { changedRequests } from '../window-requests.js';
import { WriteFailed } from './write-failed.js';

export interface LmdbStoreOptions {
  /** A directory on a local disk; made if it is not there. Processes of one host share it by giving the same. */
  readonly path: string;
  /** Most processes that may have the path open at the same time. @default 126 */
  readonly maxReaders?: number;
  /**
   * Permissions of the files that the store makes, as for `chmod`; the process's umask may take some away. A directory that it makes is
   * open to whoever may read or write the files. Files that are there keep theirs. @default 0o600
   */
  readonly mode?: number;
}

/** Records that one transaction of a sweep removes. */
const SWEEP_CHUNK = 5_000;
/** Messages that one transaction looks at to find old ones. */
const EXPIRE_CHUNK = 1_000;

/**
 * Keeps streams in an LMDB environment: embedded, durable, shared by the processes of one host.
 *
 * Every write is one transaction that looks again at all it depends on, so that several processes may use the path at the
 * same time, and resolves when it is on disk. Messages have a total order. Writes made at the same time share a sync.
 */
export class LmdbStreamStore implements StreamStore {
  readonly name = 'lmdb';
  readonly maxMessageBytes = MAX_ENCODED_BYTES;
  readonly polling = { busy: 20, idle: 250 };
  /** Numbers are given inside of write transactions, which come one after the other. */
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
      // Else it was closed meanwhile.
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

  ensureStream(stream: string): Promise<StreamInfo> {
    return this.write((view) => {
      const found = ensureStreamRecord(view, stream);
      return infoOf(found.status === 'init' ? saveStream(view, { ...found, status: 'open' }) : found);
    });
  }

  async describeStream(stream: string): Promise<StreamInfo | undefined> {
    return this.read((view) => {
      const found = findStream(view, stream);
      return found && infoOf(found);
    });
  }

  async listStreams(streams?: readonly string[]): Promise<readonly StreamInfo[]> {
    return this.read((view) => pickStreams(view, streams).map(infoOf));
  }

  updateStream(stream: string, change: StreamUpdate): Promise<StreamInfo> {
    return this.write((view) => {
      const found = findStream(view, stream);
      if (found === undefined) throw unknownStream(stream);
      return infoOf(saveStream(view, changed(found, change, tailOf(view, found.id).lastSeq)));
    });
  }

  async dropStream(stream: string): Promise<void> {
    await this.write((view) => dropStream(view, stream));
    await this.cleanUp();
  }

  async registerGroup(
    key: ConsumerKey,
    options: { readonly timeOrder?: boolean; readonly replaces?: string } = {},
  ): Promise<void> {
    const leaves = await this.write((view) => groups.register(view, key, options));
    if (leaves) await this.cleanUp();
  }

  async removeGroup(stream: string, group: string): Promise<void> {
    await this.write((view) => groups.remove(view, stream, group));
    await this.cleanUp();
  }

  // ---- append

  async append(messages: readonly NewMessage[], options: AppendOptions = {}): Promise<readonly AppendOutcome[]> {
    if (options.session !== undefined) throw appendError(sessionUnsupported(this.name));
    const { checkpoints = [] } = options;
    if (messages.length === 0 && checkpoints.length === 0) return [];
    const encoded = new EncodedCheckpoints(checkpoints);
    let outcomes: readonly AppendOutcome[];
    try {
      const prepared = messages.map(prepare);
      outcomes = await this.write((view) => {
        const written = writeMessages(view, prepared);
        encoded.write(view, written);
        return written;
      });
    } catch (error) {
      throw appendError(error);
    }
    return answered(outcomes, encoded.failed(outcomes));
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

  async renewLeases(held: readonly Renewal[]): Promise<readonly Lease[]> {
    if (held.length === 0) return [];
    return this.write((view) => held.filter((lease) => !leases.renew(view, lease)));
  }

  releaseLease(lease: Lease): Promise<void> {
    return this.write((view) => leases.release(view, lease));
  }

  // ---- the consumer's loop

  async recover(lease: Lease): Promise<Recovery> {
    return this.read((view) => windows.recover(view, lease));
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

  async claim(lease: Lease, claimed: readonly WindowRecord[]): Promise<void> {
    if (claimed.length > 0) await this.write((view) => windows.claim(view, lease, claimed));
  }

  commit(lease: Lease, commit: Commit): Promise<readonly string[]> {
    return this.write((view) => windows.commit(view, lease, commit));
  }

  settle(lease: Lease, settled: readonly SettledWindow[], options: SettleOptions): Promise<void> {
    const now = options.at?.getTime() ?? Date.now();
    return this.write((view) => windows.settle(view, lease, settled, options, now));
  }

  async findWindow(key: ConsumerKey, window: string): Promise<WindowRecord | undefined> {
    return this.read((view) => windows.find(view, key, window));
  }

  reschedule(lease: Lease, window: WindowRecord): Promise<void> {
    return this.write((view) => windows.reschedule(view, lease, window));
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
  ): Promise<readonly DeadLetter[]> {
    return this.read((view) => listLetters(view, stream, filter, after, limit));
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
    return this.read((view) =>
      state === 'kept' ? readKeptWindows(view, key, after, limit) : { windows: windows.claimed(view, key) },
    );
  }

  async replay(stream: string, group: string, range: KeptRange): Promise<number> {
    await ensureKeptOrder(this.ready(), stream);
    return replayMessages(this.ready(), stream, group, range);
  }

  // ---- wake-ups and statistics

  async poll(keys: readonly ConsumerKey[]): Promise<readonly string[]> {
    return this.read((view) => keys.map((key) => pollToken(view, findStreamId(view, key.stream))));
  }

  async count(stream: string, most: number): Promise<number> {
    return this.read((view) => Math.min(countMessages(view, stream), most));
  }

  async stats(streams?: readonly string[]): Promise<readonly StreamStats[]> {
    return this.read((view) => streamStats(view, streams));
  }

  async sweep(stream: string, before: { readonly tombstones?: Date; readonly kept?: Date }): Promise<SweepResult> {
    const total = { tombstones: 0, messages: 0, windows: 0 };
    for (;;) {
      const {
        tombstones,
        messages,
        windows: kept,
      } = await this.write((view) => sweepSome(view, stream, before, SWEEP_CHUNK));
      total.tombstones += tombstones;
      total.messages += messages;
      total.windows += kept;
      if (Math.max(tombstones, messages, kept) < SWEEP_CHUNK) return total;
    }
  }

  async expire(stream: string, before?: Date): Promise<number> {
    for (let total = 0; ;) {
      const expired = await this.write((view) => expireSome(view, stream, before?.getTime(), EXPIRE_CHUNK));
      if (expired === 0) return total;
      total += expired;
    }
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
    throw new WriteFailed('no', `The LMDB store at '${this.options.path}' is not open. Call open() before`);
  }

  private read<R>(look: (view: ReadView) => R): R {
    return this.ready().read(look);
  }

  private async write<R>(change: (view: WriteView) => R): Promise<R> {
    return this.ready().write(change);
  }

  private cleanUp(): Promise<void> {
    return cleanUp(this.ready());
  }
}

/** @param lastSeq number of the last message that was appended */
function changed(stream: StreamRecord, change: StreamUpdate, lastSeq: number): StreamRecord {
  const { closed, ...rest } = stream;
  const status = change.status ?? stream.status;
  const closedAt = status === 'closed' ? (closed ?? new Date()) : undefined;
  return {
    ...rest,
    status,
    ...(closedAt !== undefined && { closed: closedAt }),
    paused: change.paused ?? stream.paused,
    flushes: stream.flushes + (change.flush ? 1 : 0),
    ...(change.clear && { clearings: (stream.clearings ?? 0) + 1, clearedTo: lastSeq }),
    requests: changedRequests(stream.requests, change),
  };
}

function appendError(error: unknown): AppendError {
  if (error instanceof AppendError) return error;
  const code = error instanceof MinibatchError ? error.code : ErrorCode.AppendFailed;
  const stored = error instanceof WriteFailed ? error.stored : 'no';
  return new AppendError(code, `append failed: ${withoutCode(messageOf(error))}`, stored, {
    cause: error,
  });
}
