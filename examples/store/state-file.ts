import { open, readFile, rename } from 'node:fs/promises';
import { deserialize, serialize } from 'node:v8';
import {
  type ConsumerProgress,
  type EncodedMessage,
  ErrorCode,
  type LeaseOwner,
  type MessageId,
  MinibatchError,
  type NewDeadLetter,
  type Partitioning,
  type StreamInfo,
  type WindowRecord,
  type WindowRequest,
} from 'nestjs-minibatch/store';

/** A message in the buffer. */
export interface Entry {
  readonly id: MessageId;
  readonly partition: number;
  readonly encoded: EncodedMessage;
  readonly dedupeId?: string;
  /** Groups that have committed it. */
  readonly doneBy: Set<string>;
  /** A group that has committed it wants it kept. */
  kept: boolean;
}

export interface Consumer {
  readonly partition: number;
  group: string;
  owner?: LeaseOwner;
  /** The process that asks for the lease. */
  heir?: LeaseOwner;
  fence: number;
  /** Its lease was never held while it has this fence. */
  readonly firstFence: number;
  counter: number;
  holdTime?: number;
  note?: string;
  progress: ConsumerProgress;
  finished: readonly number[];
  readonly windows: Map<number, WindowRecord>;
}

export interface Letter {
  readonly id: string;
  readonly group: string;
  readonly partition: number;
  readonly messageId: MessageId;
  readonly encoded: EncodedMessage;
  readonly note: Pick<NewDeadLetter, 'window' | 'consumer' | 'attempts' | 'error' | 'stack' | 'died'>;
}

export interface StreamState {
  readonly name: string;
  /** Tells the stream from an earlier one of the same name. */
  readonly serial: string;
  readonly created: Date;
  status: StreamInfo['status'];
  closed?: Date;
  paused: boolean;
  flushes: number;
  clearings: number;
  /** The last message that was in the buffer at the last clearing. */
  clearedTo: MessageId;
  requests: readonly WindowRequest[];
  partitioning: Partitioning;
  groups: string[];
  consumers: Consumer[];
  /** The highest fence of the consumers that were removed. */
  removedFence: number;
  /** In the order of the ids. */
  readonly messages: Map<MessageId, Entry>;
  /** When the message with this dedupe id left the buffer; undefined while it is there. */
  readonly dedupe: Map<string, Date | undefined>;
  keptMessages: { readonly settled: Date; readonly entry: Entry }[];
  keptWindows: { readonly settled: Date; readonly window: WindowRecord }[];
  letters: Letter[];
  readonly checkpoints: Map<string, Buffer>;
  /** Grows with everything that may bring messages to a consumer. */
  revision: number;
}

export interface State {
  lastId: number;
  readonly streams: Map<string, StreamState>;
}

/**
 * The state of all streams: in memory, and in a file that is replaced as a whole. One process may use the file at a time.
 */
export class StateFile {
  private loaded: State | undefined;
  private writing: Promise<void> = Promise.resolve();
  private next: Promise<void> | undefined;

  constructor(private readonly path: string) {}

  async load(): Promise<void> {
    if (this.loaded) return;
    const bytes = await readFile(this.path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined;
      throw this.unavailable(error);
    });
    this.loaded ??= bytes ? this.decode(bytes) : { lastId: 0, streams: new Map() };
  }

  /** For reads. */
  get state(): State {
    if (this.loaded) return this.loaded;
    throw this.unavailable(new Error('it is not open'));
  }

  /** Changes the state and resolves when the file has the change. `change` must throw before it changes anything. */
  async change<T>(change: (state: State) => T): Promise<T> {
    const answer = change(this.state);
    // Changes made while the file is being written share the next write.
    this.next ??= this.writing
      .catch(() => undefined)
      .then(() => {
        this.next = undefined;
        this.writing = this.write();
        return this.writing;
      });
    await this.next;
    return answer;
  }

  private decode(bytes: Buffer): State {
    try {
      return deserialize(bytes) as State;
    } catch (cause) {
      throw new MinibatchError(ErrorCode.StoreDamaged, `The store at '${this.path}' is not a state file`, { cause });
    }
  }

  private async write(): Promise<void> {
    try {
      const file = await open(`${this.path}.new`, 'w');
      try {
        await file.writeFile(serialize(this.state));
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(`${this.path}.new`, this.path);
    } catch (error) {
      throw this.unavailable(error);
    }
  }

  private unavailable(cause: unknown): MinibatchError {
    const reason = cause instanceof Error ? cause.message : String(cause);
    return new MinibatchError(ErrorCode.StoreUnavailable, `The store at '${this.path}' failed: ${reason}`, { cause });
  }
}
