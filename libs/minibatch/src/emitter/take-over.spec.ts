import { beforeEach, describe, expect, it } from 'vitest';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import type { WindowRecord } from '../storage/stream-store.interface.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import type { StoreCall } from '../testing/wrapped-store.js';
import { type ConsumerChoice, LEASE, Process, STREAM, turns } from './process.spec.support.js';

const upTo = (n: number) => Array.from({ length: n }, (_, index) => index);
const never = () => new Promise<never>(() => undefined);

describe('a process that takes over from one that died', () => {
  let database: MemoryDatabase;
  let plain: MemoryStreamStore;
  /** `seq`, `attempt` and `recoveries` of each window that was stored again, in order. */
  let rescheduled: Pick<WindowRecord, 'seq' | 'attempt' | 'recoveries'>[];
  beforeEach(() => {
    database = new MemoryDatabase();
    plain = new MemoryStreamStore(database);
    rescheduled = [];
  });

  const noted = (call: StoreCall) => {
    if (call.method === 'reschedule') {
      const { seq, attempt, recoveries } = call.args[1] as WindowRecord;
      rescheduled.push({ seq, attempt, recoveries });
    }
    return call.proceed();
  };

  async function stored(...data: unknown[]): Promise<void> {
    await plain.ensureStream(STREAM);
    await plain.append(data.map((each) => ({ stream: STREAM, data: each, created: new Date() })));
  }

  /** Runs a process until it has begun so many windows, and ends it while it handles them. */
  async function dieHandling(windows: number, choice: ConsumerChoice): Promise<number> {
    const p = new Process(database).consumer({ ...choice, handler: never });
    await p.engine.start();
    await turns(() => p.seen.length === windows);
    expect(p.seen).toHaveLength(windows);
    p.kill();
    return p.clock.now();
  }

  /** The next one, after its wait for the lease. */
  async function next(at: number, choice: ConsumerChoice, wait = LEASE * 1.5): Promise<Process> {
    const p = new Process(database, { clock: new VirtualClock(at), around: noted }).consumer(choice);
    await p.engine.start();
    await p.clock.advance(wait, () => turns(() => false, 60));
    return p;
  }

  async function stop(p: Process): Promise<void> {
    const stopping = p.engine.stop(0);
    await p.clock.advance(10_000);
    await stopping;
  }

  it('counts the death for the window that may have been running, not for those that waited behind it', async () => {
    await stored(1, 2);
    const p = await next(await dieHandling(1, { size: 1 }), { size: 1, handler: never });
    expect(p.seen).toHaveLength(1);
    expect(rescheduled).toContainEqual({ seq: 1, attempt: 1, recoveries: 1 });
    expect(rescheduled.filter(({ seq }) => seq !== 1)).toEqual([]);
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
    expect(rescheduled.find(({ attempt }) => attempt === 2)).toEqual({ seq: 1, attempt: 2, recoveries: 0 });
    await stop(p);
  });

  it('takes a window apart after three deaths, and halves what goes on ending its process', async () => {
    await stored(1, 2);
    let at = new VirtualClock().now();
    const sizes: number[] = [];
    for (let deaths = 0; deaths < 5; deaths += 1) {
      const p: Process = new Process(database, { clock: new VirtualClock(at) });
      p.consumer({
        size: 2,
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
    expect(sizes).toEqual([2, 2, 2, 1, 1]);
  });

  it.each([
    { keep: true, left: { messages: 2, windows: 1 } },
    { keep: false, left: { messages: 0, windows: 0 } },
  ])(
    'finishes what was committed and not settled, with keep: $keep, and handles it no more',
    async ({ keep, left }) => {
      const p: Process = new Process(database, {
        around: (call) => (call.method === 'settle' ? (p.kill(), never()) : call.proceed()),
      });
      p.consumer({ size: 2, keep });
      await p.engine.start();
      await p.put(1, 2);
      await turns(() => false, 50);
      expect(p.values).toEqual([1, 2]);
      const second = await next(p.clock.now(), { size: 2, keep }, LEASE * 2);
      expect(second.values).toEqual([]);
      expect((await plain.stats([STREAM]))[0]).toMatchObject({ buffered: 0, consumers: [{ openWindows: 0 }] });
      expect(await plain.sweep(STREAM, { kept: new Date(second.clock.now() + 1) })).toMatchObject(left);
      await stop(second);
    },
  );
});
