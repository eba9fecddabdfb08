import { plainScope } from '../consumers/consumer.scope.js';
import { RunTimeConsumers } from '../consumers/run-time-consumers.js';
import { DEFAULT_RETRY } from '../definitions/shared.options.js';
import { ConsumerEngine } from '../engine/consumer-engine.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import type { StreamStore } from '../storage/stream-store.interface.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import type { Window } from '../windows/window.js';
import { keyedWindows } from './keyed.binder.js';

export const EVENTS = 'events';

/** What is in the stream: `k` is its key, `at` its time in seconds. */
export interface Event {
  readonly k: string;
  readonly at?: number;
  readonly n?: number;
}

/** A window as the specs write it. */
export function shown({ key, start, end, data, late, partial }: Window): string {
  const bounds = start && end ? ` [${seconds(start)}, ${seconds(end)})` : '';
  const events = (data as readonly Event[]).map(({ at, n }) => n ?? at).join();
  return `${key ?? '-'}${bounds} ${events}${late ? ' late' : ''}${partial ? ' partial' : ''}`;
}

function seconds(date: Date): number {
  return date.getTime() / 1_000;
}

/** Consumers of one process with windows by key and event time, on a virtual clock. */
export class KeyedWorld {
  readonly seen: string[] = [];
  readonly lines: string[] = [];
  readonly engine: ConsumerEngine;
  private readonly consumers: RunTimeConsumers;

  constructor(
    readonly store: StreamStore = new MemoryStreamStore(),
    readonly clock = new VirtualClock(0),
  ) {
    const write = (line: string) => void this.lines.push(line);
    const log = { log: write, warn: write, error: write };
    this.engine = new ConsumerEngine(store, clock, log);
    this.consumers = new RunTimeConsumers({
      ...{ engine: this.engine, clock, log, retry: { ...DEFAULT_RETRY, jitter: 0 }, scope: plainScope },
      ...{ leaseTime: 15_000, shutdownTimeout: 5_000, reserve: () => () => undefined },
      makeKeyed: keyedWindows(store),
    });
  }

  async consume(options: object, handler?: (window: Window) => unknown) {
    const consumer = await this.consumers.consume(EVENTS, options, (window: Window) => {
      const result = handler?.(window);
      this.seen.push(shown(window));
      return result;
    });
    await this.engine.settled();
    return consumer;
  }

  /** Ends when everything was handled. */
  async drain(options: object): Promise<void> {
    let isDrained = false;
    const draining = this.consumers
      .drain(EVENTS, options, (window: Window) => void this.seen.push(shown(window)))
      .finally(() => (isDrained = true));
    for (let n = 0; n < 200 && !isDrained; n += 1) await this.clock.advance(1_000);
    await draining;
  }

  async append(...events: readonly Event[]): Promise<void> {
    const created = new Date(this.clock.now());
    await this.store.append(events.map((data) => ({ stream: EVENTS, data, created })));
    this.engine.wake(EVENTS);
    await this.engine.settled();
  }

  /** @param seconds of time in which everything that is due is done */
  async pass(seconds: number): Promise<void> {
    await this.clock.advance(seconds * 1_000, () => this.engine.settled());
  }

  letters() {
    return this.store.deadLetters(EVENTS, {}, undefined, 1_000);
  }

  async redrive(): Promise<void> {
    await this.store.redrive(EVENTS, {});
    this.engine.wake(EVENTS);
    await this.pass(5);
  }

  async slots(): Promise<readonly string[]> {
    const key = { stream: EVENTS, group: 'default', partition: 0 };
    const { rows } = await this.store.listState!(key, undefined, { rows: 1_000, bytes: 1e9 });
    return rows.map(({ slot }) => slot);
  }

  /** What was seen since the last time. */
  take(): readonly string[] {
    return this.seen.splice(0);
  }

  async end(): Promise<void> {
    const stopping = this.engine.stop(0);
    await this.clock.advance(10_000);
    await stopping;
  }
}
