import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { crashPlace, useProcesses } from './places.js';
import { CRASH_STORES } from './scenario.js';

const SCRIPT = fileURLToPath(new URL('../fixtures/crash/feeds-worker.mjs', import.meta.url));
const ROWS = 200;
const KILLS = 4;

interface Holding {
  readonly stream: string;
  readonly rows: readonly number[];
}

describe('two sources of one name on two streams, killed', () => {
  const { start, folder: newFolder } = useProcesses('feeds');

  it.each(CRASH_STORES)('append every row once: %s', { timeout: 120_000 }, async (store) => {
    const folder = newFolder();
    const options = {
      store,
      rows: ROWS,
      ...crashPlace(store, folder, `feeds_${process.pid}_${Date.now()}`),
    };

    for (let killAt = 1; killAt <= KILLS; killAt += 1) {
      const worker = start({ ...options, killAt }, SCRIPT);
      // Null: ended by the signal.
      expect(await worker.exit()).toBeNull();
    }
    const last = start(options, SCRIPT);
    expect(await last.exit()).toBe(0);

    const holdings = last.output
      .filter((line) => line.startsWith('holds '))
      .map((line) => JSON.parse(line.slice('holds '.length)) as Holding);
    expect(holdings.map(({ stream }) => stream)).toEqual(['slow', 'fast']);
    for (const { rows } of holdings) {
      const held = new Set(rows);
      expect(Array.from({ length: ROWS }, (_, row) => row).filter((row) => !held.has(row))).toEqual([]);
      expect(rows).toHaveLength(ROWS);
    }
  });
});
