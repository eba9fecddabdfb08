import { mkdtemp, rm } from 'node:fs/promises';
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

const PROGRAM = repository('test/fixtures/e2e/pipeline-windows.mjs');
const Readings = defineStream<Reading>('readings');
const Divided = defineStream<Reading>('divided', { partitions: 3 });
/** Some of each partition. */
const PARTITION_KEYS = Array.from({ length: 12 }, (_, n) => `${n}`);
const GAP = 60;
/** Three keys; the second is silent now and then, so that it has several sessions. */
const READINGS = Array.from({ length: 300 }, (_, n): Reading => ({ key: `k${n % 3}`, at: n * 10, n })).filter(
  ({ key, at }) => key !== 'k1' || at % 700 < 400,
);
/** Closes all windows, and is in ones that stay open. */
const LAST: Reading = { key: 'last', at: 1_000_000, n: 0 };

function byKey(): readonly (readonly [key: string, readings: readonly Reading[]])[] {
  return ['k0', 'k1', 'k2'].map((key) => [key, READINGS.filter((reading) => reading.key === key)]);
}

/** What the program has to append, made from all readings at once. */
function wanted(): readonly string[] {
  const starts = Array.from({ length: 100 }, (_, n) => (n - 10) * 50);
  const within = (readings: readonly Reading[], start: number, length: number) =>
    readings.filter(({ at }) => at >= start && at < start + length);
  return byKey().flatMap(([key, readings]) => {
    const windows = starts.flatMap((start) => {
      const tumbling = start % 100 === 0 ? within(readings, start, 100) : [];
      const hopping = within(readings, start, 200);
      return [
        ...(tumbling.length > 0 ? [`tumbling ${key} ${start} ${tumbling.length}`] : []),
        ...(hopping.length > 0 ? [`hopping ${key} ${start} ${hopping.reduce((sum, { n }) => sum + n, 0)}`] : []),
        // From both streams.
        ...(start % 400 === 0 && within(readings, start, 400).length > 0
          ? [`merged ${key} ${start} ${2 * within(readings, start, 400).length}`]
          : []),
      ];
    });
    const sessions: Reading[][] = [];
    for (const reading of readings) {
      const current = sessions.at(-1);
      if (current && reading.at - (current.at(-1)?.at ?? 0) <= GAP) current.push(reading);
      else sessions.push([reading]);
    }
    const ended = sessions.map((all) => `session ${key} ${all[0]?.at} ${(all.at(-1)?.at ?? 0) + GAP} ${all.length}`);
    return [...windows, ...ended];
  });
}

describe('windows of pipelines in a process that is killed', { timeout: 300_000 }, () => {
  let path: string;
  beforeEach(async () => {
    path = await mkdtemp(join(tmpdir(), 'pipeline-windows-'));
  });
  afterEach(async () => {
    await endProcesses();
    await rm(path, { recursive: true, force: true });
  });

  it('give each result exactly once', async () => {
    {
      await using readings = await openStream(lmdbStore({ path }), Readings);
      await readings.appendMany([...READINGS, LAST]);
      await using divided = await openStream(lmdbStore({ path }), Divided);
      const keyOf = (n: number) => PARTITION_KEYS[n % PARTITION_KEYS.length] ?? '';
      await Promise.all(READINGS.map((reading, n) => divided.append(reading, { key: keyOf(n) })));
      await Promise.all(PARTITION_KEYS.map((key) => divided.append(LAST, { key })));
    }
    const run = async (step: string, count: number) => {
      const program = new NodeProcess(PROGRAM, [path, step, String(count)]);
      const { signal, code } = await program.ended;
      return signal ?? `${code} ${program.lines.join('\n')}`.trim();
    };
    const steps: [string, number][] = [
      ['add', 30],
      ['before commit', 2],
      ['after claim', 3],
      ['after commit', 4],
      ['function', 10],
      ['before settle', 3],
      ['after settle', 4],
      ['before claim', 3],
    ];
    for (const [step, count] of steps) expect([step, await run(step, count)]).toEqual([step, 'SIGKILL']);
    expect(await run('none', 1)).toBe('0');
    await using out = await openStream<string>(lmdbStore({ path }), 'out');
    const found: string[] = [];
    for await (const { data } of out.messages()) found.push(data);
    expect(found.toSorted()).toEqual([...wanted()].toSorted());
  });
});
