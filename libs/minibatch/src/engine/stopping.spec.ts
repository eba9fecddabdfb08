import { beforeEach, describe, expect, it } from 'vitest';
import type { Sink } from '../sinks/sink.interface.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import type { Window } from '../windows/window.js';
import { Process, turns } from './process.spec.support.js';

describe('stopping', () => {
  let database: MemoryDatabase;
  let p: Process;

  beforeEach(() => {
    database = new MemoryDatabase();
    p = new Process(database);
  });

  const next = () => new Process(database).consumer({ size: 1 }).start();
  const aborted = (signal: AbortSignal) =>
    new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));

  it('tells handlers at once, and aborts their windows only when the time is up', async () => {
    const windows: Window[] = [];
    await p.consumer({ size: 1, handler: (window) => (windows.push(window), aborted(window.signal)) }).start();
    await p.put(1);
    await turns(() => windows.length > 0);
    const [window] = windows;
    const { closing } = window as Window;
    expect(closing).toBe(window?.closing);
    expect(closing.aborted).toBe(false);

    const stopping = p.engine.stop(6_000);
    expect([closing.aborted, window?.signal.aborted]).toEqual([true, false]);
    await p.clock.advance(5_999);
    expect(window?.signal.aborted).toBe(false);
    await p.clock.advance(1);
    expect(window?.signal.aborted).toBe(true);
    await expect(stopping).resolves.toEqual({ drained: 0, abandoned: 1 });
  });

  it('says in one line that leases could not be given back, however many', async () => {
    const failing = new Process(database, {
      around: (call) => (call.method === 'releaseLease' ? Promise.reject(new Error('away')) : call.proceed()),
    });
    await failing
      .consumer({ size: 1, group: 'a' })
      .consumer({ size: 1, group: 'b' })
      .consumer({ size: 1, group: 'c' })
      .start();
    await turns(() => failing.engine.status().every(({ activity }) => activity === 'waiting'));
    await failing.engine.stop(1_000);
    const lines = failing.logged.filter((line) => line.includes('could not give'));
    expect(lines).toEqual([
      expect.stringMatching(
        / and 2 other consumers: could not give their leases back; they expire on their own: away$/,
      ),
    ]);
  });

  it('has an aborted signal for who asks for it late', async () => {
    let asked: boolean | undefined;
    let go = (): void => undefined;
    await p
      .consumer({
        size: 1,
        handler: async (window) => {
          await new Promise<void>((resolve) => (go = resolve));
          asked = window.closing.aborted;
        },
      })
      .start();
    await p.put(1);
    await turns(() => p.seen.length > 0);
    const stopping = p.engine.stop(6_000);
    go();
    await expect(stopping).resolves.toEqual({ drained: 1, abandoned: 0 });
    expect(asked).toBe(true);
  });

  it('commits what a handler returns early, and counts no attempt of one that throws', async () => {
    await p
      .consumer({ size: 1, group: 'returns', handler: ({ closing }) => aborted(closing) })
      .consumer({
        size: 1,
        handler: async ({ closing }) => {
          await aborted(closing);
          closing.throwIfAborted();
        },
      })
      .start();
    await p.put(1);
    await turns(() => p.seen.length > 1);
    await expect(p.engine.stop(6_000)).resolves.toEqual({ drained: 1, abandoned: 0 });

    const q = await next();
    expect(q.seen).toMatchObject([{ attempt: 1, data: [1] }]);
    await q.engine.stop(0);
  });

  it('is told to sinks, too', async () => {
    let closing: AbortSignal | undefined;
    const sink: Sink = {
      put: (_, window) => {
        closing = window.closing;
        return aborted(window.closing);
      },
    };
    await p.consumer({ size: 1, handler: () => 1, sinks: [{ name: 'Slow', sink }] }).start();
    await p.put(1);
    await turns(() => closing !== undefined);
    await expect(p.engine.stop(6_000)).resolves.toEqual({ drained: 1, abandoned: 0 });
  });

  it('names what it waits for, and what it does not wait for any longer', async () => {
    const never = () => new Promise<never>(() => undefined);
    await p
      .consumer({ size: 1, handler: never })
      .consumer({ size: 1, group: 'sinks', handler: () => 1, sinks: [{ name: 'Slow', sink: { put: never } }] })
      .consumer({ size: 1, group: 'quick' })
      .start();
    await p.put(1);
    await turns(() => p.seen.length > 2);
    const since = new Date(p.clock.now()).toISOString();
    await p.clock.advance(1_000);
    const stopping = p.engine.stop(6_000);
    await p.clock.advance(499);
    expect(p.logged).toEqual([]);
    await p.clock.advance(1);
    const [handled, delivered] = p.seen;
    const what =
      `Test.default: the method with window ${handled?.id} since ${since}; ` +
      `Test.sinks: sink Slow with window ${delivered?.id} since ${since}`;
    expect(p.logged).toEqual([`stopping, waiting for 6000 ms at most for ${what}`]);
    await p.clock.advance(6_000);
    const advice =
      'A method that awaits stop(), disconnect() or app.close() waits for itself: call them there without await';
    expect(p.logged.slice(1)).toEqual([`stopping without waiting any longer for ${what}. ${advice}`]);
    await stopping;
  });

  it('says nothing when all is done soon', async () => {
    await p.consumer({ size: 1 }).start();
    await p.append(1);
    await p.engine.stop(6_000);
    await p.clock.advance(10_000);
    expect(p.logged).toEqual([]);
  });

  it('waits no longer when it has to hurry, and gives the lease back', async () => {
    const hurry = new AbortController();
    await p.consumer({ size: 1, handler: ({ signal }) => aborted(signal) }).start();
    await p.put(1);
    await turns(() => p.seen.length > 0);
    const stopping = p.engine.stop(60_000, hurry.signal);
    await p.clock.advance(1_000);
    hurry.abort();
    await expect(stopping).resolves.toEqual({ drained: 0, abandoned: 1 });
    const q = await next();
    expect(q.seen).toMatchObject([{ attempt: 1 }]);
    await q.engine.stop(0);
  });
});

