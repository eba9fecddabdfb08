import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import type { LeaseOwner, StreamStore } from '../storage/stream-store.interface.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { mortalStore, type StoreCall, wrapStore } from '../testing/wrapped-store.js';
import { CountWindow } from '../windows/count.window.js';
import { FixedTimeWindow } from '../windows/fixed-time.window.js';
import { RelaxedTimeWindow } from '../windows/relaxed-time.window.js';
import type { Window } from '../windows/window.js';
import type { ConsumerDefinition, EngineOptions } from './engine.interface.js';
import { ConsumerEngine } from './consumer-engine.js';

export const STREAM = 's';
/** Lease time of every process. */
export const LEASE = 15_000;

export interface Seen {
  readonly id: string;
  readonly attempt: number;
  readonly data: readonly unknown[];
}

export type ConsumerChoice = Partial<Omit<ConsumerDefinition, 'key' | 'emitterContext'>> & {
  group?: string;
  size?: number;
  interval?: number;
  empty?: boolean;
};

export interface ProcessOptions {
  readonly clock?: VirtualClock;
  /** Its way to the database. */
  readonly store?: StreamStore;
  /** Around every call of it. */
  readonly around?: (call: StoreCall) => Promise<unknown>;
  readonly engine?: Partial<EngineOptions>;
  /** What its leases say of it. */
  readonly owner?: LeaseOwner;
}

/** One process: a store of its own on the shared database, a clock of its own, an engine. */
export class Process {
  readonly seen: Seen[] = [];
  readonly clock: VirtualClock;
  readonly engine: ConsumerEngine;
  readonly store: StreamStore;
  readonly logged: string[] = [];
  private readonly mortal: ReturnType<typeof mortalStore>;
  started = false;

  constructor(database: MemoryDatabase, options: ProcessOptions = {}) {
    this.clock = options.clock ?? new VirtualClock();
    let store = options.store ?? new MemoryStreamStore(database);
    if (options.around) store = wrapStore(store, options.around);
    this.mortal = mortalStore(store);
    this.store = this.mortal.store;
    const log = (line: string) => void this.logged.push(line);
    this.engine = new ConsumerEngine(
      this.store,
      this.clock,
      { log, warn: log, error: log },
      { leaseTime: LEASE, ...options.engine },
      options.owner,
    );
  }

  consumer(options: ConsumerChoice = {}): this {
    this.engine.add(this.definition(options));
    return this;
  }

  definition(options: ConsumerChoice = {}): ConsumerDefinition {
    const { group = 'default', size, interval, empty = false, ...rest } = options;
    const make = () => (size === undefined && interval !== undefined ? new RelaxedTimeWindow() : new CountWindow());
    const emitter = rest.emitter ?? make();
    const seen = (window: Window) => {
      this.seen.push({ id: window.id, attempt: window.attempt, data: window.data });
    };
    const handler = rest.handler;
    return {
      key: { stream: STREAM, group, partition: 0 },
      label: `Test.${group}`,
      emitter,
      ...(rest.emitter ? {} : { another: async () => make() }),
      emitterContext: {
        ...(size === undefined ? {} : { size }),
        ...(interval === undefined ? {} : { interval }),
        offset: 0,
        grace: 1_000,
        maxAhead: 60_000,
        empty,
      },
      timeOrder: emitter instanceof FixedTimeWindow,
      sinks: [],
      workers: 1,
      keep: false,
      retry: { base: 1_000, max: 60_000, jitter: 0, attempts: 5 },
      onAllFailed: 'evidence',
      onRefused: 'block',
      maxSize: 10_000,
      maxBytes: 8 * 1024 * 1024,
      lookAhead: 10_000,
      ...rest,
      handler: (window) => {
        seen(window);
        return handler?.(window);
      },
    };
  }

  async start(): Promise<this> {
    await this.engine.start();
    this.started = true;
    await this.engine.settled();
    return this;
  }

  async append(...data: unknown[]): Promise<void> {
    await this.put(...data);
    await this.engine.settled();
  }

  /** As `append`, for handlers that hang. */
  async put(...data: unknown[]): Promise<void> {
    await this.store.append(data.map((item) => ({ stream: STREAM, data: item, created: new Date(this.clock.now()) })));
    this.engine.wake(STREAM);
  }

  advance(ms: number): Promise<void> {
    return this.clock.advance(ms, () => this.engine.settled());
  }

  kill(): void {
    this.mortal.kill();
  }

  get values(): unknown[] {
    return this.seen.flatMap(({ data }) => data);
  }
}

/** A database for processes, and what lies in it. */
export function storeToInspect(database = new MemoryDatabase()) {
  const plain = new MemoryStreamStore(database);
  return {
    database,
    plain,
    letters: () => plain.deadLetters(STREAM, {}, undefined, 1_000),
    buffered: async () => (await plain.stats([STREAM]))[0]?.buffered,
  };
}

/** Turns of the event loop: for handlers that hang, which never let the engine settle. */
export async function turns(until: () => boolean, most = 1_000): Promise<void> {
  for (let i = 0; i < most && !until(); i += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** Stops it, with its handlers given `timeout` milliseconds to finish. */
export async function stop(process: Process, timeout = 0): Promise<void> {
  const stopping = process.engine.stop(timeout);
  await process.clock.advance(10_000);
  await stopping;
}

/**
 * One process after another, each of which ends when its handler is given a window with that message; until one survives a lease
 * time and a half. Returns what their handlers were given and could finish, and how many ended.
 */
export async function dieOf(
  database: MemoryDatabase,
  deadly: unknown,
  consumer: ConsumerChoice,
): Promise<{ readonly done: ReadonlySet<unknown>; readonly deaths: number }> {
  const done = new Set<unknown>();
  let clock = new VirtualClock();
  for (let deaths = 0; deaths < 40; deaths += 1) {
    let died = false;
    const p: Process = new Process(database, { clock });
    p.consumer({
      ...consumer,
      handler: (window) => {
        if (window.data.includes(deadly)) {
          died = true;
          p.kill();
          return new Promise(() => undefined);
        }
        for (const item of window.data) done.add(item);
        return undefined;
      },
    });
    await p.engine.start();
    await clock.advance(LEASE * 1.5, () => turns(() => false, 60));
    if (!died) {
      await stop(p);
      return { done, deaths };
    }
    clock = new VirtualClock(clock.now());
  }
  throw new Error('no process survived');
}
