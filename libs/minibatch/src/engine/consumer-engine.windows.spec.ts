import { describe, expect, it } from 'vitest';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { CountWindow } from '../windows/count.window.js';
import { FixedTimeWindow } from '../windows/fixed-time.window.js';
import { type MessageView, WindowEmitter } from '../windows/window-emitter.js';
import { STREAM } from './process.spec.support.js';
import { range, useProcesses } from './processes.spec.support.js';

describe('ConsumerEngine', () => {
  const { buffered, make } = useProcesses();

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

    it('takes what a custom strategy takes, drops what it drops, leaves the rest', async () => {
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

    it('continues after a custom strategy threw', async () => {
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
      it(`recovers when the store fails ${when} the effect, and handles nothing twice`, async () => {
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
});
