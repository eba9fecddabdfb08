import type {
  ConsumerKey,
  ConsumerProgress,
  ConsumerStats,
  LeaseOwner,
  LeaseState,
  MessageId,
  StreamInfo,
  StreamStats,
  WindowRecord,
  WindowRequest,
} from '../stream-store.interface.js';
import { NO_PROGRESS } from '../stream-store.interface.js';
import { asRedriven, asReplayed, isRedriven, isReplayed } from '../encoded-message.js';
import { KeptMessages } from './kept-messages.js';
import { KeptWindows } from './kept-windows.js';
import { type DeadLetterEntry, DeadLetterList } from './dead-letter-list.js';
import { type BufferedEntry, MessageList } from './message-list.js';

export interface MemoryConsumer {
  readonly partition: number;
  group: string;
  owner: LeaseOwner | undefined;
  fence: number;
  /** The fence it began with: nobody has held its lease while it still has that one. */
  readonly firstFence: number;
  counter: number;
  holdTime: number | undefined;
  progress: ConsumerProgress;
  finished: readonly number[];
  readonly windows: Map<number, WindowRecord>;
}

/** One stream with everything that hangs on it. */
export class MemoryStream {
  status: StreamInfo['status'] = 'init';
  readonly created = new Date();
  closed: Date | undefined;
  paused = false;
  flushes = 0;
  clearings = 0;
  requests: readonly WindowRequest[] = [];
  /** The last message that was there at the last clearing. */
  private clearedTo: MessageId | undefined;
  groups = new Set<string>();
  /** In append order. */
  readonly messages = new MessageList();
  /** The ids that were seen; the value is when the message left the buffer, undefined while it is there. */
  readonly dedupe = new Map<string, { settled: Date | undefined }>();
  readonly kept = new KeptMessages();
  readonly keptWindows = new KeptWindows();
  readonly letters = new DeadLetterList();
  readonly checkpoints = new Map<string, Buffer>();
  /** By group and partition. */
  readonly consumers = new Map<string, MemoryConsumer>();
  /** The highest fence of any consumer that was removed; new ones begin there, so that a fence never goes back. */
  private removedFence = 0;
  /** Grows with everything that may have brought messages to a consumer. */
  revision = 0;

  /** @param serial tells the stream from an earlier one of the same name */
  constructor(
    readonly name: string,
    readonly serial: string,
  ) {}

  consumer(key: ConsumerKey): MemoryConsumer | undefined {
    return this.consumers.get(consumerName(key.group, key.partition));
  }

  ensureConsumer(key: ConsumerKey): MemoryConsumer {
    const name = consumerName(key.group, key.partition);
    let consumer = this.consumers.get(name);
    if (consumer === undefined) {
      consumer = {
        group: key.group,
        partition: key.partition,
        owner: undefined,
        fence: this.removedFence,
        firstFence: this.removedFence,
        counter: 0,
        holdTime: undefined,
        progress: NO_PROGRESS,
        finished: [],
        windows: new Map(),
      };
      this.consumers.set(name, consumer);
    }
    return consumer;
  }

  lease(key: ConsumerKey): LeaseState {
    const consumer = this.groups.has(key.group) ? this.ensureConsumer(key) : undefined;
    if (consumer) return leaseState(consumer);
    // A stream that was dropped and made anew knows nothing of it; where groups were removed, it may be one of them, and stays away.
    return { fence: this.removedFence, counter: 0, ...(this.removedFence === 0 && { missing: true as const }) };
  }

  info(): StreamInfo {
    return {
      name: this.name,
      status: this.status,
      created: new Date(this.created),
      ...(this.closed !== undefined && { closed: new Date(this.closed) }),
      groups: [...this.groups],
      paused: this.paused,
      flushes: this.flushes,
      ...(this.clearings > 0 && { clearings: this.clearings }),
      ...(this.requests.length > 0 && { requests: structuredClone(this.requests) }),
    };
  }

  clear(): void {
    this.clearings += 1;
    for (const { id } of this.messages.after(this.clearedTo)) this.clearedTo = id;
  }

  isCleared({ id, encoded }: BufferedEntry): boolean {
    return this.clearedTo !== undefined && id <= this.clearedTo && !isRedriven(encoded);
  }

  /** The group needs the message no more; it leaves when nobody else does. */
  done(
    entry: BufferedEntry,
    group: string,
    waiting: readonly string[],
    { keep, at }: { keep: boolean; at: Date },
  ): void {
    entry.doneBy.add(group);
    if (keep) entry.kept = true;
    if (waiting.every((other) => entry.doneBy.has(other))) this.remove(entry, at);
  }

  /** Takes the message out of the buffer. A deduped one goes on being remembered. */
  remove(entry: BufferedEntry, now: Date): void {
    this.messages.delete(entry.id);
    if (entry.dedupeId !== undefined) this.dedupe.set(entry.dedupeId, { settled: now });
    if (entry.kept && !isReplayed(entry.encoded)) this.kept.add({ settled: now, entry });
  }

