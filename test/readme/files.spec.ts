import { access, readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { repository } from '../support/workspace.js';

/** Pages that lead readers to files of the sources. */
const PAGES = [
  'CONTRIBUTING.md',
  'docs/guides/writing-a-store.md',
  'docs/internals/architecture.md',
  'docs/internals/crash-tests.md',
  'docs/internals/storage.md',
];

const exists = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  );

describe('the files that the documentation names', () => {
  it.each(PAGES)('are there: %s', async (page) => {
    const text = await readFile(repository(page), 'utf8');
    const files = [...text.matchAll(/`([\w.-]+(?:\/[\w.-]+)*\/?)`/g)]
      .map(([, path = '']) => path)
      .filter((path) => path.endsWith('/') || /\.(ts|mjs|cjs)$/.test(path));
    const missing: string[] = [];
    for (const file of new Set(files)) {
      const found = (await exists(repository(file))) || (await exists(repository('libs/minibatch/src', file)));
      if (!found) missing.push(file);
    }
    expect(missing).toEqual([]);
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
