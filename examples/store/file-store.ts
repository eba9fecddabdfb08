import {
  answered,
  type AppendOptions,
  type AppendOutcome,
  type Block,
  type Commit,
  type ConsumerKey,
  createdOf,
  type DeadLetter,
  type DeadLetterFilter,
  decodeValue,
  type FailedCheckpoint,
  type FetchLimits,
  type GroupKey,
  type Lease,
  type LeaseOwner,
  type LeaseState,
  MAX_ENCODED_BYTES,
  type MessageId,
  type NewDeadLetter,
  type NewMessage,
  type NewStream,
  type Recovery,
  type RegisterGroupOptions,
  type Renewal,
  type RenewalNotice,
  sessionUnsupported,
  type SettledWindow,
  type SettleOptions,
  type StoredMessage,
  type StreamInfo,
  type StreamStats,
  type StreamStore,
  type StreamUpdate,
  type SweepResult,
  type SweepTimes,
  type TimeCursor,
  type TimeRange,
  unknownGroup,
  unknownStream,
  type WindowRecord,
} from 'nestjs-minibatch/store';
import { addLetter, matches, redriveLetters, toDeadLetter } from './dead-letters.js';
import { expireMessages, removeWhere, sweepStream } from './retention.js';
import {
  appendError,
  appendOne,
  changeHeir,
  encode,
  endLease,
  ensureConsumer,
  ensureConsumers,
  ensureStream,
  findConsumer,
  findHeld,
  forgetGroup,
  held,
  infoOf,
  isVisible,
  leaseOf,
  renewLease,
  replaceGroup,
  settleWindow,
  statsOf,
  storeCheckpoints,
  toMessage,
  updateStream,
} from './state.js';
import type { Entry, StateFile, StreamState } from './state-file.js';

/**
 * A small store: all streams lie in one file, which each change replaces as a whole. It is durable and complete but for the optional
 * methods of the port (`watch`, `readKept`, `readWindows`, `replay`), and as slow as the file is large.
 */
export class FileStore implements StreamStore {
  readonly name = 'file';
  readonly maxMessageBytes = MAX_ENCODED_BYTES;
  readonly polling = { busy: 20, idle: 250 };
  readonly totalOrder = true;

  /** Stores on the same `StateFile` share their streams. */
  constructor(private readonly file: StateFile) {}

  async open(): Promise<void> {
    await this.file.load();
  }

  async close(): Promise<void> {}

  // ---- StreamCatalog

  ensureStream(stream: string, made?: NewStream): Promise<StreamInfo> {
    return this.file.change((state) => {
      const found = ensureStream(state, stream, made);
      if (found.status === 'init') found.status = 'open';
      return infoOf(found);
    });
  }

  async describeStream(stream: string): Promise<StreamInfo | undefined> {
    const found = this.find(stream);
    return found && infoOf(found);
  }

  async listStreams(names?: readonly string[]): Promise<readonly StreamInfo[]> {
    return this.pick(names).map(infoOf);
  }

  updateStream(name: string, change: StreamUpdate): Promise<StreamInfo> {
    return this.file.change(({ streams }) => {
      const stream = streams.get(name);
      if (stream === undefined) throw unknownStream(name);
      updateStream(stream, change);
      return infoOf(stream);
    });
  }

  async dropStream(stream: string): Promise<void> {
    await this.file.change(({ streams }) => streams.delete(stream));
  }

  registerGroup(key: GroupKey, { replaces }: RegisterGroupOptions = {}): Promise<void> {
    return this.file.change((state) => {
      const stream = ensureStream(state, key.stream);
      if (replaces !== undefined && replaces !== key.group) replaceGroup(stream, replaces, key.group);
      if (!stream.groups.includes(key.group)) stream.groups.push(key.group);
      ensureConsumers(stream, key.group);
      stream.revision += 1;
    });
  }

  removeGroup(name: string, group: string): Promise<void> {
    return this.file.change(({ streams }) => {
      const stream = streams.get(name);
      if (!stream?.groups.includes(group)) throw unknownGroup(name, group);
      forgetGroup(stream, group);
    });
  }

  // ---- AppendStore

  async append(
    messages: readonly NewMessage[],
    { session, checkpoints = [] }: AppendOptions = {},
  ): Promise<readonly AppendOutcome[]> {
    if (session !== undefined) throw appendError(sessionUnsupported(this.name), 'no');
    const encoded = messages.map(encode);
    const failed: FailedCheckpoint[] = [];
    const outcomes = await this.file
      .change((state) => {
        const written = encoded.map((message) => ('error' in message ? message : appendOne(state, message)));
        failed.push(...storeCheckpoints(state, checkpoints, written));
        return written;
      })
      .catch((error: unknown) => {
        throw appendError(error, 'unknown');
      });
    return answered(outcomes, failed);
  }

