import { AppendError, ErrorCode, MinibatchError, messageOf } from '../../errors/minibatch.error.js';
import {
  decodeMessage,
  decodeValue,
  encodeMessage,
  encodeValue,
  isRedriven,
  MAX_ENCODED_BYTES,
} from '../encoded-message.js';
import { answered, type FailedCheckpoint, isDue } from '../checkpoints.js';
import { leaseLost, sessionUnsupported, unknownGroup, unknownStream } from '../store-faults.js';
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
import { toDeadLetter } from './dead-letter-list.js';
import { changedRequests } from '../window-requests.js';
import { MemoryDatabase } from './memory.database.js';
import { isVisible, type MemoryConsumer, type MemoryStream } from './memory.stream.js';
import type { BufferedEntry } from './message-list.js';

export { MemoryDatabase } from './memory.database.js';

/**
 * Keeps streams in memory: for tests, and to try things out. What is in it is gone with the process. It never waits for
 * anything, so that tests with a virtual clock are deterministic.
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

  async ensureStream(stream: string): Promise<StreamInfo> {
    const found = this.database.ensure(stream);
    if (found.status === 'init') found.status = 'open';
    return found.info();
  }

  async describeStream(stream: string): Promise<StreamInfo | undefined> {
    return this.database.streams.get(stream)?.info();
  }

  async listStreams(streams?: readonly string[]): Promise<readonly StreamInfo[]> {
    return this.pick(streams).map((stream) => stream.info());
  }

  async updateStream(stream: string, change: StreamUpdate): Promise<StreamInfo> {
    const found = this.database.streams.get(stream);
    if (found === undefined) throw unknownStream(stream);
    if (change.status !== undefined && change.status !== found.status) {
      found.status = change.status;
      found.closed = change.status === 'closed' ? new Date() : undefined;
    }
    if (change.paused !== undefined) found.paused = change.paused;
    if (change.flush) found.flushes += 1;
    if (change.clear) found.clear();
    found.requests = changedRequests(found.requests, change);
    return found.info();
  }

  async dropStream(stream: string): Promise<void> {
    this.database.streams.delete(stream);
  }

  async registerGroup(
    key: ConsumerKey,
    options: { readonly timeOrder?: boolean; readonly replaces?: string } = {},
  ): Promise<void> {
    const stream = this.database.ensure(key.stream);
    const { replaces } = options;
    if (replaces !== undefined && replaces !== key.group && stream.groups.has(replaces)) {
      // What a group has done on its own is not undone.
      if (stream.hasBegun(key.group)) stream.forget(replaces);
      else {
        stream.forget(key.group);
        stream.rename(replaces, key.group);
      }
      stream.letters.rename(replaces, key.group);
    }
    stream.groups.add(key.group);
    stream.ensureConsumer(key);
    stream.revision += 1;
  }

  async removeGroup(stream: string, group: string): Promise<void> {
    const found = this.database.streams.get(stream);
    if (!found?.groups.has(group)) throw unknownGroup(stream, group);
    found.forget(group);
  }

  // ---- append

  async append(messages: readonly NewMessage[], options: AppendOptions = {}): Promise<readonly AppendOutcome[]> {
    if (options.session !== undefined) throw appendError(sessionUnsupported(this.name));
    const outcomes = messages.map((message) => this.appendOne(message));
    const failed: FailedCheckpoint[] = [];
    for (const checkpoint of options.checkpoints ?? []) {
      if (!isDue(checkpoint, outcomes)) continue;
      try {
        const position = encodeValue(checkpoint.position);
        this.database.ensure(checkpoint.stream).checkpoints.set(checkpoint.source, position);
      } catch (error) {
        failed.push({ checkpoint, error });
      }
    }
    return answered(outcomes, failed);
  }

  async readCheckpoint(stream: string, source: string): Promise<unknown> {
    const stored = this.database.streams.get(stream)?.checkpoints.get(source);
    return stored && decodeValue(stored);
  }

  // ---- lease

  async readLeases(keys: readonly ConsumerKey[]): Promise<readonly LeaseState[]> {
    return keys.map(
      (key) => this.database.streams.get(key.stream)?.lease(key) ?? { fence: 0, counter: 0, missing: true },
    );
  }

  async acquireLease(
    key: ConsumerKey,
    owner: LeaseOwner,
    expected: LeaseState,
    holdTime?: number,
  ): Promise<Lease | undefined> {
    const stream = this.database.streams.get(key.stream);
    // What a group that is not registered committed would not be held for it.
    if (!stream?.groups.has(key.group)) return undefined;
    const consumer = stream.ensureConsumer(key);
    // The answer to the first call may have been lost: it is ours already.
    const repeated = consumer.owner?.id === owner.id && consumer.fence === expected.fence + 1;
    if (!repeated) {
      if (consumer.fence !== expected.fence || consumer.counter !== expected.counter) return undefined;
      consumer.owner = { ...owner };
      consumer.fence += 1;
      consumer.counter += 1;
      consumer.holdTime = holdTime;
    }
    return { key, owner, fence: consumer.fence };
  }

  async renewLeases(leases: readonly Renewal[]): Promise<readonly Lease[]> {
    return leases.filter((lease) => {
      const consumer = this.consumer(lease.key);
      if (consumer === undefined || !holds(consumer, lease)) return true;
      consumer.counter += 1;
      consumer.holdTime = lease.holdTime ?? consumer.holdTime;
      return false;
    });
  }

  async releaseLease(lease: Lease): Promise<void> {
    const consumer = this.consumer(lease.key);
    if (consumer === undefined || !holds(consumer, lease)) return;
    consumer.owner = undefined;
    consumer.holdTime = undefined;
    consumer.counter += 1;
  }

  // ---- the consumer's loop

  async recover(lease: Lease): Promise<Recovery> {
    // No window can be void here: a claim and its look at the lease are one step.
    const { stream, consumer } = this.held(lease);
    const windows = [...consumer.windows.values()].sort((a, b) => a.seq - b.seq);
    const finished = new Set(consumer.finished);
    return {
      progress: { ...consumer.progress },
      finished: windows.filter((window) => finished.has(window.seq)).map(copyWindow),
      open: windows.filter((window) => !finished.has(window.seq)).map(copyWindow),
      groups: [...stream.groups.keys()],
    };
  }

  async fetch(key: ConsumerKey, after: MessageId | undefined, limits: FetchLimits): Promise<Block> {
    const stream = this.database.streams.get(key.stream);
    return this.block(stream, this.visible(key, after), limits);
  }

  async fetchByTime(
    key: ConsumerKey,
    range: TimeRange,
    after: TimeCursor | undefined,
    limits: FetchLimits,
  ): Promise<Block> {
    const from = range.from?.getTime() ?? Number.NEGATIVE_INFINITY;
    const to = range.to?.getTime() ?? Number.POSITIVE_INFINITY;
    const entries = [...this.visible(key, undefined)]
      .filter(({ created, id }) => {
        if (created < from || created >= to) return false;
        if (after === undefined) return true;
        const cursor = after.created.getTime();
        return created > cursor || (created === cursor && id > after.id);
      })
      // Stable, and they come in the order of their ids.
      .sort((a, b) => a.created - b.created);
    return this.block(this.database.streams.get(key.stream), entries, limits);
  }

  async scan(
    key: ConsumerKey,
    after: MessageId | undefined,
    until: MessageId | undefined,
    limit: number,
  ): Promise<readonly MessageId[]> {
    const ids: MessageId[] = [];
    for (const { id } of this.visible(key, after)) {
      if (ids.length >= limit || (until !== undefined && id > until)) break;
      ids.push(id);
    }
    return ids;
  }

  async load(key: ConsumerKey, ids: readonly MessageId[]): Promise<readonly StoredMessage[]> {
    const stream = this.database.streams.get(key.stream);
    if (stream === undefined) return [];
    return ids
      .map((id) => stream.messages.get(id))
      .filter((entry) => entry !== undefined)
      .filter((entry) => isVisible(entry, key))
      .map((entry) => toMessage(stream, entry));
  }

  async claim(lease: Lease, windows: readonly WindowRecord[]): Promise<void> {
    const { consumer } = this.held(lease);
    for (const window of windows) consumer.windows.set(window.seq, copyWindow(window));
  }

  async commit(lease: Lease, commit: Commit): Promise<readonly string[]> {
    const { stream, consumer } = this.held(lease);
    consumer.finished = [...commit.finished];
    consumer.progress = { ...commit.progress };
    consumer.counter += 1;
    return [...stream.groups];
  }

  async settle(lease: Lease, windows: readonly SettledWindow[], options: SettleOptions): Promise<void> {
    const { stream, consumer } = this.held(lease);
    const { group } = lease.key;
    const { keep, at = new Date() } = options;
    // A group that was removed after the commit point holds nothing back.
    const waiting = options.groups.filter((other) => other !== group && stream.groups.has(other));
    for (const { window, messages } of windows) {
      for (const { id } of messages) {
        const entry = stream.messages.get(id);
        if (entry !== undefined) stream.done(entry, group, waiting, { keep, at });
      }
      const claimed = consumer.windows.get(window.seq);
      consumer.windows.delete(window.seq);
      if (claimed !== undefined && keep) {
        stream.keptWindows.add({ settled: at, group, partition: lease.key.partition, window: claimed });
      }
    }
  }

  async findWindow(key: ConsumerKey, window: string): Promise<WindowRecord | undefined> {
    const found = [...(this.consumer(key)?.windows.values() ?? [])].find(({ id }) => id === window);
    return found && copyWindow(found);
  }

  async reschedule(lease: Lease, window: WindowRecord): Promise<void> {
    const { consumer } = this.held(lease);
    if (consumer.windows.has(window.seq)) consumer.windows.set(window.seq, copyWindow(window));
  }

  // ---- dead letters

  async bury(lease: Lease, letters: readonly NewDeadLetter[]): Promise<void> {
    const { stream } = this.held(lease);
    for (const letter of letters) stream.letters.bury(lease.key, letter, () => this.database.nextId());
  }

  async deadLetters(
    stream: string,
    filter: DeadLetterFilter,
    after: string | undefined,
    limit: number,
  ): Promise<readonly DeadLetter[]> {
    const found: DeadLetter[] = [];
    for (const letter of this.database.streams.get(stream)?.letters.select(filter, after) ?? []) {
      if (found.length >= limit) break;
      found.push(toDeadLetter(stream, letter));
    }
    return found;
  }

  async redrive(stream: string, filter: DeadLetterFilter): Promise<number> {
    const found = this.database.streams.get(stream);
    if (found === undefined) return 0;
    const letters = [...found.letters.select(filter)];
    return letters.filter((letter) => found.redrive(letter, this.database.nextId())).length;
  }

  async discard(stream: string, filter: DeadLetterFilter): Promise<number> {
    const box = this.database.streams.get(stream)?.letters;
    const letters = [...(box?.select(filter) ?? [])];
    for (const letter of letters) box?.delete(letter);
    return letters.length;
  }

  // ---- looking into a stream

  async readKept(stream: string, after: MessageId | undefined, limits: FetchLimits): Promise<Block> {
    const found = this.database.streams.get(stream);
    return readBlock(found?.kept.after(after) ?? [], limits, ({ id, encoded }) => decodeMessage(id, encoded));
  }

  async readWindows(
    key: ConsumerKey,
    state: 'claimed' | 'kept',
    after: string | undefined,
    limit: number,
  ): Promise<WindowPage> {
    const stream = this.database.streams.get(key.stream);
    if (stream === undefined) return { windows: [] };
    if (state === 'kept') return stream.keptWindows.page(key.group, key.partition, after, limit);
    const { windows = new Map<number, WindowRecord>(), finished = [] } = stream.consumer(key) ?? {};
    const claimed = [...windows.values()].sort((a, b) => a.seq - b.seq);
    return {
      windows: claimed.map((window) => ({
        ...copyWindow(window),
        ...(finished.includes(window.seq) && { finished: true as const }),
      })),
    };
  }

  async replay(stream: string, group: string, range: KeptRange): Promise<number> {
    const found = this.database.streams.get(stream);
    const kept = [...(found?.kept.after(undefined) ?? [])].filter((entry) => isInRange(entry, range));
    return found?.replay(group, kept, () => this.database.nextId()) ?? 0;
  }

  // ---- wake-ups and statistics

  async poll(keys: readonly ConsumerKey[]): Promise<readonly string[]> {
    return keys.map((key) => {
      const stream = this.database.streams.get(key.stream);
      return stream === undefined ? '' : `${stream.serial}.${stream.revision}`;
    });
  }

  async count(stream: string, most: number): Promise<number> {
    return Math.min(this.database.streams.get(stream)?.messages.size ?? 0, most);
  }

  async stats(streams?: readonly string[]): Promise<readonly StreamStats[]> {
    return this.pick(streams).map((stream) => stream.stats());
  }

  async sweep(stream: string, before: { readonly tombstones?: Date; readonly kept?: Date }): Promise<SweepResult> {
    const found = this.database.streams.get(stream);
    if (found === undefined) return { tombstones: 0, messages: 0, windows: 0 };
    let tombstones = 0;
    const { tombstones: oldest, kept } = before;
    if (oldest !== undefined) {
      for (const [id, { settled }] of found.dedupe) {
        if (settled === undefined || settled >= oldest) continue;
        found.dedupe.delete(id);
        tombstones += 1;
      }
    }
    if (kept === undefined) return { tombstones, messages: 0, windows: 0 };
    return { tombstones, messages: found.kept.sweep(kept), windows: found.keptWindows.sweep(kept) };
  }

  async expire(stream: string, before?: Date): Promise<number> {
    const found = this.database.streams.get(stream);
    if (found === undefined || found.groups.size > 0) return 0;
    const now = new Date();
    const limit = before?.getTime() ?? Number.NEGATIVE_INFINITY;
    const old = [...found.messages.after(undefined)].filter(
      (entry) => found.isCleared(entry) || (entry.created < limit && !isRedriven(entry.encoded)),
    );
    for (const entry of old) found.remove(entry, now);
    return old.length;
  }

  // ---- within

  private appendOne(message: NewMessage): AppendOutcome {
    try {
      const encoded = encodeMessage(message);
      const stream = this.database.ensure(message.stream);
      const { dedupeId } = message;
      if (dedupeId !== undefined && stream.dedupe.has(dedupeId)) return { status: 'duplicate' };
      const id = this.database.nextId();
      stream.messages.push({
        id,
        partition: message.partition ?? 0,
        created: message.created.getTime(),
        encoded,
        ...(dedupeId !== undefined && { dedupeId }),
        doneBy: new Set(),
      });
      if (dedupeId !== undefined) stream.dedupe.set(dedupeId, { settled: undefined });
      stream.revision += 1;
      return { status: 'stored', id };
    } catch (error) {
      return { status: 'failed', error: appendError(error) };
    }
  }

  private consumer(key: ConsumerKey): MemoryConsumer | undefined {
    return this.database.streams.get(key.stream)?.consumer(key);
  }

  private held(lease: Lease): { stream: MemoryStream; consumer: MemoryConsumer } {
    const stream = this.database.streams.get(lease.key.stream);
    const consumer = stream?.consumer(lease.key);
    if (stream === undefined || consumer === undefined || !holds(consumer, lease)) throw leaseLost(lease.key);
    return { stream, consumer };
  }

  /** By name; those that exist. */
  private pick(names: readonly string[] | undefined): MemoryStream[] {
    const { streams } = this.database;
    return [...(names === undefined ? streams.keys() : new Set(names))]
      .sort()
      .map((name) => streams.get(name))
      .filter((stream) => stream !== undefined);
  }

  private *visible(key: ConsumerKey, after: MessageId | undefined): Generator<BufferedEntry> {
    const stream = this.database.streams.get(key.stream);
    if (stream === undefined) return;
    for (const entry of stream.messages.after(after)) if (isVisible(entry, key)) yield entry;
  }

  private block(stream: MemoryStream | undefined, entries: Iterable<BufferedEntry>, limits: FetchLimits): Block {
    if (stream === undefined) return { messages: [], full: false };
    return readBlock(entries, limits, (entry) => toMessage(stream, entry));
  }
}

