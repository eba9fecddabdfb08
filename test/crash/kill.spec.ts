import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type LogEntry, readLog, type WorkerOptions } from './worker-process.js';
import { crashPlace, useProcesses } from './places.js';
import { CRASH_STORES } from './scenario.js';

const ROWS = 8_000;
const KILLS = 10;

/** The rows that no handler of the group has seen. */
function missing(log: readonly LogEntry[], group: string): number[] {
  const seen = new Set(log.flatMap((entry) => (entry.kind === 'start' && entry.group === group ? entry.rows : [])));
  return Array.from({ length: ROWS }, (_, row) => row).filter((row) => !seen.has(row));
}

/** The windows that were handled although their commit point had been recorded. */
function handledAgain(log: readonly LogEntry[]): string[] {
  const committed = new Set<string>();
  const again: string[] = [];
  for (const entry of log) {
    if (entry.kind === 'commit') for (const window of entry.windows) committed.add(`${entry.group} ${window}`);
    if (entry.kind === 'start' && committed.has(`${entry.group} ${entry.window}`)) again.push(entry.window);
  }
  return again;
}

/** Rows in more than one committed window: a message that was appended twice, or delivered twice and committed twice. */
function committedTwice(log: readonly LogEntry[], group: string): number[] {
  const rows = new Map(
    log.flatMap((entry) =>
      entry.kind === 'start' && entry.group === group ? [[entry.window, entry.rows] as const] : [],
    ),
  );
  const windows = new Set(
    log.flatMap((entry) => (entry.kind === 'commit' && entry.group === group ? entry.windows : [])),
  );
  const seen = new Set<number>();
  return [...windows].flatMap((window) => rows.get(window) ?? []).filter((row) => seen.size === seen.add(row).size);
}

describe('kill -9 at random moments', () => {
  const { start, folder: newFolder } = useProcesses('kill');

  const stores = CRASH_STORES;
  const consumers = [['default'], ['first', 'second']];
  for (const [store, groups] of stores.flatMap((name) => consumers.map((list) => [name, list] as const))) {
    it(
      `loses nothing and commits nothing twice: ${store}, ${groups.length} consumer(s)`,
      { timeout: 180_000 },
      async () => {
        const folder = newFolder();
        const log = join(folder, 'log.jsonl');
        const options: WorkerOptions = {
          store,
          log,
          rows: ROWS,
          groups,
          size: 40,
          work: 2,
          ...crashPlace(store, folder, `kill_${process.pid}_${groups.length}`),
        };

        let killed = 0;
        while (killed < KILLS) {
          const worker = start(options);
          // After that many handlers, and a random while into what comes then.
          const running = await worker.saw(
            'start',
            1 + Math.floor(Math.random() * ((ROWS * groups.length) / 40 / KILLS)),
          );
          if (!running) {
            // It was through before its turn to die came.
            await worker.exit();
            break;
          }
          await new Promise((resolve) => setTimeout(resolve, Math.random() * 20));
          await worker.kill();
          killed += 1;
        }
        const last = start(options);
        await last.exit();

        const entries = readLog(log);
        const starts = entries.filter(({ kind }) => kind === 'start').length;
        console.log(`${store}, ${groups.length} consumer(s): ${killed} kills, ${starts} handler starts`);
        expect(killed).toBeGreaterThanOrEqual(5);
        for (const group of groups) {
          expect(missing(entries, group)).toEqual([]);
          expect(committedTwice(entries, group)).toEqual([]);
        }
        expect(handledAgain(entries)).toEqual([]);
      },
    );
  }
});