  async readCheckpoint(stream: string, source: string): Promise<unknown> {
    const position = this.find(stream)?.checkpoints.get(source);
    return position && decodeValue(position);
  }

  // ---- LeaseStore

  async readLeases(keys: readonly ConsumerKey[]): Promise<readonly LeaseState[]> {
    return keys.map((key) => {
      const stream = this.find(key.stream);
      const consumer = stream?.groups.includes(key.group) ? findConsumer(stream, key) : undefined;
      if (consumer) return leaseOf(consumer);
      const fence = stream?.removedFence ?? 0;
      // Where groups were removed it may be one of them, and must not come back.
      return { fence, counter: 0, ...(fence === 0 && { missing: true as const }) };
    });
  }

  acquireLease(
    key: ConsumerKey,
    owner: LeaseOwner,
    expected: LeaseState,
    holdTime?: number,
  ): Promise<Lease | undefined> {
    return this.file.change(({ streams }) => {
      const stream = streams.get(key.stream);
      if (!stream?.groups.includes(key.group)) return undefined;
      const consumer = ensureConsumer(stream, key);
      // The answer to an earlier call may have been lost: the lease is this owner's already.
      const isRepeated = consumer.owner?.id === owner.id && consumer.fence === expected.fence + 1;
      if (!isRepeated) {
        if (consumer.fence !== expected.fence || consumer.counter !== expected.counter) return undefined;
        endLease(consumer);
        delete consumer.heir;
        Object.assign(consumer, { owner, fence: expected.fence + 1 }, holdTime !== undefined && { holdTime });
      }
      return { key, owner, fence: consumer.fence };
    });
  }

  requestLease(key: ConsumerKey, heir: LeaseOwner | undefined, expected: LeaseState): Promise<boolean> {
    return this.file.change(({ streams }) => changeHeir(findConsumer(streams.get(key.stream), key), heir, expected));
  }

  renewLeases(leases: readonly Renewal[]): Promise<readonly RenewalNotice[]> {
    return this.file.change((state) => leases.flatMap((lease) => renewLease(state, lease)));
  }

  releaseLease(lease: Lease): Promise<void> {
    return this.file.change((state) => {
      const consumer = findHeld(state, lease)?.consumer;
      if (consumer) endLease(consumer);
    });
  }

  // ---- MessageStore

  async fetch(key: ConsumerKey, after: MessageId | undefined, limits: FetchLimits): Promise<Block> {
    return this.block(
      key,
      this.visible(key).filter(({ id }) => after === undefined || id > after),
      limits,
    );
  }

  async fetchByTime(
    key: ConsumerKey,
    { from, to }: TimeRange,
    after: TimeCursor | undefined,
    limits: FetchLimits,
  ): Promise<Block> {
    const timed = this.visible(key).map((entry) => ({ entry, created: createdOf(entry.encoded) }));
    const found = timed
      .filter(({ created }) => (from === undefined || created >= from) && (to === undefined || created < to))
      .filter(({ created, entry }) => {
        const ahead = after === undefined ? 1 : created.getTime() - after.created.getTime();
        return ahead > 0 || (ahead === 0 && after !== undefined && entry.id > after.id);
      })
      // The sort is stable, and the entries come in the order of their ids.
      .sort((a, b) => a.created.getTime() - b.created.getTime());
    return this.block(
      key,
      found.map(({ entry }) => entry),
      limits,
    );
  }

  async scan(
    key: ConsumerKey,
    after: MessageId | undefined,
    until: MessageId | undefined,
    limit: number,
  ): Promise<readonly MessageId[]> {
    const ids = this.visible(key).map(({ id }) => id);
    return ids.filter((id) => (after ?? '') < id && (until === undefined || id <= until)).slice(0, limit);
  }

  async load(key: ConsumerKey, ids: readonly MessageId[]): Promise<readonly StoredMessage[]> {
    const stream = this.find(key.stream);
    if (stream === undefined) return [];
    const entries = ids.map((id) => stream.messages.get(id)).filter((entry) => entry !== undefined);
    return entries.filter((entry) => isVisible(entry, key)).map((entry) => toMessage(stream, entry));
  }

  async count(stream: string, most: number): Promise<number> {
    return Math.min(this.find(stream)?.messages.size ?? 0, most);
  }

  async poll(keys: readonly ConsumerKey[]): Promise<readonly string[]> {
    return keys.map((key) => {
      const stream = this.find(key.stream);
      return stream ? `${stream.serial}.${stream.revision}` : '';
    });
  }

  // ---- WindowStore

