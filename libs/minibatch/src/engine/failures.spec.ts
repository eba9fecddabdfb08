import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../errors/minibatch.error.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import type { Window } from '../windows/window.js';
import { dieOf, LEASE, Process, stop, storeToInspect, STREAM, turns } from './process.spec.support.js';

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index);

/** Fails for windows that hold one of these. */
function allergicTo(bad: ReadonlySet<unknown>) {
  return (window: Window) => {
    for (const item of window.data) if (bad.has(item)) throw new Error(`bad ${String(item)}`);
    return window.data;
  };
}

describe('poison', () => {
  it('gives up the one bad message of 10,000 and commits the others; redriven it gets through', async () => {
    const { database, letters, buffered, plain } = storeToInspect();
    const bad = new Set<unknown>([4_711]);
    const delivered: unknown[] = [];
    const sink = { put: (result: unknown) => void delivered.push(...(result as unknown[])) };
    const p = await new Process(database)
      .consumer({ size: 100, handler: allergicTo(bad), sinks: [{ name: 'sink', sink }] })
      .start();
    await p.append(...range(0, 10_000));
    await p.advance(60_000);

    expect(delivered.length).toBe(9_999);
    expect(new Set(delivered).size).toBe(9_999);
    expect(await buffered()).toBe(0);
    const found = await letters();
    expect(found).toEqual([
      expect.objectContaining({
        data: 4_711,
        error: 'bad 4711',
        attempts: 5,
        consumer: 'Test.default',
        group: 'default',
      }),
    ]);
    expect(found[0]?.stack).toContain('Error: bad 4711');
    expect(p.engine.status()[0]).toMatchObject({ deadLettered: 1, activity: 'waiting' });

    bad.clear();
    expect(await plain.redrive(STREAM, {})).toBe(1);
    p.engine.wake(STREAM);
    await plain.updateStream(STREAM, { flush: true });
    await p.engine.refresh(STREAM);
    await p.engine.settled();
    expect(delivered.at(-1)).toBe(4_711);
    expect(await letters()).toEqual([]);
    await stop(p);
  });

  it('names the parts: ids of their own, and where they come from', async () => {
    const { database } = storeToInspect();
    const parts: (Window['split'] & { id: string })[] = [];
    const bad = new Set<unknown>([2]);
    const p = await new Process(database)
      .consumer({
        size: 4,
        handler: (window) => {
          if (window.split) parts.push({ id: window.id, ...window.split });
          allergicTo(bad)(window);
        },
      })
      .start();
    await p.append(0, 1, 2, 3);
    await p.advance(60_000);
    const whole = p.seen[0]?.id;
    expect(parts.map(({ from, to }) => [from, to])).toEqual([
      [0, 2],
      [2, 4],
      [2, 3],
      [3, 4],
      [2, 3],
    ]);
    expect(parts.every(({ of, id }) => of === whole && id !== whole)).toBe(true);
    await stop(p);
  });

  it('blocks and gives up nothing when every message fails alone; continues when it works again', async () => {
    const { database, letters, buffered } = storeToInspect();
    let down = true;
    const p = await new Process(database)
      .consumer({
        size: 3,
        handler: () => {
          if (down) throw new Error('everything is down');
        },
      })
      .start();
    await p.append(1, 2, 3);
    await p.advance(10 * 60_000);
    expect(await letters()).toEqual([]);
    expect(await buffered()).toBe(3);
    expect(p.logged.some((line) => line.includes(ErrorCode.AllFailed))).toBe(true);
    down = false;
    await p.advance(61_000);
    expect(await buffered()).toBe(0);
    await stop(p);
  });

  it("gives up all of them with onAllFailed: 'deadLetter'", async () => {
    const { database, letters, buffered } = storeToInspect();
    const p = await new Process(database)
      .consumer({ size: 3, onAllFailed: 'deadLetter', handler: allergicTo(new Set<unknown>([1, 2, 3])) })
      .start();
    await p.append(1, 2, 3);
    await p.advance(60_000);
    expect((await letters()).map(({ data }) => data)).toEqual([1, 2, 3]);
    expect(await buffered()).toBe(0);
    await stop(p);
  });

  it('counts a run that takes too long as failed, and aborts its signal', async () => {
    const { database, buffered } = storeToInspect();
    const aborted: unknown[] = [];
    const p = await new Process(database)
      .consumer({
        size: 1,
        retry: { base: 1_000, max: 60_000, jitter: 0, attempts: 5, timeout: 5_000 },
        handler: (window) => {
          if (window.attempt > 1) return;
          return new Promise((_, reject) => {
            window.signal.addEventListener('abort', () => {
              aborted.push(window.signal.reason);
              reject(new Error('aborted'));
            });
          });
        },
      })
      .start();
    await p.put(1);
    await turns(() => p.seen.length === 1);
    await p.clock.advance(5_000, () => turns(() => false, 20));
    expect(p.engine.status()[0]?.lastError?.code).toBe(ErrorCode.HandlerTimeout);
    expect(aborted).toEqual([expect.objectContaining({ code: ErrorCode.HandlerTimeout })]);
    await p.clock.advance(1_000, () => turns(() => false, 20));
    expect(p.seen.map(({ attempt }) => attempt)).toEqual([1, 2]);
    expect(await buffered()).toBe(0);
    await stop(p);
  });

  it('never counts a failing sink against the messages', async () => {
    const { database, letters, buffered } = storeToInspect();
    let down = true;
    const p = await new Process(database)
      .consumer({
        size: 10,
        handler: () => 1,
        sinks: [
          {
            name: 'broker',
            sink: {
              put: () => {
                if (down) throw new Error('broker is gone');
              },
            },
          },
        ],
      })
      .start();
    await p.append(...range(0, 100));
    await p.advance(120_000);
    expect(await letters()).toEqual([]);
    expect(p.engine.status()[0]?.activity).toBe('blocked');
    down = false;
    await p.advance(61_000);
    expect(await buffered()).toBe(0);
    expect(p.seen.length).toBe(10);
    await stop(p);
  });

  it('continues with the parts after a restart; those that are done are not redelivered', async () => {
    const { database, letters, buffered } = storeToInspect();
    const done: unknown[][] = [];
    const bad = new Set<unknown>([6]);
    const handler = (window: Window) => {
      allergicTo(bad)(window);
      done.push([...window.data]);
    };
    let clock = new VirtualClock();
    // Each process does one or two steps and is stopped.
    for (let i = 0; i < 40 && (await buffered()) !== 0; i += 1) {
      const p = await new Process(database, { clock }).consumer({ size: 8, handler }).start();
      if (i === 0) await p.append(...range(0, 8));
      await p.advance(1_000);
      clock = new VirtualClock(p.clock.now());
      await stop(p);
    }
    expect(done.flat().toSorted()).toEqual([0, 1, 2, 3, 4, 5, 7]);
    expect((await letters()).map(({ data }) => data)).toEqual([6]);
  });

  it.each(['recover', 'load'])(
    'gives up nothing, however often processes end at %s, before a handler has begun',
    async (method) => {
      const { database, letters, buffered, plain } = storeToInspect();
      await plain.ensureStream(STREAM);
      await plain.append(range(0, 32).map((data) => ({ stream: STREAM, data, created: new Date() })));
      let clock = new VirtualClock();
      for (let deaths = 0; deaths < 30; deaths += 1) {
        const p: Process = new Process(database, {
          clock,
          // The first one ends in its handler, so that there is something to take over.
          around: async (call) => {
            const answer = await call.proceed();
            if (deaths > 0 && call.method === method) p.kill();
            return answer;
          },
        });
        p.consumer({ size: 8, handler: () => (p.kill(), new Promise(() => undefined)) });
        await p.engine.start();
        await p.clock.advance(LEASE * 1.5, () => turns(() => false, 30));
        clock = new VirtualClock(p.clock.now());
      }
      const last = await new Process(database, { clock }).consumer({ size: 8 }).start();
      await last.advance(LEASE * 1.5);
      expect(await letters()).toEqual([]);
      expect(last.values.toSorted((a, b) => Number(a) - Number(b))).toEqual(range(0, 32));
      expect(await buffered()).toBe(0);
    },
  );

  it('finds the message that ends its process', async () => {
    const { database, letters, buffered, plain } = storeToInspect();
    await plain.ensureStream(STREAM);
    await plain.append(range(0, 32).map((data) => ({ stream: STREAM, data, created: new Date() })));
    const { done, deaths } = await dieOf(database, 13, { size: 8 });
    expect(deaths).toBeLessThan(20);
    expect((await letters()).map(({ data, error }) => [data, error])).toEqual([
      [13, 'the process ended while it was handled'],
    ]);
    expect(done.size).toBe(31);
    expect(await buffered()).toBe(0);
  });
});

