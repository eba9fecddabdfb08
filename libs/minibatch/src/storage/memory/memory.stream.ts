import { isRedriven, isReplayed } from '../encoded-message.js';
import type {
  ConsumerKey,
  ConsumerProgress,
  LeaseOwner,
  MessageId,
  StateRow,
  StreamInfo,
  WindowRecord,
  WindowRequest,
} from '../stream-store.interface.js';
import { allPartitions, type Partitioning } from '../partitions.js';
import { NO_PROGRESS } from '../stream-store.interface.js';
import { DeadLetterList } from './dead-letter-list.js';
import { KeptMessages } from './kept-messages.js';
import { KeptWindows } from './kept-windows.js';
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
  note: string | undefined;
  heir: LeaseOwner | undefined;
  progress: ConsumerProgress;
  finished: readonly number[];
  readonly windows: Map<number, WindowRecord>;
  /** By slot. */
  readonly state: Map<string, StateRow>;
}

/** The state of one stream. */
export class MemoryStream {
  status: StreamInfo['status'] = 'init';
  readonly created = new Date();
  closed: Date | undefined;
  paused = false;
  flushes = 0;
  clearings = 0;
  /** How often consumers were asked for something. */
  asked = 0;
  requests: readonly WindowRequest[] = [];
  partitioning: Partitioning = {};
  groups = new Set<string>();
  /** In append order. */
  readonly messages = new MessageList();
  /** The dedupe ids that were seen; the value is when the message left the buffer, undefined while it is there. */
  readonly dedupe = new Map<string, { settled: Date | undefined }>();
  readonly kept = new KeptMessages();
  readonly keptWindows = new KeptWindows();
  readonly letters = new DeadLetterList();
  readonly checkpoints = new Map<string, Buffer>();
  /** By group and partition. */
  readonly consumers = new Map<string, MemoryConsumer>();
  /** The highest fence of any consumer that was removed; new ones begin there, so that a fence never goes back. */
  removedFence = 0;
  /** Grows with everything that may have brought messages to a consumer. */
  revision = 0;
  /** The last message that was there at the last clearing. */
  private clearedTo: MessageId | undefined;

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
        note: undefined,
        heir: undefined,
        progress: NO_PROGRESS,
        finished: [],
        windows: new Map(),
        state: new Map(),
      };
      this.consumers.set(name, consumer);
    }
    return consumer;
  }

  /** Consumers of all partitions. */
  ensureConsumers(group: string): void {
    for (const partition of allPartitions(this.partitioning))
      this.ensureConsumer({ stream: this.name, group, partition });
  }

  /** Later consumers begin with a fence that is not below this consumer's. */
  retireFence({ fence }: MemoryConsumer): void {
    this.removedFence = Math.max(this.removedFence, fence, 1);
  }

  clear(): void {
    this.clearings += 1;
    for (const { id } of this.messages.after(this.clearedTo)) this.clearedTo = id;
  }

  isCleared({ id, encoded }: BufferedEntry): boolean {
    return this.clearedTo !== undefined && id <= this.clearedTo && !isRedriven(encoded);
  }

  /** Takes the message out of the buffer. The dedupe id stays as a tombstone. */
  remove(entry: BufferedEntry, now: Date): void {
    this.messages.delete(entry.id);
    if (entry.dedupeId !== undefined) this.dedupe.set(entry.dedupeId, { settled: now });
    if (entry.kept && !isReplayed(entry.encoded)) this.kept.add({ settled: now, entry });
  }

  /** Puts a message into the buffer for one group: for all others it counts as committed. */
  putBack(group: string, entry: Omit<BufferedEntry, 'doneBy'>): void {
    const doneBy = new Set(this.groups);
    doneBy.delete(group);
    this.messages.push({ ...entry, doneBy });
    this.revision += 1;
  }
}

export function consumerName(group: string, partition: number): string {
  return `${group}\0${partition}`;
}

export function isVisible(entry: BufferedEntry, key: ConsumerKey): boolean {
  return entry.partition === key.partition && !entry.doneBy.has(key.group);
}
