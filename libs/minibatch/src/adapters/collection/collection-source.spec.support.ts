import type { Connection, mongo } from 'mongoose';
import { afterEach, beforeEach } from 'vitest';
import { openDatabase, type TestDatabase } from '../../../../../test/support/mongo-server.js';
import { SystemClock } from '../../common/clock.js';
import type { Log } from '../../common/log.js';
import type { SourceAppendManyOptions, SourceAppendOptions, SourceTarget } from '../../sources/source.interface.js';
import { CollectionSource } from './collection.source.js';
import type { CollectionReading } from './collection-source.options.js';

interface Appended {
  readonly data: unknown;
  readonly key?: string;
  readonly dedupeId?: string;
}

/** A stream in memory, as a store keeps it: with dedupe ids, and the position stored together with the messages. */
export class MemoryTarget implements SourceTarget {
  readonly name = 'test';
  source?: string;
  clock = new JumpingClock();
  /** What was logged, each line with its level. */
  readonly lines: string[] = [];
  readonly log: Log = {
    log: (line) => void this.lines.push(`log: ${line}`),
    warn: (line) => void this.lines.push(`warn: ${line}`),
    error: (line) => void this.lines.push(`error: ${line}`),
  };
  readonly messages: Appended[] = [];
  /** Messages that were passed in, ignored ones included. */
  given = 0;
  stored: unknown;
  /** Called before anything is stored; may reject, or wait. */
  before: (data: readonly unknown[]) => Promise<void> | void = () => undefined;
  /** True: messages are stored and the process dies before their position is. */
  losePosition = false;
  private readonly ids = new Set<string>();

  append(data: unknown, { position, ...options }: SourceAppendOptions = {}): Promise<void> {
    return this.appendMany([data], { each: () => options, position });
  }

  async appendMany(data: readonly unknown[], options: SourceAppendManyOptions<unknown> = {}): Promise<void> {
    await this.before(data);
    data.forEach((item, index) => this.store(item, options.each?.(item, index) ?? {}));
    if (this.losePosition) throw new Error('killed between the messages and their position');
    // As text and back: what is stored must be plain data.
    if (options.position !== undefined) this.stored = JSON.parse(JSON.stringify(options.position));
  }

  position(): Promise<unknown> {
    return Promise.resolve(this.stored);
  }

  /** One property of all messages. */
  all(property: string): unknown[] {
    return this.messages.map(({ data }) => (data as Record<string, unknown>)[property]);
  }

  private store(data: unknown, { dedupeId, key }: Omit<SourceAppendOptions, 'position'>): void {
    this.given += 1;
    if (dedupeId !== undefined && this.ids.has(dedupeId)) return;
    if (dedupeId !== undefined) this.ids.add(dedupeId);
    this.messages.push({
      data,
      ...(dedupeId === undefined ? {} : { dedupeId }),
      ...(key === undefined ? {} : { key }),
    });
  }
}

/** The system's clock, and a jump forward when a test wants one. */
export class JumpingClock extends SystemClock {
  private jumped = 0;

  jump(ms: number): void {
    this.jumped += ms;
  }

  override now(): number {
    return super.now() + this.jumped;
  }

  override monotonic(): number {
    return super.monotonic() + this.jumped;
  }
}

/** A source stops within a second; the rest is for a machine that is busy with other tests. Milliseconds. */
export const STOP_LIMIT = 30_000;

/** Resolves when the condition holds. */
export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const end = performance.now() + 25_000;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`not within 25 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A source of the collection 'orders' of an empty database, and the stream it feeds. */
export class SourceTest {
  database!: TestDatabase;
  connection!: Connection;
  orders!: mongo.Collection;
  target!: MemoryTarget;
  /** The one that runs. */
  source!: CollectionSource;
  stop = new AbortController();
  running: Promise<void> = Promise.resolve();

  constructor(private readonly defaults: CollectionReading) {}

  async open(uri?: string): Promise<void> {
    this.database = openDatabase(uri);
    this.connection = await this.database.connect();
    this.orders = this.connection.collection('orders');
    this.target = new MemoryTarget();
    this.stop = new AbortController();
    this.running = Promise.resolve();
  }

  readonly make = (options: CollectionReading = {}): CollectionSource =>
    new CollectionSource({ connection: this.connection, collection: 'orders', ...this.defaults, ...options });

  readonly start = (options: CollectionReading = {}): void => {
    this.stop = new AbortController();
    this.source = this.make(options);
    this.running = this.source.stream(this.target, this.stop.signal);
    this.running.catch(() => undefined);
  };

  /** Stops it, whatever it ends with. */
  readonly end = async (): Promise<void> => {
    this.stop.abort();
    await this.running.catch(() => undefined);
  };

  readonly arrived = (count: number): Promise<void> =>
    until(`${count} messages`, () => this.target.messages.length >= count);
}

/** One whose database and stream are new in each test of the suite that calls this. */
export function useSource(defaults: CollectionReading, uri?: () => string): SourceTest {
  const test = new SourceTest(defaults);
  beforeEach(() => test.open(uri?.()));
  afterEach(async () => {
    await test.end();
    await test.database.dispose();
  });
  return test;
}
