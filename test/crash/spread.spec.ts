import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { crashPlace, useProcesses } from './places.js';
import { CRASH_STORES } from './scenario.js';
import { type LogEntry, readLog, type Worker, type WorkerOptions } from './worker-process.js';

const GROUPS = ['a', 'b', 'c', 'd'];
/** Long, so that a busy machine costs no lease. It does not make the test slower: hand-overs take a fraction of it. */
const LEASE = 8_000;

type Start = Extract<LogEntry, { kind: 'start' | 'put' }>;

/** What is known of the replicas from their log. */
class Log {
  constructor(readonly path: string) {}

  get starts(): readonly Start[] {
    return readLog(this.path).filter((entry): entry is Start => entry.kind === 'start');
  }

  /** Windows that were handled more than once, but for those that a process had begun when it was killed. */
  repeated(killed?: Worker): readonly string[] {
    const by = new Map<string, number[]>();
    for (const { window, pid } of this.starts) by.set(window, [...(by.get(window) ?? []), pid]);
    return [...by].filter(([, pids]) => pids.filter((pid) => pid !== killed?.pid).length > 1).map(([window]) => window);
  }

  /** Rows of a group in the order in which handlers got them, the second time left out. */
  rows(group: string): readonly number[] {
    return [...new Set(this.starts.filter((start) => start.group === group).flatMap(({ rows }) => rows))];
  }

  /** Resolves when handlers of all groups have begun since then, and each of these processes, and no other, had the last one of some. */
  async isServedBy(workers: readonly Worker[]): Promise<void> {
    const before = this.starts.length;
    await vi.waitFor(
      () => {
        const last = new Map(this.starts.slice(before).map(({ group, pid }) => [group, pid]));
        expect([...last.keys()].toSorted()).toEqual(GROUPS);
        expect([...new Set(last.values())].toSorted()).toEqual(workers.map(({ pid }) => pid).toSorted());
      },
      { timeout: 150_000, interval: 100 },
    );
  }
}

describe('four replicas of an app with four consumers', () => {
  const { start, folder: newFolder } = useProcesses('spread');

  for (const store of CRASH_STORES) {
    const setUp = (): WorkerOptions => {
      const folder = newFolder();
      return {
        store,
        log: join(folder, 'log.jsonl'),
        rows: 40_000,
        size: 5,
        groups: GROUPS,
        work: 60,
        leaseTime: LEASE,
        shutdownTimeout: 60_000,
        exit: false,
        produce: false,
        ...crashPlace(store, folder, `spread_${process.pid}`),
      };
    };

    it(
      `${store}: have one each, also after one has left, another one has joined, and one was killed`,
      { timeout: 600_000 },
      async () => {
        const options = setUp();
        const log = new Log(options.log);
        const first = start({ ...options, produce: true });
        expect(await first.saw('start', GROUPS.length)).toBe(true);
        const [leaving, dying, staying] = [start(options), start(options), start(options)];
        await log.isServedBy([first, leaving, dying, staying]);
        expect(log.repeated()).toEqual([]);

        leaving.signal('SIGTERM');
        expect(await leaving.exit()).toBe(0);
        await log.isServedBy([first, dying, staying]);
        expect(log.repeated()).toEqual([]);

        const joining = start(options);
        await log.isServedBy([first, dying, staying, joining]);
        expect(log.repeated()).toEqual([]);

        await dying.kill();
        await log.isServedBy([first, staying, joining]);
        expect(log.repeated(dying)).toEqual([]);
        for (const group of GROUPS) {
          const rows = log.rows(group);
          expect(rows.length).toBeGreaterThan(20);
          // In order, and none left out.
          expect(rows).toEqual(Array.from(rows, (_, n) => n));
        }
      },
    );
  }
});
