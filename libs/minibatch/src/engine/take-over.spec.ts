import { describe, expect, it } from 'vitest';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import type { StoredMessage, WindowRecord } from '../storage/stream-store.interface.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { FixedTimeWindow } from '../windows/fixed-time.window.js';
import { type ConsumerChoice, LEASE, Process, stop, STREAM, turns } from './process.spec.support.js';
import { never, useTakeOver } from './take-over.spec.support.js';

const upTo = (n: number) => Array.from({ length: n }, (_, index) => index);

describe('a process that takes over from one that died', () => {
  const test = useTakeOver();
  const { append: stored, next } = test;

  const put = (created: number) => test.plain.append([{ stream: STREAM, data: created, created: new Date(created) }]);

  /** Runs a process until it has begun that many windows, and ends it while it handles them. */
  async function dieHandling(windows: number, choice: ConsumerChoice): Promise<number> {
    const p = new Process(test.database).consumer({ ...choice, handler: never });
    await p.engine.start();
    await turns(() => p.seen.length === windows);
    expect(p.seen).toHaveLength(windows);
    p.kill();
    return p.clock.now();
  }

  it('counts the death for the window that may have been running, not for those that waited behind it', async () => {
    await stored(1, 2);
    const p = await next(await dieHandling(1, { size: 1 }), { size: 1, handler: never });
    expect(p.seen).toHaveLength(1);
    expect(test.rescheduled).toContainEqual({ seq: 1, attempt: 1, recoveries: 1 });
    expect(test.rescheduled.filter(({ seq }) => seq !== 1)).toEqual([]);
    p.kill();
  });

  it('runs the windows that were open one at a time, whatever its workers, until they are through', async () => {
    await stored(...upTo(6));
    let [running, most] = [0, 0];
    const handler = async () => {
      most = Math.max(most, (running += 1));
      await new Promise((resolve) => setImmediate(resolve));
      running -= 1;
    };
    const died = await dieHandling(3, { size: 1, workers: 3 });
    const p = await next(died, { size: 1, workers: 3, handler }, LEASE * 2);
    expect(p.values).toEqual(upTo(6));
    expect(most).toBe(1);
    await stop(p);
  });

  it('forgets the deaths of a window whose handler comes to its end, if only by throwing', async () => {
    await stored(1);
    const handler = () => {
      throw new Error('no');
    };
    const p = await next(await dieHandling(1, { size: 1 }), { size: 1, handler });
    // One counted by the takeover, one noted at the beginning, none with the failure.
    expect(test.rescheduled.find(({ attempt }) => attempt === 2)).toEqual({ seq: 1, attempt: 2, recoveries: 0 });
    await stop(p);
  });

  it.each([
    { size: 2, tried: [2, 2, 2, 1, 1] },
    // A part of several is halved at once: nothing is lost by it.
    { size: 4, tried: [4, 4, 4, 2, 1, 1] },
  ])('takes a window of $size apart after three deaths, and halves what keeps ending its process', async (row) => {
    const { size, tried } = row;
    await stored(...upTo(size));
    let at = new VirtualClock().now();
    const sizes: number[] = [];
    for (let deaths = 0; deaths < tried.length; deaths += 1) {
      const p: Process = new Process(test.database, { clock: new VirtualClock(at) });
      p.consumer({
        size,
        handler: (window) => {
          sizes.push(window.data.length);
          p.kill();
          return never();
        },
      });
      await p.engine.start();
      await p.clock.advance(LEASE * 1.5, () => turns(() => false, 30));
      at = p.clock.now();
    }
    expect(sizes).toEqual(tried);
  });

  it('gives up the message that ends its process again and again on its own, and handles the others once', async () => {
    await stored(1, 2);
    let at = new VirtualClock().now();
    const tried: string[] = [];
    const letters = () => test.plain.deadLetters(STREAM, {}, undefined, 10);
    for (let processes = 0; processes < 20 && (await letters()).length === 0; processes += 1) {
      const p: Process = new Process(test.database, { clock: new VirtualClock(at) });
      p.consumer({
        size: 2,
        handler: ({ data }) => {
          tried.push(data.join('+'));
          if (!data.includes(1)) return undefined;
          p.kill();
          return never();
        },
      });
      await p.engine.start();
      await p.clock.advance(LEASE * 1.5, () => turns(() => false, 30));
      at = p.clock.now();
      const [letter] = await letters();
      if (!letter) continue;
      expect(letter).toMatchObject({
        data: 1,
        consumer: 'Test.default',
        attempts: 1,
        error: 'the process ended while it was handled',
      });
      expect(p.engine.status()[0]).toMatchObject({ deadLettered: 1, recovered: 1, inFlight: 0 });
      expect(p.logged.join()).toContain('gave up a message of window');
      await stop(p);
    }
    expect(await letters()).toHaveLength(1);
    // Three times with others, three times alone, and three times more after the others have succeeded.
    expect(tried).toEqual(['1+2', '1+2', '1+2', '1', '1', '1', '2', '1', '1', '1']);
    expect((await test.plain.stats([STREAM]))[0]).toMatchObject({ buffered: 0, deadLetters: 1 });
  });

  it('counts no death for a window that waited for its next attempt', async () => {
    await stored(1);
    const retry = { base: 120_000, max: 120_000, jitter: 0, attempts: 5 };
    const handler = () => {
      throw new Error('no');
    };
    const first = new Process(test.database).consumer({ size: 1, handler, retry });
    await first.engine.start();
    await turns(() => first.seen.length === 1);
    await turns(() => false, 50);
    first.kill();
    const p = await next(first.clock.now(), { size: 1, handler, retry });
    expect(p.seen).toEqual([]);
    expect(test.rescheduled).toEqual([]);
    expect(p.engine.status()[0]).toMatchObject({ recovered: 1, inFlight: 1 });
    await p.clock.advance(100_000, () => turns(() => false, 60));
    expect(p.seen).toMatchObject([{ attempt: 2 }]);
    await stop(p);
  });

  it('counts no death after an orderly stop, however long the handler took', async () => {
    await stored(1, 2);
    const first = new Process(test.database).consumer({ size: 1, workers: 2, handler: never });
    await first.engine.start();
    await turns(() => first.seen.length === 2);
    await stop(first);
    const p = await next(first.clock.now(), { size: 1, workers: 2, handler: never });
    expect(p.seen).toHaveLength(2);
    expect(test.rescheduled).toEqual([]);
    expect(p.engine.status()[0]).toMatchObject({ recovered: 2 });
    p.kill();
  });

  /** Takes over two windows, of 1 and 2, and of 3 and 4, from whose messages somebody has removed some. */
  async function afterRemoval(...gone: unknown[]): Promise<Process> {
    await stored(1, 2, 3, 4);
    const died = await dieHandling(2, { size: 2, workers: 2 });
    const left = (messages: readonly StoredMessage[]) => messages.filter(({ data }) => !gone.includes(data));
    const p = new Process(test.database, {
      clock: new VirtualClock(died),
      around: async ({ method, proceed }) => {
        const answer = await proceed();
        if (method === 'load') return left(answer as readonly StoredMessage[]);
        if (method !== 'fetch') return answer;
        const block = answer as Awaited<ReturnType<MemoryStreamStore['fetch']>>;
        return { ...block, messages: left(block.messages) };
      },
    }).consumer({ size: 2, workers: 2 });
    await p.engine.start();
    await p.clock.advance(LEASE * 2, () => turns(() => false, 60));
    return p;
  }

  it('handles what is left of a window whose messages somebody removed, and says how many are missing', async () => {
    const p = await afterRemoval(2);
    expect(p.seen.map(({ data }) => data)).toEqual([[1], [3, 4]]);
    const warnings = p.logged.filter((line) => line.includes('vanished'));
    expect(warnings).toEqual([
      expect.stringMatching(/^Test\.default: 1 of 2 messages of window \S+ vanished from the buffer/),
    ]);
    expect(p.engine.status()[0]).toMatchObject({ vanished: 1, recovered: 2, inFlight: 0 });
    expect((await test.plain.stats([STREAM]))[0]).toMatchObject({ consumers: [{ openWindows: 0 }] });
    await stop(p);
  });

  it('closes a window of which nothing is left without calling the handler', async () => {
    const p = await afterRemoval(1, 2);
    expect(p.seen.map(({ data }) => data)).toEqual([[3, 4]]);
    expect(p.engine.status()[0]).toMatchObject({ vanished: 2, recovered: 2, inFlight: 0, deadLettered: 0 });
    expect((await test.plain.stats([STREAM]))[0]).toMatchObject({ consumers: [{ openWindows: 0 }] });
    await stop(p);
  });

  it('continues the numbers of its windows, and knows which intervals they are of', async () => {
    const start = new VirtualClock().now();
    const fixed = () => ({ emitter: new FixedTimeWindow(), interval: 10_000 });
    const first = new Process(test.database).consumer({ ...fixed(), handler: never });
    await first.engine.start();
    for (const at of [1_000, 12_000]) await put(start + at);
    await first.clock.advance(25_000, () => turns(() => false, 30));
    expect(first.seen).toHaveLength(1);
    first.kill();
    // Both intervals have a window, neither of which is committed.
    await put(start + 2_000);
    await put(start + 26_000);
    const told: [Date | undefined, boolean | undefined][] = [];
    const claimed: number[] = [];
    const p = new Process(test.database, {
      clock: new VirtualClock(start + 25_000),
      around: (call) => {
        if (call.method === 'claim') claimed.push(...(call.args[1] as WindowRecord[]).map(({ seq }) => seq));
        return call.proceed();
      },
    }).consumer({ ...fixed(), handler: ({ end, late }) => void told.push([end, late]) });
    await p.engine.start();
    await p.clock.advance(LEASE * 2, () => turns(() => false, 60));
    const end = (seconds: number) => new Date(start + seconds * 1_000);
    expect(told).toEqual([
      [end(10), false],
      [end(20), false],
      [end(10), true],
      [end(30), false],
    ]);
    expect(claimed).toEqual([3, 4]);
    await stop(p);
  });

  it.each([
    { keep: true, left: { messages: 2, windows: 1 } },
    { keep: false, left: { messages: 0, windows: 0 } },
  ])(
    'finishes what was committed and not settled, with keep: $keep, and handles it no more',
    async ({ keep, left }) => {
      const p: Process = new Process(test.database, {
        around: (call) => (call.method === 'settle' ? (p.kill(), never()) : call.proceed()),
      });
      p.consumer({ size: 2, keep });
      await p.engine.start();
      await p.put(1, 2);
      await turns(() => false, 50);
      expect(p.values).toEqual([1, 2]);
      const second = await next(p.clock.now(), { size: 2, keep }, LEASE * 2);
      expect(second.values).toEqual([]);
      expect((await test.plain.stats([STREAM]))[0]).toMatchObject({ buffered: 0, consumers: [{ openWindows: 0 }] });
      expect(await test.plain.sweep(STREAM, { kept: new Date(second.clock.now() + 1) })).toMatchObject(left);
      await stop(second);
    },
  );
});
