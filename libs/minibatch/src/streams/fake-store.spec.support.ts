import type {
  AppendOptions,
  AppendOutcome,
  NewMessage,
  StreamInfo,
  StreamStats,
  StreamStore,
} from '../storage/stream-store.interface.js';

/** One `append` that has reached the store and waits for its answer. */
export interface PendingWrite {
  readonly messages: readonly NewMessage[];
  readonly options: AppendOptions;
  readonly late: AppendOptions['late'];
  answer(outcomes?: readonly AppendOutcome[]): void;
  fail(error: Error): void;
}

/** The producing side of a store, with writes that a test answers by hand (or at once, with `auto`). */
export class FakeStore {
  readonly name = 'fake';
  readonly maxMessageBytes = 10_000;
  auto = true;
  readonly writes: PendingWrite[] = [];
  readonly streams = new Map<string, StreamInfo>();
  readonly checkpoints = new Map<string, unknown>();
  readonly calls: string[] = [];
  private ids = 0;

  get port(): StreamStore {
    // The rest of the port belongs to consumers.
    return this as unknown as StreamStore;
  }

  /** Data of all messages, write by write. */
  get written(): unknown[][] {
    return this.writes.map(({ messages }) => messages.map(({ data }) => data));
  }

  async open(): Promise<void> {
    this.calls.push('open');
  }

  async close(): Promise<void> {
    this.calls.push('close');
  }

  async ensureStream(name: string): Promise<StreamInfo> {
    this.calls.push(`ensure ${name}`);
    const info = this.streams.get(name) ?? {
      name,
      status: 'open' as const,
      created: new Date(0),
      groups: [],
      paused: false,
      flushes: 0,
    };
    this.streams.set(name, info);
    return info;
  }

  async describeStream(name: string): Promise<StreamInfo | undefined> {
    return this.streams.get(name);
  }

  async listStreams(): Promise<readonly StreamInfo[]> {
    return [...this.streams.values()];
  }

  async updateStream(name: string, change: Partial<StreamInfo>): Promise<StreamInfo> {
    this.calls.push(`update ${name} ${JSON.stringify(change)}`);
    const info = { ...(await this.ensureStream(name)), ...change };
    this.streams.set(name, info);
    return info;
  }

  async stats(names?: readonly string[]): Promise<readonly StreamStats[]> {
    this.calls.push('stats');
    return [...this.streams.values()]
      .filter(({ name }) => names?.includes(name) ?? true)
      .map((info) => ({ ...info, buffered: 0, deadLetters: 0, consumers: [] }));
  }

  append(messages: readonly NewMessage[], { late, ...options }: AppendOptions = {}): Promise<readonly AppendOutcome[]> {
    return new Promise((resolve, reject) => {
      const stored = () => messages.map((): AppendOutcome => ({ status: 'stored', id: String((this.ids += 1)) }));
      const answer = (outcomes = stored()) => {
        for (const { source, position } of options.checkpoints ?? []) this.checkpoints.set(source, position);
        resolve(outcomes);
      };
      this.writes.push({ messages, options, late, answer, fail: reject });
      if (this.auto) answer();
    });
  }

  /** What `count` answers. */
  counted = 0;

  async count(name: string, most: number): Promise<number> {
    this.calls.push(`count ${name}`);
    return Math.min(this.counted, most);
  }

  async expire(name: string): Promise<number> {
    this.calls.push(`expire ${name}`);
    return 0;
  }

  async readCheckpoint(_stream: string, source: string): Promise<unknown> {
    return this.checkpoints.get(source);
  }
}

/** Lets everything run that waits for nothing but promises. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
