import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import type { ConsumerKey, FetchLimits, StreamStore } from '../storage/stream-store.interface.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { type StoreCall, wrapStore } from '../testing/wrapped-store.js';
import { Process, type ProcessOptions, stop, STREAM, turns } from './process.spec.support.js';

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index);
const KEY: ConsumerKey = { stream: STREAM, group: 'default', partition: 0 };

/** Ids of several processes interleave, as on MongoDB. */
class Interleaving extends MemoryStreamStore {
  override readonly totalOrder = false;
}

describe('reading', () => {
  let database: MemoryDatabase;
  /** Another process's way to the database. */
  let other: MemoryStreamStore;
  let processes: Process[];
  beforeEach(() => {
    database = new MemoryDatabase();
    other = new MemoryStreamStore(database);
    processes = [];
  });
  afterEach(async () => {
    for (const p of processes) await stop(p);
  });

  const make = (options: ProcessOptions = {}): Process => {
    const made = new Process(database, options);
    processes.push(made);
    return made;
  };
  const row = (data: unknown, p: Process) => ({ stream: STREAM, data, created: new Date(p.clock.now()) });
  const buffered = async () => (await other.stats([STREAM]))[0]?.buffered;

  it('forgets the ids of what was committed: a drained stream is read by one fetch, however much it has seen', async () => {
    const calls: string[] = [];
    const around = (call: StoreCall) => (calls.push(call.method), call.proceed());
    const p = await make({ store: new Interleaving(database), around })
      .consumer({ size: 10 })
      .start();
    for (const n of range(0, 20)) await p.append(...range(n * 10, n * 10 + 10));
    calls.length = 0;
    await p.append(...range(200, 210));
    expect(p.values).toHaveLength(210);
    expect(calls).not.toContain('scan');
  });

  it('brings nothing back that was deleted while a fetch that had seen it was on its way', async () => {
    let hold: Promise<void> | undefined;
    let [answer, finish] = [(): void => undefined, (): void => undefined];
    const around = async (call: StoreCall) => {
      const result = await call.proceed();
      if (call.method === 'fetch' && hold) await hold;
      return result;
    };
    const p = make({ store: new Interleaving(database), around });
    const handler = () => (p.seen.length === 1 ? new Promise<void>((resolve) => (finish = resolve)) : undefined);
    await p.consumer({ size: 2, handler }).start();
    await p.put(1, 2);
    await turns(() => p.seen.length === 1);
    hold = new Promise((resolve) => (answer = resolve));
    await p.put(3); // Its fetch sees all three.
    await turns(() => false, 20);
    finish();
    await turns(() => false, 50);
    expect(await buffered()).toBe(1);
    hold = undefined;
    answer();
    await p.engine.settled();
    await p.append(4);
    expect(p.values).toEqual([1, 2, 3, 4]);
  });

  it('finds within a few blocks of a long backlog what came in below the cursor', async () => {
    const hidden = new Set<unknown>(range(0, 500).map((n) => n * 2));
    const interleaving = new Interleaving(database);
    const p = make({ engine: { readAhead: 100 }, store: hiding(interleaving, hidden) });
    p.consumer({ size: 10, handler: () => void (p.seen.length === 60 && hidden.clear()) });
    await other.ensureStream(STREAM);
    await other.append(range(0, 6_000).map((data) => row(data, p)));
    await p.start();
    expect(p.values.toSorted((a, b) => Number(a) - Number(b))).toEqual(range(0, 6_000));
    expect(p.values.indexOf(0)).toBeGreaterThan(0);
    expect(p.values.indexOf(0)).toBeLessThan(2_500);
  });

  it('with a flush emits what another process has appended and nobody has told of', async () => {
    const p = await make().consumer({ size: 10 }).start();
    await p.append(1, 2, 3);
    await other.append([row(4, p)]);
    await p.store.updateStream(STREAM, { flush: true });
    await p.engine.refresh(STREAM);
    await p.engine.settled();
    expect(p.values).toEqual([1, 2, 3, 4]);
  });

  it('for a clear reaches what a paused consumer has not read, and handles none of it', async () => {
    const p = await make().consumer({ size: 10 }).start();
    await p.store.updateStream(STREAM, { paused: true });
    await p.engine.refresh(STREAM);
    await other.append(range(0, 5).map((n) => row(n, p)));
    await p.advance(10);
    expect(await buffered()).toBe(5);
    await p.store.updateStream(STREAM, { clear: true });
    await p.engine.refresh(STREAM);
    await p.engine.settled();
    expect(await buffered()).toBe(0);
    expect(p.values).toEqual([]);
  });

  it.each([
    ['a pause', { paused: true }],
    ['a clear', { clear: true }],
  ] as const)('with a backlog sees %s of another process when it commits, by one command', async (_, change) => {
    let reads = 0;
    const around = (call: StoreCall) => ((reads += Number(call.method === 'listStreams')), call.proceed());
    let finish = () => {};
    const handler = () => new Promise<void>((resolve) => (finish = resolve));
    const p = make({ engine: { readAhead: 2 }, around }).consumer({ size: 1, handler });
    await other.ensureStream(STREAM);
    await other.append(range(0, 40).map((n) => row(n, p)));
    void p.start();
    await turns(() => p.seen.length === 2 || (p.seen.length === 1 && finish(), false));
    await other.updateStream(STREAM, change);
    reads = 0;
    // Time for commits, but not for a round of leases.
    for (let step = 0; step < 30; step += 1) {
      finish();
      await p.clock.advance(30);
      await turns(() => false, 20);
    }
    // What was claimed by then is handled.
    expect(p.seen.length).toBeLessThan(10);
    expect(await buffered()).toBe('clear' in change ? 0 : 40 - p.seen.length);
    expect(reads).toBe(1);
    p.kill();
  });

  it('scans for what was cleared apart from the reads by which it goes through the stream', async () => {
    const reads: unknown[] = [];
    const around = (call: StoreCall) => {
      if (call.method === 'fetch') reads.push((call.args[2] as FetchLimits).aside);
      return call.proceed();
    };
    const p = await make({ around }).consumer({ size: 10 }).start();
    await p.store.updateStream(STREAM, { paused: true });
    await p.engine.refresh(STREAM);
    await other.append([row(1, p)]);
    await p.advance(10);
    reads.length = 0;
    await other.updateStream(STREAM, { clear: true });
    await p.engine.refresh(STREAM);
    await p.engine.settled();
    expect(await buffered()).toBe(0);
    expect(reads).toEqual([true]);
    await other.updateStream(STREAM, { paused: false });
    await p.engine.refresh(STREAM);
    await p.append(2);
    expect(reads.slice(1)).toContain(undefined);
  });

  it('reads nothing while the strategy waits for a time, whatever is appended', async () => {
    const reads: string[] = [];
    const around = (call: StoreCall) => {
      if (call.method.startsWith('fetch')) reads.push(call.method);
      return call.proceed();
    };
    const p = await make({ around }).consumer({ interval: 10_000 }).start();
    await p.append(1);
    await p.advance(10_000);
    expect(p.values).toEqual([1]);
    reads.length = 0;
    await p.append(2);
    await p.advance(9_000);
    await p.append(3);
    expect(reads).toEqual([]);
    await p.advance(1_000);
    expect(p.values).toEqual([1, 2, 3]);
  });

  it('looks often again after activity: a long pause at rest is cut short', async () => {
    let polls = 0;
    const around = (call: StoreCall) => ((polls += Number(call.method === 'poll')), call.proceed());
    const p = await make({ around }).consumer({ size: 1 }).start();
    await p.advance(5_000);
    const atRest = polls;
    for (let step = 0; step < 100 && polls === atRest; step += 1) await p.advance(5);
    expect(polls).toBe(atRest + 1); // The next scheduled poll is 250 ms away.
    p.engine.wake(STREAM);
    await p.engine.settled();
    await other.append([row('other', p)]);
    await p.advance(60);
    expect(p.values).toEqual(['other']);
  });

  it('leaves no timer behind when the engine has stopped', async () => {
    const clock = new CountingClock();
    const p = new Process(database, { clock }).consumer({ size: 1 }).consumer({ group: 'timed', interval: 1_000 });
    await p.start();
    await p.append(1, 2);
    await p.advance(3_000);
    expect(p.values.toSorted()).toEqual([1, 1, 2, 2]);
    expect(clock.waiting).toBeGreaterThan(0);
    await p.engine.stop(0);
    await clock.advance(0);
    expect(clock.waiting).toBe(0);
  });

  /** The store as one that has not stored the hidden ones yet, whose ids are given. */
  function hiding(store: StreamStore, hidden: ReadonlySet<unknown>): StreamStore {
    const visible = async (after: string | undefined) => {
      const { messages } = await store.fetch(KEY, after, { messages: 1e6, bytes: 1e9 });
      return messages.filter(({ data }) => !hidden.has(data));
    };
    return wrapStore(store, async (call) => {
      if (call.method === 'fetch') {
        const [, after, { messages }] = call.args as Parameters<StreamStore['fetch']>;
        const rest = await visible(after);
        return { messages: rest.slice(0, messages), full: rest.length >= messages };
      }
      if (call.method === 'scan') {
        const [, after, until, limit] = call.args as Parameters<StreamStore['scan']>;
        const ids = (await visible(after)).map(({ id }) => id);
        return ids.filter((id) => until === undefined || id <= until).slice(0, limit);
      }
      return call.proceed();
    });
  }
});

class CountingClock extends VirtualClock {
  /** Timers that have neither fired nor been cancelled. */
  waiting = 0;

  override schedule(ms: number, callback: () => void): () => void {
    let isOver = false;
    const end = (): void => {
      if (!isOver) this.waiting -= 1;
      isOver = true;
    };
    this.waiting += 1;
    const cancel = super.schedule(ms, () => {
      end();
      callback();
    });
    return () => {
      end();
      cancel();
    };
  }
}
