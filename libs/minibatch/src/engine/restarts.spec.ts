import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { thisProcess } from '../common/process-identity.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import type { LeaseOwner } from '../storage/stream-store.interface.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { FixedTimeWindow } from '../windows/fixed-time.window.js';
import type { Window } from '../windows/window.js';
import { type ConsumerChoice, Process } from './process.spec.support.js';

const INTERVAL = 3_000;
const LIFE = 1_500;
const YEAR = 365 * 24 * 3_600_000;

/** A process of this host that is gone, as far as others can tell. */
const mortal = (life: number): LeaseOwner => ({ ...thisProcess(), id: `p${life}`, pid: 2 ** 30, startTime: '1' });

/** No process lives as long as an interval: what it has waited for is not to be lost with it. */
describe('time windows over restarts', () => {
  let database: MemoryDatabase;
  let clock: VirtualClock;
  let running: Process[];
  let windows: { readonly window: Window; readonly at: number }[];
  /** Of the producer, compared with the consumer's clock. */
  let skew: number;
  let appended: number;

  const start = async (options: ConsumerChoice, owner?: LeaseOwner) => {
    const p = new Process(database, { clock, ...(owner && { owner }) });
    await p.consumer({ ...options, handler: (window) => void windows.push({ window, at: clock.now() }) }).start();
    running.push(p);
    return p;
  };
  const stop = async (p: Process) => {
    running = running.filter((each) => each !== p);
    await p.engine.stop(0);
  };
  const end = (p: Process, how: 'stopped' | 'killed') => {
    if (how === 'stopped') return stop(p);
    running = running.filter((each) => each !== p);
    p.kill();
  };
  const produce = async (p: Process, ms: number) => {
    for (let passed = 0; passed < ms; passed += 250) {
      const created = new Date(clock.now() + skew);
      await p.store.append([{ stream: 's', data: (appended += 1), created }]);
      p.engine.wake('s');
      await p.advance(250);
    }
  };

  beforeEach(() => {
    database = new MemoryDatabase();
    clock = new VirtualClock();
    running = [];
    windows = [];
    skew = 0;
    appended = 0;
  });
  afterEach(async () => {
    for (const p of running) await stop(p);
  });

  const kinds: readonly (readonly [string, () => ConsumerChoice])[] = [
    ['relaxed windows', () => ({ interval: INTERVAL })],
    ['count windows with a longest wait', () => ({ size: 1_000, interval: INTERVAL })],
    ['fixed windows', () => ({ interval: INTERVAL, emitter: new FixedTimeWindow() })],
  ];

  for (const [name, options] of kinds) {
    for (const how of ['stopped', 'killed'] as const) {
      it(`${name} end in time, though processes are ${how}`, async () => {
        const began = clock.now();
        for (let life = 0; life < 8; life += 1) {
          const p = await start(options(), how === 'killed' ? mortal(life) : undefined);
          await produce(p, LIFE);
          await end(p, how);
        }
        const grace = name.startsWith('fixed') ? 1_000 : 0;
        expect((windows[0]?.at ?? Infinity) - began).toBeLessThanOrEqual(INTERVAL + grace + LIFE / 2);
        expect(windows.length).toBeGreaterThanOrEqual(3);
        expect(windows.length).toBeLessThanOrEqual(6);
      });
    }

    it(`${name} end in time in a rolling restart`, async () => {
      const began = clock.now();
      let before: Process | undefined;
      for (let life = 0; life < 8; life += 1) {
        const p = await start(options());
        if (before) await stop(before);
        await produce(p, LIFE);
        before = p;
      }
      expect((windows[0]?.at ?? Infinity) - began).toBeLessThanOrEqual(2 * INTERVAL);
      expect(windows.length).toBeGreaterThanOrEqual(2);
    });
  }

  it('relaxed windows are not kept back by a producer whose clock is ahead', async () => {
    skew = YEAR;
    const began = clock.now();
    for (let life = 0; life < 4; life += 1) {
      const p = await start({ interval: INTERVAL });
      await produce(p, LIFE);
      await stop(p);
    }
    expect((windows[0]?.at ?? Infinity) - began).toBeLessThanOrEqual(INTERVAL + LIFE);
  });

  it('relaxed windows continue after the clock was a year ahead and was corrected', async () => {
    clock.jump(YEAR);
    const first = await start({ interval: INTERVAL });
    await produce(first, 2 * INTERVAL);
    await stop(first);
    clock.jump(-YEAR);
    const [began, before] = [clock.now(), windows.length];
    for (let life = 0; life < 6; life += 1) {
      const p = await start({ interval: INTERVAL });
      await produce(p, LIFE - 500);
      await stop(p);
      await clock.advance(500);
    }
    expect((windows[before]?.at ?? Infinity) - began).toBeLessThanOrEqual(INTERVAL + LIFE);
    expect(windows.at(-1)?.window.end?.getTime()).toBeLessThanOrEqual(clock.now());
  });

  it('empty windows come though no process lives for an interval, and none for time in which no process ran', async () => {
    for (let life = 0; life < 8; life += 1) {
      const p = await start({ interval: INTERVAL, empty: true });
      await p.advance(LIFE);
      await stop(p);
    }
    const length = windows.length;
    expect(length).toBeGreaterThanOrEqual(2);
    await clock.advance(100 * INTERVAL);
    const p = await start({ interval: INTERVAL, empty: true });
    await p.advance(2 * INTERVAL);
    expect(windows.length - length).toBeLessThanOrEqual(2);
  });

  it('the first start is stored once', async () => {
    let commits = 0;
    const around = async ({ method, proceed }: { method: string; proceed: () => Promise<unknown> }) => {
      if (method === 'commit') commits += 1;
      return proceed();
    };
    for (let life = 0; life < 3; life += 1) {
      const p = new Process(database, { clock, around });
      await p.consumer({ interval: INTERVAL }).consumer({ group: 'counts', size: 10, interval: INTERVAL }).start();
      await p.advance(100);
      await p.engine.stop(0);
    }
    expect(commits).toBe(1);
  });
});
