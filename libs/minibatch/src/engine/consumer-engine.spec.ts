import { afterEach, describe, expect, it } from 'vitest';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import type { Block, MessageId, StreamStore } from '../storage/stream-store.interface.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { CountWindow } from '../windows/count.window.js';
import { FixedTimeWindow } from '../windows/fixed-time.window.js';
import { type MessageView, WindowEmitter } from '../windows/window-emitter.js';
import { ConsumerState } from './engine.interface.js';
import { LEASE, Process, STREAM, turns } from './process.spec.support.js';

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index);

/** As where each process gives the ids of its messages. */
class Interleaving extends MemoryStreamStore {
  override readonly totalOrder = false;
}

describe('ConsumerEngine', () => {
  const processes: Process[] = [];
  const database = { current: new MemoryDatabase() };
  const make = (options?: ConstructorParameters<typeof Process>[1]) => {
    const made = new Process(database.current, options);
    processes.push(made);
    return made;
  };
  const buffered = async () => (await new MemoryStreamStore(database.current).stats([STREAM]))[0]?.buffered;

  afterEach(async () => {
    for (const p of processes.splice(0)) {
      if (!p.started) continue;
      const stopping = p.engine.stop(0);
      await p.advance(10_000);
      await stopping;
    }
    database.current = new MemoryDatabase();
  });

  describe('windows', () => {
    it('emits every n messages in order; the tail waits and flush emits it', async () => {
      const p = await make().consumer({ size: 100 }).start();
      await p.append(...range(0, 250));
      expect(p.seen.map(({ data }) => data.length)).toEqual([100, 100]);
      expect(p.values).toEqual(range(0, 200));

      await p.store.updateStream(STREAM, { flush: true });
      await p.engine.refresh(STREAM);
      await p.engine.settled();
      expect(p.values).toEqual(range(0, 250));
      expect(await buffered()).toBe(0);
    });

    it('drains a backlog that was there before the start', async () => {
      const p = make().consumer({ size: 7 });
      await p.store.ensureStream(STREAM);
      await p.store.append(range(0, 5_000).map((data) => ({ stream: STREAM, data, created: new Date(p.clock.now()) })));
      await p.start();
      expect(p.values).toEqual(range(0, 4_998));
      expect(await buffered()).toBe(2);
    });

    it('emits a count window after its longest wait', async () => {
      const p = await make().consumer({ size: 100, interval: 2_000 }).start();
      await p.append(1);
      await p.advance(1_500);
      await p.append(2);
      expect(p.seen).toEqual([]);
      await p.advance(500);
      expect(p.values).toEqual([1, 2]);
    });

    it('emits relaxed windows by the clock', async () => {
      const p = await make().consumer({ interval: 1_000 }).start();
      await p.append(1, 2);
      await p.advance(999);
      expect(p.seen).toEqual([]);
      await p.advance(1);
      expect(p.seen.map(({ data }) => data)).toEqual([[1, 2]]);
      await p.advance(5_000);
      await p.append(3);
      await p.advance(1_000);
      expect(p.seen.map(({ data }) => data)).toEqual([[1, 2], [3]]);
    });

    it('emits fixed windows after their end and grace, also from a backlog over many intervals', async () => {
      const emitted: [number | undefined, number | undefined, number][] = [];
      const p = make().consumer({
        interval: 1_000,
        emitter: new FixedTimeWindow(),
        handler: (window) => {
          emitted.push([window.start?.getTime(), window.end?.getTime(), window.data.length]);
        },
      });
      const t0 = p.clock.now();
      await p.store.ensureStream(STREAM);
      await p.store.append(range(0, 3_000).map((data) => ({ stream: STREAM, data, created: new Date(t0 + data * 2) })));
      await p.start();
      await p.advance(7_000);
      expect(emitted).toEqual(range(0, 6).map((i) => [t0 + i * 1_000, t0 + (i + 1) * 1_000, 500]));
    });

    it('takes what an own strategy takes, drops what it drops, passes over the rest', async () => {
      class Evens extends WindowEmitter<number> {
        private pick(view: MessageView<number>) {
          return view.messages.filter(({ data }) => data % 2 === 0);
        }
        windowReady(view: MessageView<number>) {
          return this.pick(view).length >= 3;
        }
        query(view: MessageView<number>) {
          return { take: this.pick(view).slice(0, 3), drop: view.messages.filter(({ data }) => data < 0) };
        }
      }
      const p = await make()
        .consumer({ emitter: new Evens() as WindowEmitter })
        .start();
      await p.append(...range(0, 1_000).map((n) => n * 2 + 1), -1, 2, 4, 6, 8);
      expect(p.values).toEqual([2, 4, 6]);
      expect(p.engine.status()[0]).toMatchObject({ dropped: 1, buffered: 1_001 });
      await p.append(10, 12);
      expect(p.values).toEqual([2, 4, 6, 8, 10, 12]);
    });

    it('goes on after an own strategy threw', async () => {
      let broken = true;
      class Moody extends CountWindow {
        override windowReady(view: MessageView) {
          if (broken) throw new Error('moody');
          return super.windowReady(view);
        }
      }
      const p = await make().consumer({ size: 1, emitter: new Moody() }).start();
      await p.append('a');
      expect(p.engine.status()[0]?.lastError?.code).toBe(ErrorCode.EmitterFailed);
      broken = false;
      await p.advance(2_000);
      expect(p.values).toEqual(['a']);
    });
  });

  describe('failures', () => {
    it('gives a failed window again: same id, next attempt, after a stored backoff', async () => {
      let fail = 2;
      const p = await make()
        .consumer({
          size: 2,
          handler: () => {
            if (fail-- > 0) throw new Error('no');
          },
        })
        .start();
      await p.append(1, 2, 3, 4);
      expect(p.seen.map(({ attempt }) => attempt)).toEqual([1]);
      await p.advance(999);
      expect(p.seen.length).toBe(1);
      await p.advance(1);
      expect(p.seen.length).toBe(2);
      await p.advance(2_000);
      expect(p.seen.map(({ attempt }) => attempt)).toEqual([1, 2, 3, 1]);
      expect(new Set(p.seen.slice(0, 3).map(({ id }) => id)).size).toBe(1);
      expect(p.values.slice(-2)).toEqual([3, 4]);
      expect(await buffered()).toBe(0);
    });

    it('neither resets nor skips the backoff in a restart', async () => {
      const a = await make()
        .consumer({
          size: 1,
          handler: () => {
            throw new Error('no');
          },
        })
        .start();
      await a.append(1);
      await a.advance(1_000);
      expect(a.seen.map(({ attempt }) => attempt)).toEqual([1, 2]);
      await a.engine.stop(0);
      a.started = false;

      const b = await make({ clock: new VirtualClock(a.clock.now()) })
        .consumer({ size: 1 })
        .start();
      await b.advance(1_900);
      expect(b.seen).toEqual([]);
      await b.advance(100);
      expect(b.seen.map(({ attempt }) => attempt)).toEqual([3]);
    });

    it('tries a failed sink again without calling the handler again, and only that sink', async () => {
      const puts: string[] = [];
      let fail = 3;
      const p = await make()
        .consumer({
          size: 1,
          handler: () => 0,
          sinks: [
            { name: 'good', sink: { put: (result) => void puts.push(`good ${String(result)}`) } },
            {
              name: 'bad',
              sink: {
                put: () => {
                  puts.push('bad');
                  if (fail-- > 0) throw new Error('broker down');
                },
              },
            },
          ],
        })
        .start();
      await p.append('x');
      expect(p.engine.status()[0]).toMatchObject({ activity: 'blocked', sinkFailures: 1 });
      expect(await buffered()).toBe(1);
      await p.advance(120_000);
      expect(p.seen.length).toBe(1);
      expect(puts).toEqual(['good 0', 'bad', 'bad', 'bad', 'bad']);
      expect(await buffered()).toBe(0);
      expect(p.engine.status()[0]?.activity).toBe('waiting');
    });

    it('forwards falsy results and not undefined', async () => {
      const puts: unknown[] = [];
      const p = await make()
        .consumer({
          size: 1,
          handler: ({ data: [item] }) => (typeof item === 'object' && item ? undefined : item),
          sinks: [{ name: 'sink', sink: { put: (result) => void puts.push(result) } }],
        })
        .start();
      await p.append(null, 0, '', false, {});
      expect(puts).toEqual([null, 0, '', false]);
    });

    it('commits in the one order: handler, sinks, commit point, settle', async () => {
      const order: string[] = [];
      const p = await make({
        around: (call) => {
          if (['claim', 'commit', 'settle'].includes(call.method)) order.push(call.method);
          return call.proceed();
        },
      })
        .consumer({
          size: 2,
          handler: () => order.push('handler'),
          sinks: [{ name: 'sink', sink: { put: () => void order.push('put') } }],
        })
        .start();
      await p.append(1, 2);
      expect(order).toEqual(['claim', 'handler', 'put', 'commit', 'settle']);
    });

    for (const when of ['before', 'after'] as const) {
      it(`goes on by itself when the store fails ${when} the effect, and handles nothing twice`, async () => {
        const failures = new Map<string, number>();
        const p = await make({
          around: async (call) => {
            const count = failures.get(call.method) ?? 0;
            const faulty = ['fetch', 'claim', 'commit', 'settle', 'scan', 'load', 'poll', 'renewLeases', 'recover'];
            if (!faulty.includes(call.method) || count >= 2) return call.proceed();
            failures.set(call.method, count + 1);
            if (when === 'after') await call.proceed();
            throw new MinibatchError(ErrorCode.StoreUnavailable, 'planted');
          },
        })
          .consumer({ size: 10 })
          .start();
        await p.advance(2_000);
        await p.append(...range(0, 100));
        await p.advance(20_000);
        expect(p.values).toEqual(range(0, 100));
        expect(await buffered()).toBe(0);
        expect(failures.get('commit')).toBe(2);
        expect(failures.get('claim')).toBe(2);
      });
    }
  });

  describe('leases', () => {
    it('is taken over by another process after one lease time, which finds the same windows', async () => {
      const a = await make()
        .consumer({ size: 5, handler: () => new Promise(() => undefined) })
        .start();
      await a.put(...range(0, 20));
      await turns(() => a.seen.length === 1);
      a.kill();
      a.started = false;

      const b = await make({ clock: new VirtualClock(a.clock.now()) })
        .consumer({ size: 5 })
        .start();
      await b.advance(LEASE - 1_000);
      expect(b.engine.status()[0]?.state).toBe(ConsumerState.Standby);
      await b.advance(LEASE / 2 - 1_000);
      expect(b.values).toEqual(range(0, 20));
      expect(b.seen[0]?.id).toBe(a.seen[0]?.id);
      expect(b.seen[0]?.attempt).toBe(1);
      expect(b.engine.status()[0]?.recovered).toBe(4);
      expect(await buffered()).toBe(0);
    });

    it('passes on at once after a clean stop', async () => {
      const a = await make().consumer({ size: 1 }).start();
      const b = await make({ clock: a.clock }).consumer({ size: 1 }).start();
      expect(await a.engine.stop(1_000)).toEqual({ drained: 0, abandoned: 0 });
      a.started = false;
      await b.advance(LEASE / 6);
      expect(b.engine.status()[0]?.state).toBe(ConsumerState.Running);
    });

    it('a holder that slept through the takeover commits nothing and starts no put', async () => {
      let wake!: () => void;
      const puts: unknown[] = [];
      const a = await make()
        .consumer({
          size: 2,
          handler: () => new Promise((resolve) => (wake = () => resolve('late'))),
          sinks: [{ name: 'sink', sink: { put: (result) => void puts.push(result) } }],
        })
        .start();
      await a.put(1, 2);
      await turns(() => a.seen.length === 1);

      const b = await make({ clock: new VirtualClock(a.clock.now()) })
        .consumer({ size: 2 })
        .start();
      await b.advance(LEASE * 1.5);
      expect(b.values).toEqual([1, 2]);
      // While it slept its own clock went on: it wakes to a lease of which it can't be sure.
      a.clock.sleep(LEASE * 1.5);
      wake();
      await a.engine.settled();
      expect(puts).toEqual([]);
      expect(a.engine.status()[0]).toMatchObject({ committedWindows: 0, state: ConsumerState.Standby });
      expect(a.logged.some((line) => line.includes(ErrorCode.LeaseLost))).toBe(true);
    });

    it('a commit whose lease was lost in between removes nothing', async () => {
      let release!: () => void;
      const gate = new Promise<void>((resolve) => (release = resolve));
      const a = await make({
        around: async (call) => {
          if (call.method === 'commit') await gate;
          return call.proceed();
        },
      })
        .consumer({ size: 2 })
        .start();
      await a.put(1, 2);
      await turns(() => a.seen.length === 1);
      const b = await make({ clock: new VirtualClock(a.clock.now()) })
        .consumer({ size: 2, handler: () => new Promise(() => undefined) })
        .start();
      await b.clock.advance(LEASE * 1.5, () => turns(() => false, 20));
      expect(b.values).toEqual([1, 2]);
      release();
      await a.engine.settled();
      expect(await buffered()).toBe(2);
      expect(a.engine.status()[0]).toMatchObject({ committedWindows: 0 });
      b.kill();
      b.started = false;
    });

    it('never handles a window again whose commit point was recorded, though its delete died half-way', async () => {
      let died = false;
      const a = await make({
        around: async (call) => {
          if (call.method !== 'settle') return call.proceed();
          const [lease, windows, options] = call.args as Parameters<StreamStore['settle']>;
          const half = windows.map(({ window, messages }) => ({ window, messages: messages.slice(0, 40) }));
          // Deletes the first messages, not the window, and dies.
          const inner = new MemoryStreamStore(database.current);
          const kept = half.map(({ window, messages }) => ({ window: { ...window, seq: -1 }, messages }));
          await inner.settle(lease, kept, options);
          a.kill();
          died = true;
          return new Promise(() => undefined);
        },
      })
        .consumer({ size: 100 })
        .start();
      await a.put(...range(0, 100));
      await turns(() => died);
      a.started = false;

      const b = await make({ clock: new VirtualClock(a.clock.now()) })
        .consumer({ size: 10 })
        .start();
      await b.advance(LEASE * 1.5);
      expect(a.seen.length).toBe(1);
      expect(b.seen).toEqual([]);
      expect(await buffered()).toBe(0);
    });

    it("a woken zombie's claim is void", async () => {
      let release!: () => void;
      const gate = new Promise<void>((resolve) => (release = resolve));
      let hold = false;
      const a = await make({
        around: async (call) => {
          if (call.method === 'claim' && hold) await gate;
          return call.proceed();
        },
      })
        .consumer({ size: 2 })
        .start();
      hold = true;
      await a.put(1, 2);
      const b = await make({ clock: new VirtualClock(a.clock.now()) })
        .consumer({ size: 4 })
        .start();
      await b.advance(LEASE * 1.5);
      release();
      await a.engine.settled();
      await b.append(3, 4);
      expect(b.seen.map(({ data }) => data)).toEqual([[1, 2, 3, 4]]);
      expect(a.seen).toEqual([]);
      expect(await buffered()).toBe(0);
    });
  });

  describe('groups', () => {
    it('each group sees every message; it leaves the buffer when the last one has committed it', async () => {
      let fail = true;
      const p = await make()
        .consumer({ size: 2, group: 'fast' })
        .consumer({
          size: 3,
          group: 'slow',
          handler: () => {
            if (fail) throw new Error('not yet');
          },
        })
        .start();
      await p.append(...range(0, 6));
      expect(await buffered()).toBe(6);
      expect(p.engine.status()[0]?.committedMessages).toBe(6);
      fail = false;
      await p.advance(5_000);
      expect(await buffered()).toBe(0);
      expect(p.engine.status()[1]?.committedMessages).toBe(6);
    });
  });

  describe('workers and backpressure', () => {
    it('works on one window after the other, and on `workers` at a time when asked to', async () => {
      for (const workers of [1, 3]) {
        database.current = new MemoryDatabase();
        let under = 0;
        let most = 0;
        const open: (() => void)[] = [];
        const p = await make()
          .consumer({
            size: 1,
            workers,
            handler: async () => {
              most = Math.max(most, ++under);
              await new Promise<void>((resolve) => open.push(resolve));
              under -= 1;
            },
          })
          .start();
        void p.append(...range(0, 9));
        await turns(() => {
          open.shift()?.();
          return p.seen.length === 9 && open.length === 0;
        });
        await p.engine.settled();
        expect(most).toBe(workers);
        expect(p.values.toSorted()).toEqual(range(0, 9));
      }
    });

    it('reads ahead no more than it may', async () => {
      const p = make({ engine: { readAhead: 50 } }).consumer({ size: 10, handler: () => new Promise(() => undefined) });
      await p.store.ensureStream(STREAM);
      await p.store.append(range(0, 2_000).map((data) => ({ stream: STREAM, data, created: new Date(p.clock.now()) })));
      const starting = p.start();
      for (let i = 0; i < 100; i += 1) await new Promise((resolve) => setImmediate(resolve));
      const status = p.engine.status()[0];
      expect((status?.inFlight ?? 0) * 10 + (status?.buffered ?? 0)).toBeLessThanOrEqual(150);
      p.kill();
      void starting;
      p.started = false;
    });

    it('pauses and resumes', async () => {
      const p = await make().consumer({ size: 1 }).start();
      await p.store.updateStream(STREAM, { paused: true });
      await p.engine.refresh(STREAM);
      await p.append(1, 2);
      expect(p.seen).toEqual([]);
      expect(p.engine.status()[0]?.activity).toBe('paused');
      await p.store.updateStream(STREAM, { paused: false });
      await p.engine.refresh(STREAM);
      await p.engine.settled();
      expect(p.values).toEqual([1, 2]);
    });
  });

  describe('nothing is skipped', () => {
    it('finds messages whose ids appear below one already seen, caught up and in a backlog', async () => {
      const hidden = new Set<unknown>();
      const visible = ({ data }: { data: unknown }) => !hidden.has(data);
      const plain = new MemoryStreamStore(database.current);
      const all = async () =>
        (
          await plain.fetch({ stream: STREAM, group: 'default', partition: 0 }, undefined, {
            messages: 1e6,
            bytes: 1e9,
          })
        ).messages;
      const p = make({
        engine: { readAhead: 100 },
        store: new Interleaving(database.current),
        around: async (call) => {
          if (call.method === 'fetch') {
            // As if the hidden ones had not arrived yet: a block of visible ones only.
            const [, after, limits] = call.args as Parameters<StreamStore['fetch']>;
            const rest = (await all()).filter((m) => visible(m) && (after === undefined || m.id > after));
            return { messages: rest.slice(0, limits.messages), full: rest.length >= limits.messages };
          }
          if (call.method === 'scan') {
            const [, after, until, limit] = call.args as Parameters<StreamStore['scan']>;
            return (await all())
              .filter(
                (m) => visible(m) && (after === undefined || m.id > after) && (until === undefined || m.id <= until),
              )
              .slice(0, limit)
              .map(({ id }) => id);
          }
          return call.proceed();
        },
      }).consumer({
        size: 10,
        handler: () => {
          // In the middle of the backlog the early half shows up.
          if (p.seen.length === 60) hidden.clear();
        },
      });
      for (const n of range(0, 3_000)) if (n % 2 === 0 && n < 1_000) hidden.add(n);
      await p.store.ensureStream(STREAM);
      await p.store.append(range(0, 3_000).map((data) => ({ stream: STREAM, data, created: new Date(p.clock.now()) })));
      await p.start();
      expect((p.values as number[]).toSorted((x, y) => x - y)).toEqual(range(0, 3_000));

      // Caught up: a late one below everything.
      hidden.add('late');
      await p.append('late', ...range(0, 9));
      await p.append(...range(9, 19));
      hidden.clear();
      p.engine.wake(STREAM);
      await p.engine.settled();
      expect(p.values).toContain('late');
    });

    it('never reads again what it has read, in a store with a total order', async () => {
      let read = 0;
      const p = make({
        engine: { readAhead: 100 },
        around: async (call) => {
          const result = await call.proceed();
          if (call.method === 'fetch') read += (result as Block).messages.length;
          if (call.method === 'scan') read += (result as readonly MessageId[]).length;
          return result;
        },
      }).consumer({ size: 100 });
      await p.store.ensureStream(STREAM);
      await p.store.append(range(0, 3_050).map((data) => ({ stream: STREAM, data, created: new Date(p.clock.now()) })));
      await p.start();
      for (const n of range(0, 200)) await p.append(3_050 + n);
      expect(p.values).toEqual(range(0, 3_200));
      expect(read).toBe(3_250);
    });
  });

  describe('stop', () => {
    it('lets a running handler finish and commits it', async () => {
      let finish!: () => void;
      const p = await make()
        .consumer({ size: 1, handler: () => new Promise<void>((resolve) => (finish = resolve)) })
        .start();
      void p.append(1, 2, 3);
      await turns(() => p.seen.length > 0);
      const stopped = p.engine.stop(20_000);
      finish();
      expect(await stopped).toEqual({ drained: 1, abandoned: 0 });
      p.started = false;
      expect(p.seen.length).toBe(1);
      expect(await buffered()).toBe(2);
    });

    it('abandons what does not finish in time, without counting an attempt', async () => {
      let signal: AbortSignal | undefined;
      const p = await make()
        .consumer({
          size: 1,
          handler: (window) => {
            signal = window.signal;
            return new Promise((_, reject) =>
              window.signal.addEventListener('abort', () => reject(new Error('aborted'))),
            );
          },
        })
        .start();
      void p.append(1);
      await turns(() => p.seen.length > 0);
      const stopped = p.engine.stop(5_000);
      await p.clock.advance(5_000);
      expect(await stopped).toEqual({ drained: 0, abandoned: 1 });
      p.started = false;
      expect(signal?.aborted).toBe(true);

      const b = await make({ clock: p.clock }).consumer({ size: 1 }).start();
      expect(b.seen.map(({ attempt }) => attempt)).toEqual([1]);
    });
  });
});