  /** Puts the message of a dead letter back, for its own group; false if that is not there any more. */
  redrive(letter: DeadLetterEntry, id: MessageId): boolean {
    const { group, partition, created, encoded } = letter;
    if (!this.groups.has(group)) return false;
    this.putBack(group, { id, partition, created, encoded: asRedriven(encoded) });
    this.letters.delete(letter);
    return true;
  }

  /** Puts copies of these kept messages into the buffer, for this group; how many. */
  replay(group: string, kept: Iterable<BufferedEntry>, nextId: () => MessageId): number {
    if (!this.groups.has(group)) return 0;
    const waiting = new Set<MessageId>();
    for (const { origin, doneBy } of this.messages.after(undefined)) {
      if (origin !== undefined && !doneBy.has(group)) waiting.add(origin);
    }
    let count = 0;
    for (const { id: origin, partition, created, encoded } of kept) {
      if (waiting.has(origin)) continue;
      this.putBack(group, { id: nextId(), partition, created, encoded: asReplayed(encoded), origin });
      count += 1;
    }
    return count;
  }

  private putBack(group: string, entry: Omit<BufferedEntry, 'doneBy'>): void {
    const doneBy = new Set(this.groups);
    doneBy.delete(group);
    this.messages.push({ ...entry, doneBy });
    this.revision += 1;
  }

  /** Counted now. */
  stats(): StreamStats {
    const entries = [...this.messages.after(undefined)];
    const oldest = entries.reduce((least, { created }) => Math.min(least, created), Number.POSITIVE_INFINITY);
    const consumers = [...this.groups].flatMap((group): ConsumerStats[] => {
      const found = [...this.consumers.values()].filter((consumer) => consumer.group === group);
      return found.map((consumer) => ({
        group,
        partition: consumer.partition,
        lease: leaseState(consumer),
        progress: { ...consumer.progress },
        openWindows: consumer.windows.size,
        pending: entries.filter((entry) =>
          isVisible(entry, { stream: this.name, group, partition: consumer.partition }),
        ).length,
      }));
    });
    return {
      ...this.info(),
      buffered: entries.length,
      ...(entries.length > 0 && { oldest: new Date(oldest) }),
      deadLetters: this.letters.size,
      consumers,
    };
  }

  /** Somebody has held a lease of the group. */
  hasBegun(group: string): boolean {
    return [...this.consumers.values()].some(
      (consumer) => consumer.group === group && consumer.fence > consumer.firstFence,
    );
  }

  /** The group goes on under another name, with all that is its own. */
  rename(from: string, to: string): void {
    // In place, so that the order of the groups stays.
    this.groups = new Set([...this.groups].map((name) => (name === from ? to : name)));
    for (const consumer of [...this.consumers.values()]) {
      if (consumer.group !== from) continue;
      this.consumers.delete(consumerName(from, consumer.partition));
      consumer.group = to;
      this.retireFence(consumer);
      // The new name may have had a higher one in an earlier life.
      consumer.fence = this.removedFence;
      // Whoever held it held it under the old name: cut off, and the next candidate need not wait.
      consumer.owner = undefined;
      consumer.counter += 1;
      this.consumers.set(consumerName(to, consumer.partition), consumer);
    }
    this.keptWindows.rename(from, to);
    for (const { doneBy } of this.messages.after(undefined)) if (doneBy.delete(from)) doneBy.add(to);
  }

  /** Removes the group, its windows and its progress, and the messages that only it held back. */
  forget(group: string): void {
    this.groups.delete(group);
    for (const [name, consumer] of this.consumers) {
      if (consumer.group !== group) continue;
      this.retireFence(consumer);
      this.consumers.delete(name);
    }
    const rest = [...this.groups];
    const now = new Date();
    for (const entry of [...this.messages.after(undefined)]) {
      entry.doneBy.delete(group);
      // Without any group left nobody has seen the messages: they wait for the next one.
      if (rest.length > 0 && rest.every((other) => entry.doneBy.has(other))) this.remove(entry, now);
    }
  }

  private retireFence({ fence }: MemoryConsumer): void {
    this.removedFence = Math.max(this.removedFence, fence, 1);
  }
}

function consumerName(group: string, partition: number): string {
  return `${group}\0${partition}`;
}

function leaseState(consumer: MemoryConsumer): LeaseState {
  const { owner, fence, counter, holdTime } = consumer;
  return {
    ...(owner !== undefined && { owner: { ...owner } }),
    fence,
    counter,
    ...(holdTime !== undefined && { holdTime }),
  };
}

export function isVisible(entry: BufferedEntry, key: ConsumerKey): boolean {
  return entry.partition === key.partition && !entry.doneBy.has(key.group);
}
