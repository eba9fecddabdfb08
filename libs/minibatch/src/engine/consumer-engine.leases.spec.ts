import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../errors/minibatch.error.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import type { StreamStore } from '../storage/stream-store.interface.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { ConsumerState } from './engine.interface.js';
import { LEASE, turns } from './process.spec.support.js';
import { range, useProcesses } from './processes.spec.support.js';

describe('ConsumerEngine', () => {
  const { buffered, database, make } = useProcesses();

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
      // Its own clock kept running while it slept: it wakes to a lease of which it can't be sure.
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
