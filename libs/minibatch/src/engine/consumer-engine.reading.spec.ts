import { describe, expect, it } from 'vitest';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import type { Block, MessageId, StreamStore } from '../storage/stream-store.interface.js';
import { STREAM, turns } from './process.spec.support.js';
import { range, useProcesses } from './processes.spec.support.js';

/** As where each process gives the ids of its messages. */
class Interleaving extends MemoryStreamStore {
  override readonly totalOrder = false;
}

describe('ConsumerEngine', () => {
  const { database, make } = useProcesses();

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
});
