import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import type { StreamStats } from '../storage/stream-store.interface.js';
import { FixedTimeWindow } from '../windows/fixed-time.window.js';
import type { MessageView } from '../windows/window-emitter.js';
import { CountWindow } from '../windows/count.window.js';
import type { Retention } from './engine.interface.js';
import { Process, type ProcessOptions, stop, STREAM } from './process.spec.support.js';

const MINUTE = 60_000;
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index);

describe('what nobody wants any more', () => {
  let database: MemoryDatabase;
  let plain: MemoryStreamStore;
  let processes: Process[];
  const make = (retention: Retention = {}, options: ProcessOptions = {}) => {
    const made = new Process(database, options);
    made.engine.retain(STREAM, retention);
    processes.push(made);
    return made;
  };
  const stats = async (): Promise<StreamStats> => {
    const [found] = await plain.stats([STREAM]);
    if (!found) throw new Error('no stream');
    return found;
  };
  const clear = async (p: Process) => {
    await p.store.updateStream(STREAM, { clear: true });
    await p.engine.refresh(STREAM);
    await p.engine.settled();
  };
  const expired = (p: Process) => p.engine.status().map((status) => status.expired);

  beforeEach(() => {
    database = new MemoryDatabase();
    plain = new MemoryStreamStore(database);
    processes = [];
  });
  afterEach(async () => {
    for (const p of processes) await stop(p);
  });

  it('leaves unhandled when it is older than maxAge, and not before', async () => {
    const p = await make({ buffered: MINUTE }).consumer({ size: 10 }).start();
    await p.append(1, 2, 3);
    await p.advance(0.9 * MINUTE);
    expect((await stats()).buffered).toBe(3);
    await p.append(4);
    await p.advance(0.2 * MINUTE);
    expect((await stats()).buffered).toBe(1);
    expect(expired(p)).toEqual([3]);
    expect(p.seen).toEqual([]);
    await p.append(...range(5, 14));
    expect(p.values).toEqual(range(4, 14));
    expect(p.logged.join('\n')).toContain("discarded 3 messages of 's'");
  });

  it('is never handled by one that comes late, nor what waits behind', async () => {
    const before = make();
    await before.store.ensureStream(STREAM);
    await before.put(...range(0, 25));
    const p = make({ buffered: MINUTE });
    await p.clock.advance(5 * MINUTE);
    await p.put(...range(25, 35));
    await p.consumer({ size: 10 }).start();
    expect(p.values).toEqual(range(25, 35));
    expect(expired(p)).toEqual([25]);
    expect((await stats()).buffered).toBe(0);
  });

  it('leaves with the next message that comes, though the next scan is not due yet', async () => {
    const p = await make({ buffered: MINUTE }).consumer({ size: 10 }).start();
    // Scans come every 2.5 seconds, from the start on.
    await p.advance(1_000);
    await p.append(1);
    await p.advance(MINUTE);
    expect(expired(p)).toEqual([0]);
    await p.advance(100);
    await p.append(2);
    expect(expired(p)).toEqual([1]);
    expect((await stats()).buffered).toBe(1);
  });

  it('leaves while the stream is paused, read or not', async () => {
    const p = await make({ buffered: MINUTE }, { engine: { readAhead: 10 } })
      .consumer({ size: 5 })
      .start();
    await p.store.updateStream(STREAM, { paused: true });
    await p.engine.refresh(STREAM);
    await p.append(...range(0, 100));
    await p.advance(2 * MINUTE);
    expect((await stats()).buffered).toBe(0);
    expect(expired(p)).toEqual([100]);
    await p.store.updateStream(STREAM, { paused: false });
    await p.engine.refresh(STREAM);
    await p.append(...range(100, 105));
    expect(p.values).toEqual(range(100, 105));
  });

  it('leaves behind a window that fails and fails; that window is claimed and stays', async () => {
    let broken = true;
    const handler = () => {
      if (broken) throw new Error('broken');
    };
    const p = await make({ buffered: 10 * MINUTE }, { engine: { readAhead: 10 } })
      .consumer({ size: 5, handler, retry: { base: MINUTE, max: MINUTE, jitter: 0, attempts: 1_000 } })
      .start();
    await p.append(...range(0, 100));
    await p.advance(12 * MINUTE);
    const { buffered, consumers } = await stats();
    // The windows that were claimed by then.
    expect(buffered).toBe((consumers[0]?.openWindows ?? 0) * 5);
    expect(buffered).toBeGreaterThan(0);
    expect(buffered).toBeLessThan(50);
    broken = false;
    await p.advance(5 * MINUTE);
    expect((await stats()).buffered).toBe(0);
    expect(new Set(p.values)).toEqual(new Set(range(0, buffered)));
  });

  it('leaves by each group for itself', async () => {
    const p = make({ buffered: MINUTE }).consumer({ size: 1 }).consumer({ group: 'slow', size: 10 });
    await p.start();
    await p.append(1, 2);
    await p.advance(2 * MINUTE);
    expect(expired(p)).toEqual([0, 2]);
    expect((await stats()).buffered).toBe(0);
  });

  it('stays when it was put back by redrive, however old it is', async () => {
    let broken = true;
    const handler = () => {
      if (broken) throw new Error('broken');
    };
    const p = await make({ buffered: MINUTE })
      .consumer({ size: 1, handler, retry: { base: 10, max: 10, jitter: 0, attempts: 1 }, onAllFailed: 'deadLetter' })
      .start();
    await p.append(1);
    await p.advance(5 * MINUTE);
    expect((await stats()).deadLetters).toBe(1);
    broken = false;
    await p.store.redrive(STREAM, {});
    p.engine.wake(STREAM);
    await p.advance(2 * MINUTE);
    expect(expired(p)).toEqual([0]);
    expect((await stats()).buffered).toBe(0);
    expect(p.values.at(-1)).toBe(1);
  });

  it('is found behind newer ones, whatever the clocks of the producers said', async () => {
    const p = await make({ buffered: MINUTE }).consumer({ size: 10 }).start();
    const put = (data: number, created: number) =>
      p.store.append([{ stream: STREAM, data, created: new Date(created) }]);
    await put(1, p.clock.now() + 30_000);
    await put(2, p.clock.now() - 30_000);
    p.engine.wake(STREAM);
    await p.advance(40_000);
    expect((await stats()).buffered).toBe(1);
    await p.advance(60_000);
    expect((await stats()).buffered).toBe(0);
  });

  it('leaves when a process dies on the way, and is not handled by the next', async () => {
    const p = make(
      { buffered: MINUTE },
      { around: (call) => (call.method === 'commit' ? (p.kill(), call.proceed()) : call.proceed()) },
    );
    await p.consumer({ size: 10 }).start();
    await p.append(1, 2, 3);
    const death = p.clock.advance(2 * MINUTE, async () => {
      for (let i = 0; i < 20; i += 1) await new Promise((resolve) => setImmediate(resolve));
    });
    await death;
    const next = await make({ buffered: MINUTE }, { clock: p.clock }).consumer({ size: 1 }).start();
    await next.clock.advance(MINUTE, () => next.engine.settled());
    expect(next.seen).toEqual([]);
    expect((await stats()).buffered).toBe(0);
  });

  it('goes with a clear, in a process that runs and in one that comes later', async () => {
    const p = await make().consumer({ size: 10 }).start();
    await p.append(...range(0, 5));
    await clear(p);
    expect((await stats()).buffered).toBe(0);
    expect(expired(p)).toEqual([5]);

    await p.store.removeGroup(STREAM, 'default');
    const late = make();
    await late.put(...range(5, 30));
    await late.store.updateStream(STREAM, { clear: true });
    await late.put(...range(30, 40));
    await late.consumer({ group: 'late', size: 10 }).start();
    await late.advance(1_000);
    expect(late.values).toEqual(range(30, 40));
    expect((await stats()).buffered).toBe(0);
  });

  it('goes with a clear by what was there, whatever the clocks say', async () => {
    const p = await make().consumer({ size: 10 }).start();
    const put = (data: number, created: number) =>
      p.store.append([{ stream: STREAM, data, created: new Date(created) }]);
    await put(1, p.clock.now() + 365 * 24 * 60 * MINUTE);
    await put(2, 0);
    await clear(p);
    await put(3, 0);
    await put(4, p.clock.now() + 365 * 24 * 60 * MINUTE);
    p.clock.jump(-MINUTE);
    await p.append(...range(5, 13));
    expect(p.values).toEqual(range(3, 13));
    expect(expired(p)).toEqual([2]);
    expect((await stats()).buffered).toBe(0);
  });

  it('goes with a clear when it was read before, by each group, but for what is claimed', async () => {
    let broken = true;
    const handler = () => {
      if (broken) throw new Error('broken');
    };
    const p = make()
      .consumer({ size: 4, handler, retry: { base: MINUTE, max: MINUTE, jitter: 0, attempts: 1_000 } })
      .consumer({ group: 'timed', interval: 10 * MINUTE, emitter: new FixedTimeWindow(), size: undefined as never });
    await p.start();
    await p.append(...range(0, 7));
    await clear(p);
    // The first group has claimed 0 to 3. The commit gathers for a moment.
    await p.advance(100);
    expect(expired(p)).toEqual([3, 7]);
    expect((await stats()).buffered).toBe(4);
    broken = false;
    await p.append(...range(7, 11));
    await p.advance(2 * MINUTE);
    expect(new Set(p.values)).toEqual(new Set([...range(0, 4), ...range(7, 11)]));
    await p.advance(11 * MINUTE);
    expect(p.seen.at(-1)?.data).toEqual(range(7, 11));
    expect((await stats()).buffered).toBe(0);
  });

  it('goes with a clear while the stream is paused, read or not', async () => {
    const p = await make({}, { engine: { readAhead: 10 } })
      .consumer({ size: 50 })
      .start();
    await p.append(...range(0, 20));
    await p.store.updateStream(STREAM, { paused: true });
    await p.engine.refresh(STREAM);
    await p.append(...range(20, 40));
    await clear(p);
    expect((await stats()).buffered).toBe(0);
    await p.store.updateStream(STREAM, { paused: false });
    await p.engine.refresh(STREAM);
    await p.append(...range(40, 90));
    expect(p.values).toEqual(range(40, 90));
  });

  it('goes with a clear when a read that began before is answered after it', async () => {
    let held: (() => void) | undefined;
    let holds = false;
    const p = await make(
      {},
      {
        around: async (call) => {
          const answer = await call.proceed();
          if (holds && call.method === 'fetch') {
            holds = false;
            await new Promise<void>((resolve) => (held = resolve));
          }
          return answer;
        },
      },
    )
      .consumer({ size: 3 })
      .start();
    holds = true;
    await p.put(0, 1, 2);
    p.engine.wake(STREAM);
    for (let turns = 0; !held; turns += 1) {
      if (turns > 1_000) throw new Error('nothing was read');
      await new Promise((resolve) => setImmediate(resolve));
    }
    await p.store.updateStream(STREAM, { clear: true });
    await p.engine.refresh(STREAM);
    await p.put(3, 4, 5);
    held();
    p.engine.wake(STREAM);
    await p.engine.settled();
    expect(p.values).toEqual([3, 4, 5]);
    expect((await stats()).buffered).toBe(0);
  });

  it('is dropped out of a strategy’s sight', async () => {
    const shown: number[] = [];
    class Watching extends CountWindow {
      override windowReady(view: MessageView): boolean {
        shown.push(view.length);
        return super.windowReady(view);
      }
    }
    const p = await make({ buffered: MINUTE }).consumer({ size: 4, emitter: new Watching() }).start();
    await p.append(1, 2, 3);
    await p.advance(2 * MINUTE);
    shown.length = 0;
    await p.append(4);
    expect(Math.max(...shown)).toBe(1);
  });

  it('costs a stream of which nothing is old one look a round', async () => {
    const calls: string[] = [];
    const p = await make({ buffered: 24 * MINUTE }, { around: (call) => (calls.push(call.method), call.proceed()) })
      .consumer({ size: 10 })
      .start();
    await p.append(1);
    calls.length = 0;
    await p.advance(10 * MINUTE);
    expect(calls.filter((method) => method === 'fetchByTime').length).toBeLessThanOrEqual(11);
    expect(calls.filter((method) => method === 'commit' || method === 'claim')).toEqual([]);
  });

  it('is swept where it is kept, or dead, or nobody consumes it', async () => {
    const bad = new Set<unknown>([2]);
    const handler = (window: { data: readonly unknown[] }) => {
      if (window.data.some((item) => bad.has(item))) throw new Error('bad');
    };
    const p = await make({ kept: 10 * MINUTE, deadLetters: 20 * MINUTE })
      .consumer({
        size: 1,
        keep: true,
        handler,
        retry: { base: 10, max: 10, jitter: 0, attempts: 1 },
        onAllFailed: 'deadLetter',
      })
      .start();
    await p.append(1, 2);
    await p.advance(9 * MINUTE);
    expect(p.logged.filter((line) => line.includes('removed'))).toEqual([]);
    await p.advance(3 * MINUTE);
    expect(p.logged.filter((line) => line.includes('removed'))).toEqual([
      `'s': removed 2 kept messages older than ${10 * MINUTE} ms`,
    ]);
    expect((await stats()).deadLetters).toBe(1);
    await p.advance(10 * MINUTE);
    expect((await stats()).deadLetters).toBe(0);

    const lonely = make();
    lonely.engine.retain('lonely', { buffered: 10 * MINUTE });
    await lonely.start();
    await lonely.store.ensureStream('lonely');
    await lonely.store.append([{ stream: 'lonely', data: 1, created: new Date(lonely.clock.now()) }]);
    await lonely.advance(9 * MINUTE);
    expect(await plain.count('lonely', 10)).toBe(1);
    await lonely.advance(3 * MINUTE);
    expect(await plain.count('lonely', 10)).toBe(0);
  });

  it('is left to those who consume it', async () => {
    const consumer = await make().consumer({ size: 10 }).start();
    await consumer.append(1);
    const other = make();
    other.engine.retain(STREAM, { buffered: MINUTE, deadLetters: MINUTE });
    await other.start();
    await other.advance(10 * MINUTE);
    expect((await stats()).buffered).toBe(1);
  });
});
