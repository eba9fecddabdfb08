import { access, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { repository } from '../support/workspace.js';

/** Pages that lead readers to files of the sources. */
const PAGES = [
  'CONTRIBUTING.md',
  'docs/guides/writing-a-store.md',
  ...(await readdir(repository('docs/internals'))).map((page) => `docs/internals/${page}`),
];
/** What a page calls its own files by. */
const FOLDERS: Readonly<Record<string, string>> = { 'docs/internals/keyed-windows.md': 'flow' };
const SOURCES = 'libs/minibatch/src';
const sources = await readdir(repository(SOURCES), { recursive: true });
const STORES = ['lmdb', 'memory', 'mongoose', 'postgres'];

const exists = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  );

/** Where a page's file is; undefined if there is none. */
async function placeOf(page: string, file: string): Promise<string | undefined> {
  const folders = ['', SOURCES, join(SOURCES, FOLDERS[page] ?? '')];
  const places = folders.map((folder) => repository(folder, file));
  const found = await Promise.all(places.map(exists));
  return places.find((_, index) => found[index]);
}

/** Files that a page names and that are not there. `storage/*\/name.ts` is a file of each store. */
async function missingFiles(page: string, text: string): Promise<readonly string[]> {
  const named = [...text.matchAll(/`([\w.*-]+(?:\/[\w.*-]+)*\/?)`/g)]
    .map(([, path = '']) => path)
    .filter((path) => path.endsWith('/') || /\/.*\*|\.(ts|mts|cts|mjs|cjs)$/.test(path))
    .flatMap((path) => (path.startsWith('storage/*/') ? STORES.map((store) => path.replace('*', store)) : [path]));
  const missing: string[] = [];
  for (const file of new Set(named)) {
    const isPattern = file.includes('*');
    if (isPattern ? !matches(file) : (await placeOf(page, file)) === undefined) missing.push(file);
  }
  return missing;
}

/** `*.spec.ts`, `engine/*.spec.ts`: of the sources, if not from the root of the repository. */
function matches(pattern: string): boolean {
  const [before = '', after = ''] = pattern.replace(`${SOURCES}/`, '').split('*');
  return sources.some((path) => path.startsWith(before) && path.endsWith(after));
}

/** `file.ts` (`name`): names that are not in the file. */
async function missingNames(page: string, text: string): Promise<readonly string[]> {
  const missing: string[] = [];
  for (const [, file = '', name = ''] of text.matchAll(/`([\w./-]+\.ts)` \(`(\w+)`\)/g)) {
    const place = await placeOf(page, file);
    const source = place === undefined ? '' : await readFile(place, 'utf8');
    if (!new RegExp(`\\b${name}\\b`).test(source)) missing.push(`${file} ${name}`);
  }
  return missing;
}

describe('the files that the documentation names', () => {
  it.each(PAGES)('are there: %s', async (page) => {
    const text = await readFile(repository(page), 'utf8');
    expect(await missingFiles(page, text)).toEqual([]);
    expect(await missingNames(page, text)).toEqual([]);
  });

  it('would be reported if they were not', async () => {
    const page = 'docs/internals/keyed-windows.md';
    const wrong =
      '`engine/none.ts`, `none.cts`, `nowhere/`, `storage/*/lmdb.store.ts`, `flow/*.none.ts`, `flow/mark.ts` (`Mark`)';
    const right = '`engine/`, `watermark.ts` (`Watermark`), `storage/*/commit.ts`, `flow/*.spec.ts`, `*.spec.ts`';
    expect(await missingFiles(page, `${right}, ${wrong}`)).toEqual([
      'engine/none.ts',
      'none.cts',
      'nowhere/',
      'storage/memory/lmdb.store.ts',
      'storage/mongoose/lmdb.store.ts',
      'storage/postgres/lmdb.store.ts',
      'flow/*.none.ts',
      'flow/mark.ts',
    ]);
    expect(await missingNames(page, `${right}, \`watermark.ts\` (\`WaterMark\`), ${wrong}`)).toEqual([
      'watermark.ts WaterMark',
      'flow/mark.ts Mark',
    ]);
  });

  it('are many in the description of the architecture', async () => {
    const text = await readFile(repository('docs/internals/architecture.md'), 'utf8');
    expect([...text.matchAll(/`[\w./-]+\.ts`/g)].length).toBeGreaterThan(80);
  });
});

describe('the page of what lies in the databases', async () => {
  const page = await readFile(repository('docs/internals/storage.md'), 'utf8');

  it('has every kind of record of LMDB', async () => {
    const keys = await readFile(repository('libs/minibatch/src/storage/lmdb/keys.ts'), 'utf8');
    const kinds = [...keys.matchAll(/^ \* (\w+) +· /gm)].map(([, kind]) => kind);
    expect(kinds.length).toBeGreaterThan(15);
    const rows = [...page.matchAll(/^\| `(\w+)` /gm)].map(([, name]) => name);
    expect(kinds.filter((kind) => !rows.includes(kind))).toEqual([]);
  });

  it('has every index of MongoDB', async () => {
    const indexes = await readFile(repository('libs/minibatch/src/storage/mongoose/indexes.ts'), 'utf8');
    const names = [...indexes.matchAll(/name: '(\w+)'/g)].map(([, name]) => name);
    expect(names.length).toBeGreaterThan(5);
    expect(names.filter((name) => !page.includes(`\`${name}\``))).toEqual([]);
  });
});
