import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { defineStream } from 'nestjs-minibatch';
import { openStream } from 'nestjs-minibatch/client';
import { lmdbStore } from 'nestjs-minibatch/lmdb';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { repository } from '../support/workspace.js';
import { endProcesses, NodeProcess } from './support/node-process.js';

interface Reading {
  readonly key: string;
  readonly at: number;
  readonly n: number;
}

const PROGRAM = repository('test/fixtures/e2e/keyed-windows.mjs');
const Readings = defineStream<Reading>('readings');
const GAP = 60;
/** Three keys; the second is silent now and then, so that it has several sessions. */
const READINGS = Array.from({ length: 240 }, (_, n): Reading => ({ key: `k${n % 3}`, at: n * 10, n })).filter(
  ({ key, at }) => key !== 'k1' || at % 700 < 400,
);
/** With four of them there are windows by count, too. */
const BAD = Array.from({ length: 4 }, (_, n): Reading => ({ key: 'bad', at: 2_390, n: -1 - n }));
/** Closes all windows, and is in ones that stay open. */
const LAST: Reading = { key: 'last', at: 1_000_000, n: 0 };

const list = (readings: readonly Reading[]) => readings.map(({ n }) => n).join();

/** What the methods have to give out, made from all readings at once. */
function wanted(): readonly string[] {
  const starts = Array.from({ length: 40 }, (_, n) => (n - 5) * 100);
  return ['k0', 'k1', 'k2'].flatMap((key) => {
    const readings = READINGS.filter((reading) => reading.key === key);
    const hopping = starts.flatMap((start) => {
      const inside = readings.filter(({ at }) => at >= start && at < start + 200);
      return inside.length > 0 ? [`hopping ${key} ${start} ${list(inside)}`] : [];
    });
    const sessions: Reading[][] = [];
    for (const reading of readings) {
      const current = sessions.at(-1);
      if (current && reading.at - (current.at(-1)?.at ?? 0) <= GAP) current.push(reading);
      else sessions.push([reading]);
    }
    const counts = readings.flatMap((_reading, index) => {
      const isEnd = index >= 3 && index % 2 === 1;
      return isEnd ? [`count ${key}  ${list(readings.slice(index - 3, index + 1))}`] : [];
    });
    return [...hopping, ...sessions.map((all) => `session ${key} ${all[0]?.at} ${list(all)}`), ...counts];
  });
}

describe('windows by key and event time for methods, in a process that is killed', { timeout: 300_000 }, () => {
  let path: string;
  beforeEach(async () => {
    path = await mkdtemp(join(tmpdir(), 'keyed-windows-'));
  });
  afterEach(async () => {
    await endProcesses();
    await rm(path, { recursive: true, force: true });
  });

  it('are all handled, with one id each, and bad messages are dead letters', async () => {
    const store = join(path, 'store');
    const file = join(path, 'results');
    const append = async (some: readonly Reading[]) => {
      await using readings = await openStream(lmdbStore({ path: store }), Readings);
      await readings.appendMany(some);
    };
    const run = async (step: string, count: number) => {
      const program = new NodeProcess(PROGRAM, [store, file, step, String(count)]);
      const { signal, code } = await program.ended;
      return signal ?? `${code} ${program.lines.join('\n')}`.trim();
    };
    const steps: [string, number][] = [
      ['by', 30],
      ['before commit', 1],
      ['after claim', 3],
      ['before claim', 4],
      ['method', 10],
      ['after commit', 4],
      ['sink', 5],
      ['before settle', 5],
      ['after settle', 6],
      ['before bury', 1],
      ['after bury', 1],
    ];
    const part = Math.ceil(READINGS.length / (steps.length - 2));
    for (const [index, [step, count]] of steps.entries()) {
      const isBad = step === 'before bury';
      await append([...READINGS.slice(index * part, (index + 1) * part), ...(isBad ? [...BAD, LAST] : [])]);
      expect([step, await run(step, count)]).toEqual([step, 'SIGKILL']);
    }
    expect(await run('none', 1)).toMatch(/^0/);
    const lines = (await readFile(file, 'utf8')).trimEnd().split('\n');
    const results = new Map<string, string>();
    for (const line of lines) {
      const [id = ''] = line.split(' ', 1);
      const result = line.slice(id.length + 1);
      expect([id, results.get(id) ?? result]).toEqual([id, result]);
      results.set(id, result);
    }
    expect([...results.values()].toSorted()).toEqual([...wanted()].toSorted());
    await using readings = await openStream<Reading>(lmdbStore({ path: store }), Readings);
    const dead: string[] = [];
    for await (const { group, data } of readings.deadLetters()) dead.push(`${group} ${(data as Reading).n}`);
    const expected = ['hopping', 'sessions', 'counts'].flatMap((group) => BAD.map(({ n }) => `${group} ${n}`));
    expect(dead.toSorted()).toEqual(expected.toSorted());
  });
});
