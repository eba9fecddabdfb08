import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openStream } from 'nestjs-minibatch/client';
import { defineStream } from 'nestjs-minibatch';
import { lmdbStore } from 'nestjs-minibatch/lmdb';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { repository } from '../support/workspace.js';
import { endProcesses, NodeProcess } from './support/node-process.js';

const PROGRAM = repository('test/fixtures/e2e/pipeline.mjs');
const ALL = 200;
const Numbers = defineStream<number>('numbers', { partitions: 2 });

describe('a pipeline in a process that is killed', { timeout: 180_000 }, () => {
  let path: string;
  beforeEach(async () => {
    path = await mkdtemp(join(tmpdir(), 'pipeline-'));
  });
  afterEach(async () => {
    await endProcesses();
    await rm(path, { recursive: true, force: true });
  });

  async function contentOf(stream: string): Promise<number[]> {
    await using opened = await openStream<number>(lmdbStore({ path }), stream);
    const found: number[] = [];
    for await (const { data } of opened.messages()) found.push(data);
    return found.toSorted((a, b) => a - b);
  }

  it('appends everything exactly once, and puts it at least once', async () => {
    {
      await using numbers = await openStream(lmdbStore({ path }), Numbers);
      const each = (n: number) => ({ key: String(n) });
      await numbers.appendMany(
        Array.from({ length: ALL }, (_, index) => index),
        { each },
      );
    }
    const put: number[] = [];
    const run = async (step: string, count: number) => {
      const program = new NodeProcess(PROGRAM, [path, step, String(count)]);
      const { signal, code } = await program.ended;
      for (const line of program.lines) {
        if (line.startsWith('put ')) put.push(...line.slice(4).split(',').map(Number));
      }
      return signal ?? `${code} ${program.lines.filter((line) => !line.startsWith('put ')).join('\n')}`.trim();
    };
    const steps: [string, number][] = [
      ['function', 7],
      ['sink', 2],
      ['before commit', 2],
      ['after commit', 2],
      ['before settle', 1],
      ['after settle', 2],
      ['function', 1],
    ];
    for (const [step, count] of steps) expect([step, await run(step, count)]).toEqual([step, 'SIGKILL']);
    expect(await run('none', 1)).toBe('0');
    const half = Array.from({ length: ALL / 2 }, (_, index) => index);
    const odds = half.map((n) => 2 * n + 1);
    expect(await contentOf('evens')).toEqual(half);
    expect(await contentOf('odds')).toEqual(odds);
    expect([...new Set(put)].toSorted((a, b) => a - b)).toEqual(odds);
    expect(await contentOf('numbers')).toEqual([]);
  });
});
