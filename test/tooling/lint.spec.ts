import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';

import { repository, run, tool } from '../support/workspace.js';

interface Finding {
  readonly code: string;
  readonly filename: string;
}

/** Lints the files that are left out of the normal lint, with the flags and rules of `npm run lint`. */
async function lintFixtures(): Promise<{ exitCode: number; findings: readonly Finding[] }> {
  const { scripts } = JSON.parse(await readFile(repository('package.json'), 'utf8')) as { scripts: { lint: string } };
  const flags = scripts.lint.split(' ').filter((word) => word.startsWith('--'));
  const fixtures = ['--config=test/fixtures/lint/oxlint.json', 'test/fixtures/lint'];
  const result = await run(tool('oxlint'), [...flags, '--format=json', ...fixtures]);
  const report = JSON.parse(result.stdout) as { diagnostics: readonly Finding[] };
  return { exitCode: result.exitCode, findings: report.diagnostics };
}

describe('npm run lint', () => {
  it('fails on what only a linter that knows types can see, and not on legacy decorators', async () => {
    const { exitCode, findings } = await lintFixtures();
    expect(exitCode).not.toBe(0);
    expect(new Set(findings.map(({ filename }) => filename))).toEqual(new Set(['test/fixtures/lint/floating.ts']));
    expect(findings.map(({ code }) => code).toSorted()).toEqual([
      'typescript(await-thenable)',
      'typescript(no-explicit-any)',
      'typescript(no-floating-promises)',
      'typescript(no-misused-promises)',
      'typescript(only-throw-error)',
      'typescript(return-await)',
    ]);
  });

  it('refuses timers that bypass the clock, in whatever way they are set', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'lint-'));
    try {
      const config = join(folder, '.oxlintrc.json');
      await copyFile(repository('.oxlintrc.json'), config);
      const lines = [
        "import { setTimeout as sleep } from 'node:timers/promises';",
        "import { setImmediate as turn } from 'node:timers/promises';",
        "import * as timers from 'node:timers';",
        'export const all = [sleep, turn, timers];',
        'export const timer = setTimeout(() => undefined, 1);',
        'export const interval = setInterval(() => undefined, 1);',
        'export const other = globalThis.setTimeout(() => undefined, 1);',
        'export const signal = AbortSignal.timeout(1);',
      ];
      const lint = async (file: string) => {
        const path = join(folder, 'libs/minibatch/src', file);
        await mkdir(dirname(path), { recursive: true });
        await writeFile(path, lines.join('\n'));
        const result = await run(tool('oxlint'), ['--format=json', `--config=${config}`, path]);
        const report = JSON.parse(result.stdout) as { diagnostics: readonly Finding[] };
        return report.diagnostics
          .map(({ code }) => code)
          .filter((code) => code.includes('no-restricted'))
          .toSorted();
      };
      const refused = [
        'eslint(no-restricted-globals)',
        'eslint(no-restricted-globals)',
        'eslint(no-restricted-imports)',
        'eslint(no-restricted-imports)',
        'eslint(no-restricted-properties)',
        'eslint(no-restricted-properties)',
      ];
      expect(await lint('adapters/some/some.sink.ts')).toEqual(refused);
      expect(await lint('engine/some.ts')).toEqual(refused);
      expect(await lint('common/clock.ts')).toEqual([]);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('looks at every folder that holds code, and at none that breaks them on purpose', async () => {
    const { scripts } = JSON.parse(await readFile(repository('package.json'), 'utf8')) as { scripts: { lint: string } };
    const words = scripts.lint.split(' ').slice(1);
    const result = await run(tool('oxlint'), [...words, '--debug=files']);
    const files = result.stdout.split('\n');
    expect(files).toContain('libs/minibatch/src/errors/minibatch.error.ts');
    expect(files).toContain('test/tooling/lint.spec.ts');
    expect(files).toContain('scripts/test.mjs');
    expect(files.filter((file) => file.startsWith('test/fixtures/lint/'))).toEqual([]);
  });
});