describe('anything that is thrown', () => {
  const revoked = () => {
    const { proxy, revoke } = Proxy.revocable(new Error('gone'), {});
    revoke();
    return proxy;
  };
  class FieldError extends Error {
    override readonly message = { reason: 'not a text' } as unknown as string;
    override readonly stack = ['not', 'a', 'text'] as unknown as string;
  }
  class GetterError extends Error {
    override get message(): string {
      throw new Error('no message');
    }
    override get stack(): string {
      throw new Error('no stack');
    }
  }
  const symbol = () => Object.assign(new Error(), { message: Symbol('s') });
  const thrown: [string, () => unknown, string | RegExp][] = [
    ['a message and a stack that are objects', () => new FieldError(), 'Error: {"reason":"not a text"}'],
    ['getters that throw', () => new GetterError(), 'Error'],
    ['a revoked proxy', revoked, 'an error that cannot be read'],
    ['a symbol', () => Symbol('s'), 'Symbol(s)'],
    ['a message that is a symbol', symbol, 'Error: Symbol(s)'],
    ['an object without a prototype', () => Object.create(null) as unknown, '[object Object]'],
    ['nothing', () => undefined, 'undefined'],
    ['a message of megabytes', () => new Error('✈'.repeat(4_000_000)), /^✈+ … \(\d+ bytes cut\)$/],
  ];

  it.each(thrown)('is a failed attempt of the handler, and in the end a dead letter: %s', async (_, make, text) => {
    const database = new MemoryDatabase();
    const plain = new MemoryStreamStore(database);
    const p = await new Process(database)
      .consumer({
        size: 2,
        retry: { base: 1_000, max: 60_000, jitter: 0, attempts: 2 },
        handler: (window) => {
          if (window.data.includes('bad')) throw make();
        },
      })
      .start();
    await p.append('good', 'bad');
    const { lastError } = p.engine.status()[0] ?? {};
    expect(lastError).toMatchObject({ code: ErrorCode.HandlerFailed });
    expect(lastError?.message).toMatch(text);
    await p.advance(30_000);
    const [letter, ...others] = await plain.deadLetters(STREAM, {}, undefined, 10);
    expect(others).toEqual([]);
    expect(letter).toMatchObject({ data: 'bad', attempts: 2 });
    expect(letter?.error).toMatch(text);
    expect(['string', 'undefined']).toContain(typeof letter?.stack);
    expect((await plain.stats([STREAM]))[0]?.buffered).toBe(0);
    for (const line of p.logged) expect(Buffer.byteLength(line)).toBeLessThan(3_000);
    await stop(p);
  });

  it.each(thrown)('by a sink is tried again: %s', async (_, make, text) => {
    const database = new MemoryDatabase();
    const taken: unknown[] = [];
    let failures = 0;
    const sink = {
      put: (result: unknown) => {
        failures += 1;
        if (failures <= 2) throw make();
        taken.push(result);
      },
    };
    const p = await new Process(database)
      .consumer({ size: 1, handler: () => 'result', sinks: [{ name: 'sink', sink }] })
      .start();
    await p.append(1);
    const { lastError, activity } = p.engine.status()[0] ?? {};
    expect({ activity, code: lastError?.code }).toEqual({ activity: 'blocked', code: ErrorCode.SinkFailed });
    expect(lastError?.message).toMatch(text);
    await p.advance(10_000);
    expect(taken).toEqual(['result']);
    expect(p.logged.filter((line) => line.includes('will be restarted'))).toEqual([]);
    await stop(p);
  });

  it('as the reason of a rejection is the text of the dead letter', async () => {
    const database = new MemoryDatabase();
    const plain = new MemoryStreamStore(database);
    const p = await new Process(database)
      .consumer({
        size: 2,
        handler: (window) => {
          for (const message of window.messages) if (message.data === 'bad') window.reject(message, new GetterError());
        },
      })
      .start();
    await p.append('good', 'bad');
    expect(await plain.deadLetters(STREAM, {}, undefined, 10)).toMatchObject([{ error: 'Error' }]);
    await stop(p);
  });
});
