import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, vi } from 'vitest';
import { crashPlace, useProcesses } from './places.js';
import { CRASH_STORES } from './scenario.js';

const SCRIPT = fileURLToPath(new URL('../fixtures/crash/growth-worker.mjs', import.meta.url));
const FROM = 4;
const TO = 8;
/** Long enough for a busy machine. */
const SOON = { timeout: 200_000, interval: 200 };

interface Handled {
  readonly partition: number;
  readonly rows: readonly (readonly [key: string, n: number])[];
}

function readLog(path: string): readonly Handled[] {
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, 'utf8').split('\n');
  return lines.filter((line) => line.endsWith('}')).map((line) => JSON.parse(line) as Handled);
}

/** The numbers of each key in the order in which handlers got them, the second time left out. */
function byKey(log: readonly Handled[]): ReadonlyMap<string, readonly number[]> {
  const seen = new Map<string, Set<number>>();
  for (const [key, n] of log.flatMap(({ rows }) => rows)) seen.set(key, (seen.get(key) ?? new Set()).add(n));
  return new Map([...seen].map(([key, numbers]) => [key, [...numbers]]));
}

describe('a stream that is given more partitions while processes append and consume', () => {
  const { start, folder: newFolder } = useProcesses('growth');

  it.each(CRASH_STORES)('loses nothing and keeps the order of each key: %s', { timeout: 600_000 }, async (store) => {
    const folder = newFolder();
    const log = join(folder, 'log.jsonl');
    const place = { store, log, ...crashPlace(store, folder, `growth_${process.pid}_${Date.now()}`) };
    expect(await start({ ...place, role: 'make', partitions: FROM }, SCRIPT).exit()).toBe(0);
    const consumers = [start({ ...place, role: 'consume' }, SCRIPT), start({ ...place, role: 'consume' }, SCRIPT)];
    const producers = [0, 1].map((producer) => start({ ...place, role: 'produce', producer }, SCRIPT));
    await vi.waitFor(() => {
      expect(new Set(readLog(log).map(({ partition }) => partition))).toEqual(new Set([0, 1, 2, 3]));
    }, SOON);

    expect(await start({ ...place, role: 'grow', partitions: TO }, SCRIPT).exit()).toBe(0);
    // Until some keys have moved for good: a key that has changed its partition goes on in the new one.
    await vi.waitFor(() => {
      const moved = readLog(log).filter(({ partition }) => partition >= FROM);
      expect(new Set(moved.map(({ partition }) => partition)).size).toBe(TO - FROM);
      expect(moved.length).toBeGreaterThan(40);
    }, SOON);
    for (const producer of producers) producer.signal('SIGTERM');
    for (const producer of producers) expect(await producer.exit()).toBe(0);
    const appended = producers.flatMap(({ output }) => {
      const line = output.find((each) => each.startsWith('appended '));
      return JSON.parse(line!.slice('appended '.length)) as [string, number][];
    });

    const expected = new Map(appended.map(([key, count]) => [key, Array.from({ length: count }, (_, n) => n)]));
    const total = appended.reduce((sum, [, count]) => sum + count, 0);
    await vi.waitFor(() => {
      expect([...byKey(readLog(log)).values()].reduce((sum, { length }) => sum + length, 0)).toBe(total);
    }, SOON);
    for (const consumer of consumers) consumer.signal('SIGTERM');
    for (const consumer of consumers) expect(await consumer.exit()).toBe(0);
    const handled = byKey(readLog(log));
    for (const [key, numbers] of expected) expect(handled.get(key), key).toEqual(numbers);
    expect(handled.size).toBe(expected.size);
  });
});
