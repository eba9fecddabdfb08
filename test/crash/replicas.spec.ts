import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { readLog, type Worker, type WorkerOptions } from './worker-process.js';
import { crashPlace, useProcesses } from './places.js';
import { CRASH_STORES } from './scenario.js';

const LEASE = 4_000;

/** A takeover comes within 1.5 × the lease time; the rest is for a machine that is busy with other tests. Milliseconds. */
const TAKEOVER = 3 * LEASE;

/**
 * Stops the holder and waits until the other process has begun to handle windows.
 *
 * An LMDB process that is stopped inside a write holds up all the others until it resumes: then it is let go, and stopped at
 * another moment.
 */
async function stopUntilTakenOver(holder: Worker, other: Worker): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    expect(await holder.saw('start', holder.count('start') + 1)).toBe(true);
    holder.signal('SIGSTOP');
    if (await other.saw('start', 1, TAKEOVER)) return;
    expect(tries).toBeLessThan(4);
    holder.signal('SIGCONT');
  }
}

describe('two replicas of an app on one database', () => {
  const { start, folder: newFolder } = useProcesses('replicas');

  for (const store of CRASH_STORES) {
    const setUp = (name: string): WorkerOptions => {
      const folder = newFolder();
      return {
        store,
        log: join(folder, 'log.jsonl'),
        rows: 1_000_000,
        size: 5,
        // Long, so that a stop right after a handler's start does not fall into a commit.
        work: 150,
        leaseTime: LEASE,
        exit: false,
        produce: false,
        ...crashPlace(store, folder, `replicas_${name}_${process.pid}`),
      };
    };

    it(`${store}: after a kill -9 of the holder the other takes over`, { timeout: 90_000 }, async () => {
      const options = setUp('kill');
      const holder = start({ ...options, rows: 4_000, produce: true });
      expect(await holder.saw('start', 5)).toBe(true);
      const other = start(options);
      expect(await other.saw('ready')).toBe(true);
      expect(await holder.saw('produced')).toBe(true);

      await holder.kill();
      expect(await other.saw('start', 1, TAKEOVER)).toBe(true);
    });

    it(
      `${store}: handlers that block the event loop for longer than a lease get through, and no message is given up`,
      { timeout: 90_000 },
      async () => {
        const options: WorkerOptions = { ...setUp('block'), rows: 20, leaseTime: 1_000, work: 1, block: 1_600 };
        const first = start({ ...options, produce: true });
        expect(await first.saw('start')).toBe(true);
        const second = start(options);
        const committed = () => readLog(options.log).flatMap((entry) => (entry.kind === 'commit' ? entry.windows : []));
        await vi.waitFor(() => expect(new Set(committed()).size).toBe(4), { timeout: 60_000, interval: 100 });
        expect(new Set(committed()).size).toBe(committed().length);
        // Each learns once at the most how long it takes.
        const starts = readLog(options.log).filter(({ kind }) => kind === 'start');
        expect(starts.length).toBeLessThanOrEqual(4 + 3);
        expect([...first.output, ...second.output].join('\n')).toContain('MINIBATCH_EVENT_LOOP_BLOCKED');
      },
    );

    it(
      `${store}: a holder that was stopped and woken after the takeover commits nothing`,
      { timeout: 90_000 },
      async () => {
        const options = setUp('stop');
        const holder = start({ ...options, rows: 4_000, produce: true });
        expect(await holder.saw('produced')).toBe(true);
        expect(await holder.saw('start', 5)).toBe(true);
        const other = start(options);
        expect(await other.saw('ready')).toBe(true);

        await stopUntilTakenOver(holder, other);
        const before = readLog(options.log).length;
        const startsBefore = holder.count('start');
        holder.signal('SIGCONT');
        // Enough for the woken one to try whatever it had in hand.
        expect(await other.saw('start', other.count('start') + 20)).toBe(true);

        const log = readLog(options.log);
        // What it had committed when it was stopped, and comes to write down only now, is nobody else's.
        const taken = new Set(
          log.flatMap((entry) => (entry.kind === 'start' && entry.pid === other.pid ? [entry.window] : [])),
        );
        const after = log.slice(before).filter(({ pid }) => pid === holder.pid);
        const committed = after.flatMap((entry) => (entry.kind === 'commit' ? entry.windows : []));
        const put = after.flatMap((entry) => (entry.kind === 'put' ? [entry.window] : []));
        expect([...committed, ...put].filter((window) => taken.has(window))).toEqual([]);
        expect(taken.size).toBeGreaterThanOrEqual(20);
        expect(holder.count('start')).toBeLessThanOrEqual(startsBefore + 1);
      },
    );
  }
});
