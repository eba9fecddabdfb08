import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { pruneOutput } from '../../scripts/prune-output.mjs';
import { closeAll, later } from '../e2e/support/applications.js';
import { temporaryFolder } from '../support/workspace.js';

afterEach(closeAll);

it('a build removes compiled files whose sources have gone, and nothing else', async () => {
  const { path, dispose } = await temporaryFolder();
  later(dispose);
  const [output, sources] = [join(path, 'dist'), join(path, 'src')];
  const write = (...files: string[]) => {
    for (const file of files) {
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, '');
    }
  };
  const compiled = (...names: string[]) =>
    names.flatMap((name) => ['.js', '.js.map', '.d.ts', '.d.ts.map'].map((ending) => join(output, name + ending)));
  write(join(sources, 'a.ts'), join(sources, 'kept/b.service.ts'), join(output, '.tsbuildinfo'));
  write(...compiled('a', 'kept/b.service', 'kept/old.service', 'gone/deep/c'));

  expect(pruneOutput(output, sources).toSorted()).toEqual(compiled('kept/old.service', 'gone/deep/c').toSorted());
  for (const file of [...compiled('a', 'kept/b.service'), join(output, '.tsbuildinfo')]) {
    expect(existsSync(file)).toBe(true);
  }
  expect(readdirSync(output).toSorted()).toEqual(['.tsbuildinfo', 'a.d.ts', 'a.d.ts.map', 'a.js', 'a.js.map', 'kept']);
  expect(pruneOutput(join(path, 'never built'), sources)).toEqual([]);
});