function readBlock(
  entries: Iterable<BufferedEntry>,
  limits: FetchLimits,
  toStored: (entry: BufferedEntry) => StoredMessage,
): Block {
  const messages: StoredMessage[] = [];
  let bytes = 0;
  for (const entry of entries) {
    messages.push(toStored(entry));
    bytes += entry.encoded.length;
    if (messages.length >= limits.messages || bytes >= limits.bytes) return { messages, full: true };
  }
  return { messages, full: false };
}

function isInRange({ id, created }: BufferedEntry, { from, to, created: time }: KeptRange): boolean {
  if ((from !== undefined && id < from) || (to !== undefined && id >= to)) return false;
  return created >= (time?.from?.getTime() ?? -Infinity) && created < (time?.to?.getTime() ?? Infinity);
}

function toMessage(stream: MemoryStream, entry: BufferedEntry): StoredMessage {
  const message = decodeMessage(entry.id, entry.encoded);
  return stream.isCleared(entry) ? Object.assign(message, { cleared: true }) : message;
}

function holds(consumer: MemoryConsumer, lease: Lease): boolean {
  return consumer.fence === lease.fence && consumer.owner?.id === lease.owner.id;
}

function copyWindow(window: WindowRecord): WindowRecord {
  return structuredClone(window);
}

function appendError(error: unknown): AppendError {
  if (error instanceof AppendError) return error;
  const code = error instanceof MinibatchError ? error.code : ErrorCode.AppendFailed;
  return new AppendError(code, `append failed: ${messageOf(error)}`, 'no', { cause: error });
}
