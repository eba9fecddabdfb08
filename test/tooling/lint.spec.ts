import { readFile } from 'node:fs/promises';
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
