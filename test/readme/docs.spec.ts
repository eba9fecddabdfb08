import { readdir, readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { repository } from '../support/workspace.js';
import { blocksOf, FRAMES } from './blocks.js';
import { compileApplication } from './compiled-application.js';
import { unimported } from './doc-comments.js';
import { COMPILED_ELSEWHERE, DOCS_FRAMES } from './docs-frames.js';

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

/** Each block of the pages is a file of its own, as its reader would paste it. */
describe('the code of docs', { timeout: 120_000 }, () => {
  let errors: readonly string[];

  beforeAll(async () => {
    errors = await compileApplication(
      Object.fromEntries(blocks.map(({ file, code }) => [file, `${code}\nexport {};\n`])),
    );
  }, 120_000);

  it.each(blocks)('compiles in a strict application: $page, line $line', ({ file }) => {
    expect(errors.filter((line) => line.startsWith(`src/${file}.ts`))).toEqual([]);
  });

  it('compiles as a whole', () => {
    expect(blocks.length).toBeGreaterThan(0);
    expect(errors).toEqual([]);
  });
});

/** Steps inside of the constructor of a class that stands above them. */
const isStep = (code: string) => code.startsWith('super(');

describe('each block of the README and of docs', async () => {
  const all = ['README.md', ...(await readdir(repository('docs'), { recursive: true })).map((name) => `docs/${name}`)];
  const texts = await Promise.all(
    all
      .filter((name) => name.endsWith('.md'))
      .map(async (name) => blocksOf(await readFile(repository(name), 'utf8')).map((block) => ({ name, ...block }))),
  );
  const found = texts.flat().filter(({ code }) => !isStep(code));

  it.each(found)('imports what it uses, so that it can be pasted: $name, line $line', ({ code }) => {
    expect(unimported(code)).toEqual([]);
  });
});