/** What came of the parts of a window is not stored at each step, so it is stored when the process stops. */
describe('stopping while a window is taken apart', () => {
  const bad = 5;
  const size = 16;
  const retry = { base: 1_000, max: 60_000, jitter: 0, attempts: 1 };
  const all = Array.from({ length: size }, (_, index) => index);
  const good = all.filter((each) => each !== bad);
  const inOrder = (values: readonly unknown[]) => values.map(Number).toSorted((a, b) => a - b);

  it.each([2, 3, 5])('repeats no part that got through, in processes of %i runs each', async (runs) => {
    const database = new MemoryDatabase();
    const put: unknown[] = [];
    const handled: unknown[] = [];
    const sink: Sink = { put: (result) => void put.push(...(result as unknown[])) };
    const choice = { size, interval: 1_000, retry, sinks: [{ name: 'sink', sink }] };
    const handle = ({ data }: Window) => {
      if (data.includes(bad)) throw new Error('bad');
      handled.push(...data);
      return data;
    };
    let lives = 0;
    for (; handled.length < good.length && lives < 20; lives += 1) {
      const short: Process = new Process(database);
      let calls = 0;
      let stopping: Promise<unknown> | undefined;
      const handler = (window: Window) => {
        calls += 1;
        if (calls === runs) stopping = short.engine.stop(1_000);
        return handle(window);
      };
      await short.consumer({ ...choice, handler }).start();
      if (lives === 0) await short.append(...all);
      await turns(() => stopping !== undefined);
      await (stopping ?? short.engine.stop(1_000));
    }
    expect(lives).toBeGreaterThan(1);
    expect(inOrder(handled)).toEqual(good);
    expect(inOrder(put)).toEqual(good);

    // Whether the last one is bad is to be seen anew: a message that gets through shows that everything works.
    const last = await new Process(database).consumer({ ...choice, handler: handle }).start();
    await last.append(size);
    await last.advance(60_000);
    expect(inOrder(put)).toEqual([...good, size]);
    const letters = await last.store.deadLetters('s', {}, undefined, 100);
    expect(letters.map(({ data }) => data)).toEqual([bad]);
    await last.engine.stop(0);
  });
});
