import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { repository, run, tool } from '../support/workspace.js';
import { blocksOf, FRAMES } from './blocks.js';
import { COMPILED_ELSEWHERE, DOCS_FRAMES } from './docs-frames.js';

/** What the Nest CLI generates for an ESM application. */
const TEMPLATE = repository('node_modules/@nestjs/schematics/dist/lib/application/files/ts-esm/tsconfig.json');

const pages = (await readdir(repository('docs'), { recursive: true }))
  .filter((page) => page.endsWith('.md') && !COMPILED_ELSEWHERE.includes(page) && !FRAMES[`docs/${page}`])
  .toSorted();
const blocks = await Promise.all(
  pages.map(async (page) =>
    blocksOf(await readFile(repository('docs', page), 'utf8')).map(({ code, line }) => ({
      page,
      line,
      code: (DOCS_FRAMES[page] ?? ((alone: string) => alone))(code),
      file: `${page.replace(/\W/g, '_')}_${line}`,
    })),
  ),
).then((found) => found.flat());

/** Each block of the pages is a file by itself, as its reader would paste it. */
describe('the code of docs', { timeout: 120_000 }, () => {
  let folder: string;
  let errors: readonly string[];

  beforeAll(async () => {
    await mkdir(repository('test/.tmp'), { recursive: true });
    folder = await mkdtemp(repository('test/.tmp/docs-'));
    await mkdir(join(folder, 'src'));
    await writeFile(join(folder, 'package.json'), '{ "type": "module" }');
    await writeFile(join(folder, 'tsconfig.json'), (await readFile(TEMPLATE, 'utf8')).replace('<%= strict %>', 'true'));
    for (const { file, code } of blocks) await writeFile(join(folder, 'src', `${file}.ts`), `${code}\nexport {};\n`);
    const { stdout } = await run(tool('tsc'), ['-p', 'tsconfig.json', '--noEmit', '--pretty', 'false'], {
      cwd: folder,
    });
    errors = stdout.split('\n').filter((line) => line !== '');
  }, 120_000);
  afterAll(() => rm(folder, { recursive: true, force: true }));

  it.each(blocks)('compiles in a strict application: $page, line $line', ({ file }) => {
    expect(errors.filter((line) => line.startsWith(`src/${file}.ts`))).toEqual([]);
  });

  it('compiles as a whole', () => {
    expect(blocks.length).toBeGreaterThan(0);
    expect(errors).toEqual([]);
  });
});
