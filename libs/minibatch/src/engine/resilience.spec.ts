import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import type { StoreCall } from '../testing/wrapped-store.js';
import { CountWindow } from '../windows/count.window.js';
import { FixedTimeWindow } from '../windows/fixed-time.window.js';
import type { MessageView } from '../windows/window-emitter.js';
import { ConsumerState } from './engine.interface.js';
import { LEASE, Process, type ProcessOptions, STREAM, turns } from './process.spec.support.js';

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index);
const hang = () => new Promise<never>(() => undefined);
const unavailable = () => Promise.reject(new MinibatchError(ErrorCode.StoreUnavailable, 'planted'));

/** Counts the timers that are set, to see loops that never rest. */
class CountingClock extends VirtualClock {
  scheduled = 0;

  override schedule(ms: number, callback: () => void): () => void {
    this.scheduled += 1;
    return super.schedule(ms, callback);
  }
}

describe('the engine in hard times', () => {
  let database: MemoryDatabase;
  let processes: Process[];
  let rejections: unknown[];
  const onRejection = (reason: unknown) => void rejections.push(reason);
  const make = (options?: ProcessOptions) => {
    const made = new Process(database, options);
    processes.push(made);
    return made;
  };
  const fill = async (values: readonly unknown[], created: number) => {
    const store = new MemoryStreamStore(database);
    await store.ensureStream(STREAM);
    await store.append(values.map((data) => ({ stream: STREAM, data, created: new Date(created) })));
  };
  /** Calls of the method are answered otherwise. */
  const instead = (method: StoreCall['method'], answer: (call: StoreCall) => Promise<unknown>): ProcessOptions => ({
    around: (call) => (call.method === method ? answer(call) : call.proceed()),
  });
  const stop = async (p: Process, timeout = 0): Promise<boolean> => {
    let ended = false;
    p.started = false;
    const stopping = p.engine.stop(timeout).then(() => (ended = true));
    for (let i = 0; i < 10 && !ended; i += 1) await p.clock.advance(timeout + 3_000);
    if (ended) await stopping;
    return ended;
  };

  beforeEach(() => {
    database = new MemoryDatabase();
    processes = [];
    rejections = [];
    process.on('unhandledRejection', onRejection);
  });
  afterEach(async () => {
    for (const p of processes) if (p.started) await stop(p);
    await turns(() => false, 3);
    process.off('unhandledRejection', onRejection);
    expect(rejections).toEqual([]);
  });

  describe('stop', () => {
    it('ends though the store does not answer any more', async () => {
      const p = await make().consumer({ size: 1, handler: hang }).start();
      await p.put(1);
      await turns(() => p.seen.length === 1);
      p.kill();
      expect(await stop(p, 20_000)).toBe(true);
    });

    it('says nothing of a read that the end interrupts', async () => {
      let close = (): void => undefined;
      const closed = new Promise<void>((resolve) => (close = resolve));
      let reads = 0;
      const p = make(
        instead('fetch', async () => {
          reads += 1;
          await closed;
          return unavailable();
        }),
      ).consumer({ size: 1 });
      const starting = p.start();
      await turns(() => reads === 1);
      // Its term is over before the connection is closed, as when an application ends.
      await p.engine.stop(0);
      close();
      await starting;
      expect(p.logged.filter((line) => line.includes("can't read"))).toEqual([]);
      expect(reads).toBe(1);
      p.started = false;
    });

    it('does not hammer a store that rejects while it drains', async () => {
      let down = false;
      let renewals = 0;
      const p = await make(
        instead('renewLeases', (call) => {
          renewals += 1;
          return down ? unavailable() : call.proceed();
        }),
      )
        .consumer({ size: 1, handler: hang })
        .start();
      await p.put(1);
      await turns(() => p.seen.length === 1);
      down = true;
      renewals = 0;
      p.started = false;
      const stopping = p.engine.stop(20_000);
      await p.clock.advance(30_000);
      await stopping;
      expect(renewals).toBeGreaterThan(2);
      expect(renewals).toBeLessThan(30);
    });

    it('closes the strategy that has worked here, though another process holds the lease now, or the lease is not given back', async () => {
      let closed = 0;
      class Closing extends CountWindow {
        override close(): void {
          closed += 1;
        }
      }
      const a = await make(instead('releaseLease', unavailable)).consumer({ size: 1, emitter: new Closing() }).start();
      const b = await make({ clock: new VirtualClock(a.clock.now()) })
        .consumer({ size: 1, emitter: new Closing() })
        .start();
      await b.advance(LEASE * 1.5);
      expect(b.engine.status()[0]?.state).toBe(ConsumerState.Running);
      a.clock.sleep(LEASE * 1.5);
      await a.advance(LEASE / 3);
      expect(a.engine.status()[0]?.state).toBe(ConsumerState.Standby);
      await stop(a);
      expect(closed).toBe(1);
      await stop(b);
      expect(closed).toBe(2);
    });
  });

  describe('timers', () => {
    it('rests while the first message is overdue and cannot be emitted yet', async () => {
      const clock = new CountingClock();
      await fill(range(0, 7), clock.now() - 60_000);
      const p = make({ clock, engine: { readAhead: 2 } }).consumer({ size: 3, interval: 1_000, handler: hang });
      const starting = p.start();
      await turns(() => p.seen.length === 1);
      const before = clock.scheduled;
      await clock.advance(10_000);
      expect(clock.scheduled - before).toBeLessThan(200);
      await stop(p, 1_000);
      void starting;
    });

    it('asks a strategy that always wants to be asked at once ever less often', async () => {
      let asked = 0;
      class Impatient extends CountWindow {
        override windowReady(): boolean {
          asked += 1;
          return false;
        }
        override nextCheck(view: MessageView): number {
          return view.now;
        }
      }
      const p = await make().consumer({ size: 1, emitter: new Impatient() }).start();
      await p.append(1);
      await p.advance(10_000);
      expect(asked).toBeGreaterThan(10);
      expect(asked).toBeLessThan(40);
    });

    it('notices within a minute that the clock was set forward', async () => {
      const p = await make().consumer({ interval: 3_600_000, emitter: new FixedTimeWindow() }).start();
      await p.append(1);
      await p.advance(1_000);
      p.clock.jump(3_600_000);
      await p.advance(61_000);
      expect(p.values).toEqual([1]);
    });

    it('lets no message wait for a clock that was set back', async () => {
      const p = await make().consumer({ size: 10, interval: 2_000 }).start();
      await p.append(1);
      await p.advance(1_000);
      p.clock.jump(-3_600_000);
      await p.advance(5_000);
      expect(p.values).toEqual([1]);
    });

    it('waits for the next attempt no longer than a backoff can be, whatever the clocks say', async () => {
      let fail = true;
      const p = await make()
        .consumer({
          size: 1,
          handler: () => {
            if (fail) throw new Error('no');
          },
        })
        .start();
      await p.append(1);
      fail = false;
      p.clock.jump(-3_600_000);
      await p.advance(61_000);
      expect(p.seen.map(({ attempt }) => attempt)).toEqual([1, 2]);
    });

    it('asks a strategy that threw again, though the clock was set back', async () => {
      let broken = true;
      class Moody extends CountWindow {
        override windowReady(view: MessageView) {
          if (broken) throw new Error('moody');
          return super.windowReady(view);
        }
      }
      const p = await make().consumer({ size: 1, emitter: new Moody() }).start();
      await p.append(1);
      broken = false;
      p.clock.jump(-3_600_000);
      await p.advance(3_000);
      expect(p.values).toEqual([1]);
    });
  });

  describe('errors', () => {
    it('of a registration after the start are logged and end nothing', async () => {
      const p = await make({
        around: (call) => {
          if (call.method !== 'registerGroup' || !JSON.stringify(call.args).includes('late')) return call.proceed();
          return Promise.reject(new MinibatchError(ErrorCode.UnknownGroup, 'refused'));
        },
      })
        .consumer({ size: 1 })
        .start();
      p.consumer({ size: 1, group: 'late' });
      await turns(() => false, 3);
      expect(p.logged.some((line) => line.includes('refused'))).toBe(true);
      await p.append(1);
      expect(p.values).toEqual([1]);
    });

    it('of a notification that is asynchronous are logged and end nothing', async () => {
      class Talkative extends CountWindow {
        // The compiler takes it for one that returns nothing.
        override onCommit = () => Promise.reject(new Error('listener')) as never;
      }
      const p = await make().consumer({ size: 1, emitter: new Talkative() }).start();
      await p.append(1, 2);
      await turns(() => false, 3);
      expect(p.values).toEqual([1, 2]);
      expect(p.logged.some((line) => line.includes('listener'))).toBe(true);
    });

    it('that nobody reckoned with make the consumer start anew: nothing is stuck', async () => {
      let wrong = true;
      class Wrong extends MemoryStreamStore {
        override fetch(...args: Parameters<MemoryStreamStore['fetch']>) {
          return super.fetch(...args).then((block) => {
            if (!wrong || block.messages.length === 0) return block;
            wrong = false;
            // What is thrown is thrown in the loop: nothing there looks for it.
            return {
              ...block,
              messages: block.messages.map((message) => ({ ...message, id: Symbol('no id') as never })),
            };
          });
        }
      }
      const p = await make({ store: new Wrong(database) })
        .consumer({ size: 1 })
        .start();
      await p.append(1);
      expect(p.seen).toEqual([]);
      await p.advance(LEASE * 1.5);
      expect(p.values).toEqual([1]);
    });

    it('of the strategy in its start: it is tried again after a lease time, and no window is held to be at fault', async () => {
      const before = await make().consumer({ size: 1, handler: hang }).start();
      await before.put(1);
      await turns(() => before.seen.length === 1);
      await stop(before);

      let broken = true;
      class Late extends CountWindow {
        override init(context: Parameters<CountWindow['init']>[0]) {
          if (broken) throw new Error('not yet');
          return super.init(context);
        }
      }
      const p = await make({ clock: new VirtualClock(before.clock.now()) })
        .consumer({ size: 1, emitter: new Late() })
        .start();
      await p.advance(LEASE * 6);
      expect(p.engine.status()[0]?.lastError?.message).toContain('failed in init(): not yet');
      const window = [...(database.streams.get(STREAM)?.consumers.values() ?? [])][0]?.windows.values().next().value;
      expect(window).toMatchObject({ recoveries: 0 });
      broken = false;
      await p.advance(LEASE * 1.5);
      expect(p.values).toEqual([1]);
    });
  });

  describe('leases', () => {
    it('is known to be held though the answer was lost', async () => {
      let lost = 0;
      const p = await make(
        instead('acquireLease', async (call) => {
          const answer = await call.proceed();
          return lost++ === 0 ? unavailable() : answer;
        }),
      )
        .consumer({ size: 1 })
        .start();
      await p.advance(1_000);
      expect(p.engine.status()[0]?.state).toBe(ConsumerState.Running);
    });

    it('begins once, though the taking of another failed and the rounds met', async () => {
      let answer!: () => void;
      const slow = new Promise<void>((resolve) => (answer = resolve));
      let recoveries = 0;
      const p = make({
        around: async (call) => {
          const isSlow = JSON.stringify(call.args).includes('slow');
          if (call.method === 'acquireLease' && !isSlow) return unavailable();
          if (call.method === 'acquireLease') await slow;
          if (call.method === 'recover') recoveries += 1;
          return call.proceed();
        },
      })
        .consumer({ size: 1, group: 'failing' })
        .consumer({ size: 1, group: 'slow' });
      void p.start();
      await p.clock.advance(2_000);
      answer();
      await p.clock.advance(2_000);
      expect(recoveries).toBe(1);
    });
  });

  describe('what was asked of the stream', () => {
    it('a flush before the lease was taken is seen to when it is', async () => {
      let answer!: () => void;
      const slow = new Promise<void>((resolve) => (answer = resolve));
      const p = make(instead('acquireLease', async (call) => (await slow, call.proceed()))).consumer({ size: 10 });
      void p.start();
      await turns(() => false, 3);
      await p.put(1, 2, 3);
      await p.store.updateStream(STREAM, { flush: true });
      await p.engine.refresh(STREAM);
      answer();
      await p.advance(1_000);
      expect(p.values).toEqual([1, 2, 3]);
    });

    it('a pause is known before the first window', async () => {
      let failures = 0;
      const p = make(instead('listStreams', (call) => (failures++ === 0 ? unavailable() : call.proceed())));
      await fill([1], p.clock.now());
      await p.store.updateStream(STREAM, { paused: true });
      await p.consumer({ size: 1 }).start();
      await p.advance(2_000);
      expect(p.seen).toEqual([]);
      expect(p.engine.status()[0]?.activity).toBe('paused');
    });
  });

  describe('workers and windows', () => {
    it('all workers have work, however large their windows are', async () => {
      const p = make({ engine: { readAhead: 50 } }).consumer({ size: 200, workers: 3, handler: hang });
      await fill(range(0, 2_000), p.clock.now());
      void p.start();
      await turns(() => p.seen.length >= 3, 100);
      expect(p.seen.length).toBe(3);
      const { inFlight = 0, buffered = 0 } = p.engine.status()[0] ?? {};
      expect(inFlight * 200 + buffered).toBeLessThanOrEqual(1_200);
    });

    it('each window has a signal of its own, and many of them make no warning', async () => {
      const warnings: Error[] = [];
      const onWarning = (warning: Error) => void warnings.push(warning);
      process.on('warning', onWarning);
      const signals = new Set<AbortSignal>();
      const resolve: (() => void)[] = [];
      const p = await make()
        .consumer({
          size: 1,
          workers: 20,
          handler: (window) => {
            signals.add(window.signal);
            window.signal.addEventListener('abort', () => undefined);
            return new Promise<void>((done) => resolve.push(done));
          },
        })
        .start();
      await p.put(...range(0, 40));
      await turns(() => signals.size === 20);
      for (const done of resolve.splice(0)) done();
      await turns(() => signals.size === 40);
      expect(signals.size).toBe(40);
      await stop(p);
      // Those that had ended are left alone; those in flight are told.
      expect([...signals].map(({ aborted }) => aborted)).toEqual([...range(0, 40)].map((index) => index >= 20));
      expect(warnings).toEqual([]);
      process.off('warning', onWarning);
    });
  });
});