  async recover(lease: Lease): Promise<Recovery> {
    const { stream, consumer } = held(this.file.state, lease);
    const windows = [...consumer.windows.values()].sort((a, b) => a.seq - b.seq);
    const finished = new Set(consumer.finished);
    return {
      progress: consumer.progress,
      finished: windows.filter(({ seq }) => finished.has(seq)),
      open: windows.filter(({ seq }) => !finished.has(seq)),
      groups: [...stream.groups],
    };
  }

  claim(lease: Lease, windows: readonly WindowRecord[]): Promise<void> {
    return this.file.change((state) => {
      const { consumer } = held(state, lease);
      for (const window of windows) consumer.windows.set(window.seq, window);
    });
  }

  commit(lease: Lease, { finished, progress }: Commit): Promise<readonly string[]> {
    return this.file.change((state) => {
      const { stream, consumer } = held(state, lease);
      Object.assign(consumer, { finished, progress, counter: consumer.counter + 1 });
      return [...stream.groups];
    });
  }

  settle(lease: Lease, windows: readonly SettledWindow[], options: SettleOptions): Promise<void> {
    return this.file.change((state) => {
      const { stream, consumer } = held(state, lease);
      for (const settled of windows) settleWindow(stream, consumer, settled, options);
    });
  }

  async findWindow(key: ConsumerKey, window: string): Promise<WindowRecord | undefined> {
    const consumer = findConsumer(this.find(key.stream), key);
    return [...(consumer?.windows.values() ?? [])].find(({ id }) => id === window);
  }

  reschedule(lease: Lease, window: WindowRecord): Promise<void> {
    return this.file.change((state) => {
      const { consumer } = held(state, lease);
      if (consumer.windows.has(window.seq)) consumer.windows.set(window.seq, window);
    });
  }

  // ---- DeadLetterStore

  bury(lease: Lease, letters: readonly NewDeadLetter[]): Promise<void> {
    return this.file.change((state) => {
      const { stream } = held(state, lease);
      for (const letter of letters) addLetter(state, stream, lease.key, letter);
    });
  }

  async deadLetters(
    stream: string,
    filter: DeadLetterFilter,
    after: string | undefined,
    limit: number,
    bytes: number = Number.POSITIVE_INFINITY,
  ): Promise<readonly DeadLetter[]> {
    const letters = this.find(stream)?.letters.filter((letter) => matches(letter, filter)) ?? [];
    const page: DeadLetter[] = [];
    let read = 0;
    for (const letter of letters.filter(({ id }) => id > (after ?? ''))) {
      if (page.length >= limit || read >= bytes) break;
      page.push(toDeadLetter(stream, letter));
      read += letter.encoded.length;
    }
    return page;
  }

  redrive(name: string, filter: DeadLetterFilter): Promise<number> {
    return this.file.change((state) => {
      const stream = state.streams.get(name);
      return stream ? redriveLetters(state, stream, filter) : 0;
    });
  }

  discard(name: string, filter: DeadLetterFilter): Promise<number> {
    return this.file.change(({ streams }) => {
      const stream = streams.get(name);
      return stream ? removeWhere(stream.letters, (letter) => matches(letter, filter)) : 0;
    });
  }

  // ---- RetentionStore

  sweep(name: string, times: SweepTimes): Promise<SweepResult> {
    return this.file.change(({ streams }) => {
      const stream = streams.get(name);
      return stream ? sweepStream(stream, times) : { tombstones: 0, messages: 0, windows: 0 };
    });
  }

  expire(name: string, before?: Date): Promise<number> {
    return this.file.change(({ streams }) => {
      const stream = streams.get(name);
      return stream ? expireMessages(stream, before) : 0;
    });
  }

  // ---- StatisticsStore

  async stats(names?: readonly string[]): Promise<readonly StreamStats[]> {
    return this.pick(names).map(statsOf);
  }

  // ---- within

  private find(stream: string): StreamState | undefined {
    return this.file.state.streams.get(stream);
  }

  /** By name; those that exist. */
  private pick(names: readonly string[] | undefined): StreamState[] {
    const wanted = names === undefined ? this.file.state.streams.keys() : new Set(names);
    return [...wanted]
      .sort()
      .map((name) => this.find(name))
      .filter((stream) => stream !== undefined);
  }

  private visible(key: ConsumerKey): Entry[] {
    return [...(this.find(key.stream)?.messages.values() ?? [])].filter((entry) => isVisible(entry, key));
  }

  private block(key: ConsumerKey, entries: readonly Entry[], limits: FetchLimits): Block {
    const stream = this.find(key.stream);
    const messages: StoredMessage[] = [];
    let bytes = 0;
    for (const entry of stream ? entries : []) {
      messages.push(toMessage(stream!, entry));
      bytes += entry.encoded.length;
      if (messages.length >= limits.messages || bytes >= limits.bytes) return { messages, full: true };
    }
    return { messages, full: false };
  }
}
