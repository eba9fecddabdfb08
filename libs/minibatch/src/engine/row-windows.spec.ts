import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../errors/minibatch.error.js';
import type { StreamStore } from '../storage/stream-store.interface.js';
import type { StoreCall } from '../testing/wrapped-store.js';
import type { Window } from '../windows/window.js';
import { LEASE, Process, stop, STREAM, storeToInspect, turns } from './process.spec.support.js';
import { keyOf, pairs, pairsOf } from './row-windows.spec.support.js';

const KEY = { stream: STREAM, group: 'default', partition: 0 };
const PAIRS = { size: 4, interval: 100, stage: pairs, retry: { base: 1_000, max: 4_000, jitter: 0, attempts: 2 } };
const joined = ({ data }: { readonly data: readonly unknown[] }) => data.join();

describe('windows of rows', () => {
  const world = () => {
    const { database, plain, letters, buffered } = storeToInspect();
    const slots = async () =>
      (await plain.listState(KEY, undefined, { rows: 1_000, bytes: 1e9 })).rows.map((row) => row.slot);
    const claimed = async () => (await plain.readWindows(KEY, 'claimed', undefined, 100)).windows;
    return { database, plain, letters, buffered, slots, claimed };
  };

  it('are given to the handler, with what they say of themselves', async () => {
    const { database, buffered, slots, claimed } = world();
    const windows: Window[] = [];
    const p = await new Process(database)
      .consumer({ ...PAIRS, handler: (window) => void windows.push(window) })
      .start();
    await p.append('a1', 'b1', 'a2', 'a3');
    expect(windows.map(joined)).toEqual(['a1', 'b1', 'a1,a2', 'a2,a3']);
    expect(windows.map(({ key, partial, revision, late, attempt }) => [key, partial, revision, late, attempt])).toEqual(
      [
        ['a', true, 0, false, 1],
        ['b', true, 0, false, 1],
        ['a', false, 0, false, 1],
        ['a', false, 0, false, 1],
      ],
    );
    expect(windows[2]).toMatchObject({
      start: new Date(1_000),
      end: new Date(3_000),
      stream: STREAM,
      group: 'default',
    });
    expect(await buffered()).toBe(0);
    expect(await claimed()).toEqual([]);
    // What the next windows need, and nothing else.
    expect(await slots()).toEqual(['c/a/2', 'c/b/0', 'k/a', 'k/b', 'q/']);
    await stop(p);
  });

  it('count when the handler is through, and what goes into rows does not', async () => {
    const { database } = world();
    const p = await new Process(database).consumer(PAIRS).start();
    await p.append('a1', 'b1', 'a2', 'a3');
    const [status] = p.engine.status();
    expect(status).toMatchObject({ committedWindows: 4, committedMessages: 6, inFlight: 0 });
    await stop(p);
  });

  it('have ids of their own, even with the same messages', async () => {
    const { database } = world();
    const ids = new Set<string>();
    const twice = {
      ...pairs,
      run: async (
        window: Window,
        changes: Parameters<typeof pairs.run>[1],
        strategy: Parameters<typeof pairs.run>[2],
      ) => {
        const fire = changes.fire.bind(changes);
        changes.fire = (each) => {
          fire(each);
          fire({ ...each, name: `${each.name}+` });
        };
        await pairs.run(window, changes, strategy);
      },
    };
    const p = await new Process(database)
      .consumer({ ...PAIRS, stage: twice, handler: ({ id }) => void ids.add(id) })
      .start();
    await p.append('a1', 'a2');
    await p.advance(200);
    expect(ids.size).toBe(4);
    await stop(p);
  });

  it('run one after another for a key, and side by side for several, up to `workers`', async () => {
    const { database } = world();
    const running = new Map<string, () => void>();
    let most = 0;
    const p = new Process(database).consumer({
      ...PAIRS,
      workers: 3,
      handler: async (window) => {
        const key = window.key!;
        if (running.has(key)) throw new Error('two of a key at once');
        await new Promise<void>((resolve) => running.set(key, resolve));
        most = Math.max(most, running.size);
        running.delete(key);
      },
    });
    void p.start();
    await turns(() => p.started);
    const data = ['a', 'b', 'c', 'd', 'e'].flatMap((key) => [1, 2, 3].map((n) => `${key}${n}`));
    await p.put(...data);
    for (let n = 0; n < 40 && p.seen.length < data.length; n += 1) {
      await turns(() => running.size === 3, 100);
      for (const resolve of [...running.values()]) resolve();
      await turns(() => running.size === 0, 20);
      await p.clock.advance(200);
    }
    expect(p.seen).toHaveLength(15);
    expect(most).toBe(3);
    for (const [key, windows] of pairsOf(data)) {
      expect(p.seen.filter(({ data: [first] }) => keyOf(first) === key).map(joined)).toEqual(windows);
    }
    for (const resolve of running.values()) resolve();
    await stop(p);
  });

  it('give their worker back while they wait for the next attempt, and hold their key up', async () => {
    const { database, letters } = world();
    let failures = 0;
    const done: string[] = [];
    const p = await new Process(database)
      .consumer({
        ...PAIRS,
        handler: (window) => {
          if (joined(window) === 'a1' && failures < 1) {
            failures += 1;
            throw new Error('not now');
          }
          done.push(joined(window));
        },
      })
      .start();
    await p.append('a1', 'a2', 'b1', 'b2');
    // One worker: the key that failed waits, and the other does not.
    expect(done).toEqual(['b1', 'b1,b2']);
    await p.advance(1_000);
    expect(done).toEqual(['b1', 'b1,b2', 'a1', 'a1,a2']);
    expect(await letters()).toEqual([]);
    await stop(p);
  });

  it('do not wait for a key of which many windows wait, more than are read ahead', async () => {
    const { database } = world();
    const good: string[] = [];
    const p = await new Process(database, { engine: { readAhead: 20 } })
      .consumer({
        ...PAIRS,
        workers: 2,
        retry: { base: 3_600_000, max: 3_600_000, jitter: 0, attempts: 100 },
        handler: (window) => {
          if (window.key === 'z') throw new Error('no z');
          good.push(joined(window));
        },
      })
      .start();
    for (let n = 0; n < 200; n += 1) await p.append(`z${n}`, `a${n}`);
    await p.advance(1_000);
    expect(good).toHaveLength(200);
    await stop(p);
  });

  it('of other keys are tried first when one key fails, which is no outage', async () => {
    const { database, letters } = world();
    const good: string[] = [];
    const p = await new Process(database)
      .consumer({
        ...PAIRS,
        workers: 4,
        retry: { base: 1_000, max: 3_600_000, jitter: 0, attempts: 1 },
        handler: (window) => {
          if (window.key === 'z') throw new Error('no z');
          good.push(joined(window));
        },
      })
      .start();
    await p.append(...Array.from({ length: 50 }, (_, n) => `z${n}`));
    await p.advance(2_000);
    // Only windows of one key have failed: the next one of another key is tried at once.
    expect(good).toEqual([]);
    for (let n = 0; n < 20; n += 1) {
      await p.append(`a${n}`, `z${50 + n}`);
      await p.advance(200);
      expect(good).toHaveLength(n + 1);
    }
    expect(p.logged.filter((line) => line.includes('No window is given up'))).toEqual([]);
    // Each that gets through is evidence against one of the key's messages.
    expect(await letters()).toHaveLength(20);
    await stop(p);
  });

  it('have the time limit of the method, which the stage has not', async () => {
    const { database, letters } = world();
    let release = (): void => undefined;
    const slow = {
      ...pairs,
      run: async (...args: Parameters<typeof pairs.run>) => {
        await new Promise<void>((resolve) => (release = resolve));
        await pairs.run(...args);
      },
    };
    const retry = { ...PAIRS.retry, timeout: 50 };
    const p = new Process(database).consumer({ ...PAIRS, stage: slow, retry });
    void p.start();
    await turns(() => p.started);
    await p.put('a1');
    await p.clock.advance(1_000);
    await turns(() => false, 20);
    expect(p.engine.status()[0]?.failures).toBe(0);
    release();
    await turns(() => p.seen.length > 0, 200);
    expect(p.seen.map(joined)).toEqual(['a1']);
    expect(await letters()).toEqual([]);
    await stop(p);
  });

  it('are taken apart, and a bad message becomes a dead letter as it was appended, once', async () => {
    const { database, letters, slots, plain } = world();
    let isBad = true;
    const done: string[] = [];
    const p = await new Process(database)
      .consumer({
        ...PAIRS,
        handler: (window) => {
          if (isBad && window.data.includes('a2')) throw new Error('bad');
          done.push(joined(window));
        },
      })
      .start();
    await p.append('a1', 'a2', 'a3', 'b1');
    await p.advance(60_000);
    await p.append('b2', 'b3');
    await p.advance(60_000);
    const dead = await letters();
    expect(dead.map(({ data, error, consumer }) => [data, error, consumer])).toEqual([['a2', 'bad', 'Test.default']]);
    expect(done.filter((each) => each.includes('a'))).toEqual(['a1', 'a1', 'a3']);
    expect(await slots()).toEqual(['c/a/2', 'c/b/2', 'k/a', 'k/b', 'q/']);
    isBad = false;
    expect(await plain.redrive(STREAM, {})).toBe(1);
    p.engine.wake(STREAM);
    await p.advance(5_000);
    expect(done.at(-1)).toBe('a3,a2');
    expect(await letters()).toEqual([]);
    await stop(p);
  });

  it('let a message be rejected, and the stage another', async () => {
    const { database, letters } = world();
    const p = await new Process(database)
      .consumer({
        ...PAIRS,
        handler: (window) => {
          for (const message of window.messages) if (message.data === 'a2') window.reject(message, new Error('no'));
        },
      })
      .start();
    await p.append('a1', 'a2', '?', 'b1');
    await p.advance(60_000);
    expect((await letters()).map(({ data, error }) => [data, error])).toEqual([
      ['?', 'no key'],
      ['a2', 'no'],
    ]);
    await stop(p);
  });

  it('go to sinks with the ids that they have, again after a crash', async () => {
    const { database, slots } = world();
    const put: string[] = [];
    const sink = { put: (result: unknown, window: Window) => void put.push(`${window.id} ${String(result)}`) };
    const consumer = (p: Process, dies: boolean) =>
      p.consumer({
        ...PAIRS,
        handler: joined,
        sinks: [
          {
            name: 'sink',
            sink: {
              put: async (result: unknown, window: Window) => {
                sink.put(result, window);
                if (dies && result === 'a1,a2') p.kill();
              },
            },
          },
        ],
      });
    const first = consumer(new Process(database), true);
    void first.start();
    await turns(() => first.started);
    await first.put('a1', 'a2', 'a3', 'a4');
    await turns(() => put.length >= 2, 500);
    const second = await consumer(new Process(database), false).start();
    await second.advance(3 * LEASE);
    const results = [...new Set(put)].map((each) => each.split(' ')[1]);
    expect(results).toEqual(['a1', 'a1,a2', 'a2,a3', 'a3,a4']);
    expect(put.filter((each) => each.endsWith(' a1,a2'))).toHaveLength(2);
    expect(await slots()).toEqual(['c/a/3', 'k/a', 'q/']);
    await stop(second);
  });

  it('are claimed after the commit that makes them, and come again as they were claimed', async () => {
    const { database, claimed } = world();
    const order: string[] = [];
    const around = (p: () => Process, dies: boolean) => async (call: StoreCall) => {
      const [, given] = call.args as [unknown, { readonly slots?: unknown }[]];
      if (call.method === 'claim') order.push(given[0]?.slots ? 'claim rows' : 'claim');
      if (call.method === 'settle') order.push('settle');
      const answer = await call.proceed();
      if (dies && call.method === 'claim' && given[0]?.slots) p().kill();
      return answer;
    };
    const first: Process = new Process(database, { around: around(() => first, true) });
    first.consumer(PAIRS);
    void first.start();
    await turns(() => first.started);
    await first.put('a1', 'a2', 'b1', 'b2');
    await turns(() => order.length >= 3, 300);
    expect(order).toEqual(['claim', 'settle', 'claim rows']);
    const before = await claimed();
    expect(before.map(({ slots, key }) => [slots, key])).toEqual([
      [['f/0'], 'a'],
      [['f/1'], 'a'],
      [['f/2'], 'b'],
      [['f/3'], 'b'],
    ]);
    const second = await new Process(database).consumer(PAIRS).start();
    await second.put('a3');
    await second.advance(2 * LEASE);
    expect(second.seen.map(({ id }) => id).slice(0, 4)).toEqual(before.map(({ id }) => id));
    expect(second.seen.map(joined)).toEqual(['a1', 'a1,a2', 'b1', 'b1,b2', 'a2,a3']);
    await stop(second);
  });

  it('are claimed in their order, although a claim was stored in part', async () => {
    const { database, claimed, plain } = world();
    const first: Process = new Process(database, {
      around: async (call) => {
        const [lease, given] = call.args as [never, { readonly slots?: unknown }[]];
        if (call.method !== 'claim' || !given[0]?.slots) return call.proceed();
        // The second and the last of four.
        await plain.claim(lease, [given[1], given[3]] as never);
        first.kill();
        return new Promise(() => undefined);
      },
    });
    first.consumer(PAIRS);
    void first.start();
    await turns(() => first.started);
    let isStored = false;
    await first.put('a1', 'a2', 'a3', 'a4');
    await turns(() => {
      void claimed().then((windows) => (isStored = windows.length === 2 && windows[0]?.slots !== undefined));
      return isStored;
    }, 300);
    expect(isStored).toBe(true);
    const second = await new Process(database).consumer(PAIRS).start();
    await second.advance(2 * LEASE);
    expect(second.seen.map(joined)).toEqual(['a1', 'a1,a2', 'a2,a3', 'a3,a4']);
    await stop(second);
  });

  it('keep the rows that one which is set aside needs, although the last one has been handled', async () => {
    const { database, slots } = world();
    const removed: (readonly string[])[] = [];
    let isDown = true;
    const p = await new Process(database, {
      around: (call) => {
        const { effects } = call.method === 'commit' ? (call.args as Parameters<StreamStore['commit']>)[1] : {};
        for (const { remove } of effects?.values() ?? []) if (remove) removed.push(remove);
        return call.proceed();
      },
    })
      .consumer({
        ...PAIRS,
        handler: (window) => {
          // The second window gets through where the first, alone, does not.
          if (isDown && joined(window) === 'a1' && !window.split) throw new Error('down');
          if (isDown && window.split) throw new Error('down');
          isDown = false;
        },
      })
      .start();
    await p.append('a1', 'a2');
    await p.advance(60_000);
    expect(removed).toEqual([['f/1'], ['f/0', 'c/a/0']]);
    expect(await slots()).toEqual(['c/a/1', 'k/a', 'q/']);
    await stop(p);
  });

  it('hold a consumer up that makes none, and are handled when the earlier version runs again', async () => {
    const { database } = world();
    const first = new Process(database).consumer({ ...PAIRS, handler: () => new Promise(() => undefined) });
    void first.start();
    await turns(() => first.started);
    await first.put('a1', 'a2');
    await first.clock.advance(200);
    await turns(() => first.seen.length > 0, 200);
    first.kill();
    const other = new Process(database).consumer({ size: 2 });
    void other.engine.start();
    await other.clock.advance(2 * LEASE, () => turns(() => false, 20));
    expect(other.seen).toEqual([]);
    expect(other.logged.join('\n')).toContain(ErrorCode.StageChanged);
    other.kill();
    const third = await new Process(database).consumer(PAIRS).start();
    await third.advance(3 * LEASE);
    expect(third.seen.map(joined)).toEqual(['a1', 'a1,a2']);
    await stop(third);
  });

  it('hold it up although none is claimed, as long as there are rows', async () => {
    const { database } = world();
    const first = await new Process(database).consumer(PAIRS).start();
    await first.append('a1');
    await first.advance(200);
    await stop(first);
    const other = new Process(database).consumer({ size: 2 });
    void other.engine.start();
    await other.clock.advance(2 * LEASE, () => turns(() => false, 20));
    expect(other.logged.join('\n')).toContain(ErrorCode.StageChanged);
    other.kill();
  });
});
