import { describe, expect, it } from 'vitest';
import { delay } from '../common/clock.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import { partitionOfKey } from '../storage/partitions.js';
import { StreamHub } from '../streams/stream-hub.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { LEASE, Process, STREAM, turns } from './process.spec.support.js';

const KEYS = Array.from({ length: 12 }, (_, n) => `key-${n}`);

interface Handled {
  readonly key: string;
  readonly n: number;
  readonly partition: number;
}

/** Producers and replicas that share a database and a clock, and know nothing of each other. */
class Site {
  readonly clock = new VirtualClock();
  readonly database = new MemoryDatabase();
  readonly store = new MemoryStreamStore(this.database);
  readonly handled: Handled[] = [];
  readonly replicas: Process[];
  readonly producers: StreamHub[];
  private readonly appended = new Map<string, number>();

  constructor(
    private readonly random: () => number,
    producers: number,
    replicas: number,
  ) {
    const log = { log: () => undefined, warn: () => undefined, error: () => undefined };
    this.replicas = Array.from({ length: replicas }, () => new Process(this.database, { clock: this.clock }));
    const wake = (stream: string, partition?: number) => {
      for (const { engine } of this.replicas) engine.wake(stream, partition);
    };
    this.producers = Array.from(
      { length: producers },
      () =>
        new StreamHub({
          store: new MemoryStreamStore(this.database),
          clock: this.clock,
          log,
          retry: { base: 1, max: 1, jitter: 0 },
          listener: { wake, refresh: async () => undefined, retain: () => undefined, declare: () => undefined },
        }),
    );
  }

  async start(partitions: number): Promise<void> {
    await this.store.ensureStream(STREAM, { partitions });
    for (const replica of this.replicas) {
      replica.consumer({
        size: 3,
        interval: 500,
        handler: async ({ data, partition }) => {
          await delay(this.clock, this.random() * 400);
          for (const item of data as readonly Omit<Handled, 'partition'>[]) this.handled.push({ ...item, partition });
        },
      });
      await replica.engine.start();
    }
    await this.pass(LEASE);
  }

  /** Waits until it is stored: what is appended next comes later, whoever appends it. */
  async append(producer: StreamHub | undefined, key: string): Promise<void> {
    const n = this.appended.get(key) ?? 0;
    this.appended.set(key, n + 1);
    await producer?.stream(STREAM).append({ key, n }, { key });
  }

  async pass(ms: number): Promise<void> {
    for (let rest = ms; rest > 0; rest -= 250)
      await this.clock.advance(Math.min(rest, 250), () => turns(() => false, 2));
  }

  async pause(paused: boolean): Promise<void> {
    await this.store.updateStream(STREAM, { paused });
    for (const { engine } of this.replicas) await engine.refresh(STREAM);
  }

  get count(): number {
    return [...this.appended.values()].reduce((sum, n) => sum + n, 0);
  }

  async stop(): Promise<void> {
    const stopping = Promise.all(this.replicas.map(({ engine }) => engine.stop(1_000)));
    await this.pass(5_000);
    await stopping;
  }
}

/** Numbers from 0 to 1 that are the same at each run. */
function numbersFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 4_294_967_296;
    return state / 4_294_967_296;
  };
}

/** `FC_RUNS=1000` for a long search; each takes about a second. */
const RUNS = Number(process.env['FC_RUNS'] ?? 0);
const GROWTHS: readonly { readonly from: number; readonly steps: readonly number[] }[] = [
  { from: 1, steps: [2] },
  { from: 1, steps: [5, 10] },
  { from: 2, steps: [6] },
  { from: 2, steps: [4, 8] },
  { from: 3, steps: [6, 12] },
  { from: 4, steps: [8] },
];

describe('a stream that grows while it is used', () => {
  it.each([
    { seed: 1, from: 4, steps: [8] },
    { seed: 2, from: 1, steps: [4] },
    { seed: 3, from: 2, steps: [4, 8] },
    { seed: 4, from: 1, steps: [3, 6] },
    ...Array.from({ length: RUNS }, (_, n) => ({ seed: 5 + n, ...GROWTHS[n % GROWTHS.length]! })),
  ])('keeps the order of every key ($from, then $steps, seed $seed)', async ({ seed, from, steps }) => {
    const random = numbersFrom(seed);
    const pick = <T>(items: readonly T[]): T | undefined => items[Math.floor(random() * items.length)];
    const site = new Site(random, 3, 2);
    await site.start(from);
    const growing = new Map(steps.map((partitions, n) => [20 + 80 * n, partitions]));
    for (let step = 0; step < 200; step += 1) {
      const partitions = growing.get(step);
      // One of them grows it; the others hear of that when they look. What waits in the old partitions meanwhile has to be handled first.
      if (partitions !== undefined) {
        await site.pause(true);
        await site.producers[0]?.grow(STREAM, partitions);
      } else if (growing.has(step - 60)) await site.pause(false);
      const burst = 1 + Math.floor(random() * 4);
      // The last one appends seldom: it knows least.
      const producer = random() < 0.05 ? site.producers[2] : pick(site.producers.slice(0, 2));
      for (let n = 0; n < burst; n += 1) await site.append(producer, pick(KEYS) ?? '');
      await site.pass(random() * 600);
    }
    for (let waits = 0; waits < 60 && site.handled.length < site.count; waits += 1) await site.pass(2_000);
    expect(site.handled).toHaveLength(site.count);
    for (const key of KEYS) {
      const numbers = site.handled.filter((each) => each.key === key).map(({ n }) => n);
      expect(numbers, key).toEqual(numbers.toSorted((a, b) => a - b));
    }
    const last = steps.at(-1) ?? from;
    for (const key of KEYS) {
      const partitions = site.handled.filter((each) => each.key === key).map(({ partition }) => partition);
      expect([partitions[0], partitions.at(-1)]).toEqual([partitionOfKey(key, from), partitionOfKey(key, last)]);
    }
    await site.stop();
  });

  it('holds a new partition back for as long as its ancestor has something to do, and shows that', async () => {
    const site = new Site(() => 0, 1, 1);
    await site.start(1);
    const [producer] = site.producers;
    const key = KEYS.find((each) => partitionOfKey(each, 2) === 1) ?? '';
    await producer?.stream(STREAM).pause();
    const [replica] = site.replicas;
    await replica?.engine.refresh(STREAM);
    await site.append(producer, key);
    await producer?.grow(STREAM, 2);
    await replica?.engine.refresh(STREAM);
    await site.pass(4 * LEASE);
    await site.append(producer, key);
    const heldBack = () => replica?.engine.status().map(({ heldBackBy }) => heldBackBy);
    expect(heldBack()).toEqual([undefined, 0]);
    await producer?.stream(STREAM).resume();
    await replica?.engine.refresh(STREAM);
    await site.pass(5_000);
    expect(site.handled).toEqual([
      { key, n: 0, partition: 0 },
      { key, n: 1, partition: 1 },
    ]);
    expect(heldBack()).toEqual([undefined, undefined]);
    await site.stop();
  });
});
