import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { memoryStore, type WindowEmitter } from 'nestjs-minibatch';
import { openStream } from 'nestjs-minibatch/client';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { repository } from '../support/workspace.js';
import { compileApplication } from './compiled-application.js';
import { asFile, commentBlocksOf } from './doc-comments.js';

const SOURCES = 'libs/minibatch/src';
const files = (await readdir(repository(SOURCES), { recursive: true }))
  .filter((file) => file.endsWith('.ts') && !file.includes('.spec.'))
  .toSorted();
const blocks = await Promise.all(
  files.map(async (file) =>
    commentBlocksOf(await readFile(repository(SOURCES, file), 'utf8')).map(({ code, line }) => ({
      file,
      line,
      code,
      name: `${file.replace(/\W/g, '_')}_${line}`,
    })),
  ),
).then((found) => found.flat());

describe('the examples of doc comments', { timeout: 120_000 }, () => {
  let errors: readonly string[];

  beforeAll(async () => {
    errors = await compileApplication(Object.fromEntries(blocks.map(({ name, code }) => [name, asFile(code)])));
  }, 120_000);

  it.each(blocks)('compiles in a strict application: $file, line $line', ({ name }) => {
    expect(errors.filter((line) => line.startsWith(`src/${name}.ts`))).toEqual([]);
  });

  it('compiles as a whole', () => {
    expect(blocks.length).toBeGreaterThan(30);
    expect(errors).toEqual([]);
  });

  it('runs where it is a strategy: it makes every window, and does not stall', async () => {
    const code = blocks.find(({ file }) => file === 'windows/window-emitter.ts')?.code ?? '';
    await mkdir(repository('test/.tmp'), { recursive: true });
    const folder = await mkdtemp(repository('test/.tmp/strategy-'));
    const numbers = await openStream<{ value: number }>(memoryStore(), 'numbers');
    try {
      await writeFile(join(folder, 'strategy.ts'), asFile(`export ${code}`));
      const { EvenTens } = (await import(join(folder, 'strategy.ts'))) as { EvenTens: new () => WindowEmitter };
      const values = Array.from({ length: 24_000 }, (_, value) => ({ value }));
      await numbers.appendMany(values);
      const sizes: number[] = [];
      await numbers.consume({ emitter: EvenTens, group: 'tens' }, ({ data }) => {
        sizes.push(data.length);
      });
      await vi.waitFor(() => expect(sizes).toHaveLength(1_200), { timeout: 60_000, interval: 20 });
      expect(sizes).toEqual(Array.from({ length: 1_200 }, () => 10));
    } finally {
      await numbers.disconnect();
      await rm(folder, { recursive: true, force: true });
    }
  });
});
