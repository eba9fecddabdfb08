import assert from 'node:assert/strict';
import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../errors/minibatch.error.js';
import { delay } from '../common/clock.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import type { Lease } from '../storage/stream-store.interface.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { wrapStore } from '../testing/wrapped-store.js';
import { LeaseKeeper } from './lease-keeper.js';
import { LEASE, Process, STREAM, turns } from './process.spec.support.js';

/** Time that passes for both, in steps of half a second; the one that is away comes to nothing meanwhile. */
async function pass(ms: number, awake: readonly Process[], away: readonly Process[] = []): Promise<void> {
  for (let passed = 0; passed < ms; passed += 500) {
    for (const p of away) p.clock.sleep(500);
    for (const p of awake) await p.clock.advance(500, () => turns(() => false, 5));
  }
}

describe('a handler that blocks the event loop', () => {
  /**
   * Two replicas, each with a clock of its own. A handler takes 25 s, in which its process comes to nothing else: its clock sleeps, and
   * the other one's keeps running.
   */
  it('is not taken from each other again and again: the lease becomes longer', async () => {
    const database = new MemoryDatabase();
    const blocked: { process: Process; wake: () => void }[] = [];
    const make = (): Process => {
      const p: Process = new Process(database, { clock: new VirtualClock() });
      p.consumer({
        size: 1,
        handler: () => new Promise<void>((resolve) => blocked.push({ process: p, wake: resolve })),
      });
      return p;
    };
    const replicas = [make(), make()];
    for (const p of replicas) await p.engine.start();
    await replicas[0]?.put(1);
    let runs = 0;
    const committed = async () => (await replicas[0]?.store.stats([STREAM]))?.[0]?.consumers[0]?.progress.windows === 1;
    for (; runs < 10 && !(await committed());) {
      await pass(1_000, replicas);
      const run = blocked.shift();
      if (!run) continue;
      runs += 1;
      await pass(
        25_000,
        replicas.filter((p) => p !== run.process),
        [run.process],
      );
      // As after a computation: what it answers comes before any timer.
      run.wake();
      await pass(500, [run.process]);
    }
    // One that loses it learns how long it takes; so each does once at the most.
    expect(runs).toBeLessThanOrEqual(3);
    expect(await committed()).toBe(true);
    const warnings = replicas.flatMap((p) => p.logged.filter((line) => line.includes(ErrorCode.EventLoopBlocked)));
    expect(warnings.length).toBeGreaterThan(0);
    expect(warnings[0]).toContain('Test.default');
    expect(await replicas[0]?.store.stats([STREAM])).toMatchObject([{ deadLetters: 0, buffered: 0 }]);

    for (const p of replicas) {
      const stopping = p.engine.stop(0);
      await p.clock.advance(10_000);
      await stopping;
    }
  });

  it('is one line in the log, whoever runs on it, and an error of each of them', async () => {
    const p = new Process(new MemoryDatabase(), { clock: new VirtualClock() });
    let begun = 0;
    const handler = ({ signal }: { readonly signal: AbortSignal }) => {
      begun += 1;
      return new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
    };
    p.consumer({ size: 1, handler }).consumer({ size: 1, handler, group: 'other' });
    await p.start();
    await p.put(1);
    await p.clock.advance(1_000, () => turns(() => begun === 2, 200));
    p.clock.sleep(LEASE);
    await p.clock.advance(LEASE / 2, () => turns(() => false, 5));
    const lines = p.logged.filter((line) => line.includes(ErrorCode.EventLoopBlocked));
    expect(lines).toEqual([
      expect.stringContaining('Test.default and 1 other consumer: the event loop was blocked for'),
    ]);
    const codes = p.engine.status().map(({ lastError }) => lastError?.code);
    expect(codes).toEqual([ErrorCode.EventLoopBlocked, ErrorCode.EventLoopBlocked]);
    const stopping = p.engine.stop(0);
    await p.clock.advance(10_000);
    await stopping;
  });

  it('lets a candidate wait for as long as the lease says', async () => {
    const database = new MemoryDatabase();
    const owner = new Process(database).consumer({ size: 1 });
    await owner.start();
    const key = { stream: STREAM, group: 'default', partition: 0 };
    const [state] = await owner.store.readLeases([key]);
    if (!state?.owner) throw new Error('not held');
    await owner.store.renewLeases([{ key, owner: state.owner, fence: state.fence, holdTime: 4 * LEASE }]);
    owner.kill();

    const other = new Process(database).consumer({ size: 1 });
    await other.start();
    await other.clock.advance(3.9 * LEASE, () => turns(() => false, 5));
    expect(other.engine.status()[0]?.state).toBe('standby');
    await other.clock.advance(0.4 * LEASE, () => turns(() => false, 5));
    expect(other.engine.status()[0]?.state).toBe('running');
    const stopping = other.engine.stop(0);
    await other.clock.advance(10_000);
    await stopping;
  });
});

describe('replicas whose clocks are five minutes apart', () => {
  it.each([5, -5])(
    '(%d): take nothing from one that lives, and take over in time after one that died',
    async (minutes) => {
      const database = new MemoryDatabase();
      const start = Date.UTC(2026, 0, 1);
      const seen: unknown[] = [];
      const make = (at: number): Process =>
        new Process(database, { clock: new VirtualClock(at) }).consumer({
          size: 1,
          handler: (window) => void seen.push(...window.data),
        });
      const first = make(start);
      const second = make(start + minutes * 60_000);
      await first.engine.start();
      await second.engine.start();
      for (let n = 0; n < 20; n += 1) {
        await (n % 2 === 0 ? first : second).put(n);
        await pass(3_000, [first, second]);
      }
      expect(seen).toEqual(Array.from({ length: 20 }, (_, n) => n));
      expect(second.engine.status()[0]).toMatchObject({ state: 'standby', committedWindows: 0 });

      first.kill();
      await second.put(20);
      await pass(1.5 * LEASE, [second]);
      expect(seen.at(-1)).toBe(20);
      expect(await second.store.stats([STREAM])).toMatchObject([{ buffered: 0 }]);
      const stopping = second.engine.stop(0);
      await second.clock.advance(10_000);
      await stopping;
    },
  );
});

describe('a lease', () => {
  it('is as old as the sending of its renewal, not as its answer', async () => {
    const clock = new VirtualClock();
    const store = new MemoryStreamStore();
    const slow = wrapStore(store, async (call) => {
      const result = await call.proceed();
      if (call.method === 'renewLeases') await delay(clock, 10_000);
      return result;
    });
    const key = { stream: STREAM, group: 'default', partition: 0 };
    await store.registerGroup(key);
    const leases: Lease[] = [];
    const owner = { id: 'me', host: 'here', bootId: 'boot', pid: 1, startTime: '1' };
    const keeper = new LeaseKeeper(slow, clock, owner, { leaseTime: LEASE }, () => false, {
      acquired: (_, lease) => void leases.push(lease),
      lost: () => undefined,
      wentTo: () => undefined,
      missing: () => undefined,
      wanted: () => undefined,
      note: () => undefined,
      overfull: () => undefined,
    });
    keeper.add(key);
    await keeper.round();
    const [lease] = leases;
    assert.ok(lease);
    await clock.advance(5_000);
    const renewing = keeper.renewDue();
    await clock.advance(10_000);
    await renewing;
    expect(keeper.isFresh(lease)).toBe(true);
    await clock.advance(1_900);
    expect(keeper.isFresh(lease)).toBe(true);
    await clock.advance(200); // 12.1 s after the sending, four fifths of the lease time.
    expect(keeper.isFresh(lease)).toBe(false);
  });
});
