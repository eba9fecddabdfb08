import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { repository, succeed } from '../support/workspace.js';
import { LIMITS, tooLong } from './sizes.js';

/** The published contract of stores: each file is one list of promises, and is read as one. */
const CONTRACT = 'libs/minibatch/src/testing/store-contract/';
const TYPESCRIPT_AND_MODULES = ['*.ts', '*.tsx', '*.mts', '*.cts', '*.mjs', '*.js', '*.cjs'];

/** What is too long in a file of the repository, as `path what`. */
function problemsIn(path: string, text: string): [what: string, lines: number][] {
  if (path.startsWith(CONTRACT)) return [];
  // A spec nests all its cases in one callback.
  const nests = /\.spec\.\w+$/.test(path);
  const limits = nests ? (['file', 'class', 'function'] as const) : undefined;
  return tooLong(text, limits).map(({ what, lines: count }) => [`${path} ${what}`, count]);
}

async function problemsInRepository(): Promise<readonly [what: string, lines: number][]> {
  const listed = await succeed('git', ['ls-files', ...TYPESCRIPT_AND_MODULES]);
  const texts = listed
    .trim()
    .split('\n')
    .map(async (path) => problemsIn(path, await readFile(repository(path), 'utf8')));
  return (await Promise.all(texts)).flat();
}

const lines = (count: number) => Array.from({ length: count }, (_, index) => `  value${index} = ${index};`).join('\n');

describe('the sizes of files', () => {
  // A thousand files are parsed.
  it('stay within the limits: sources, tests, scripts, benchmarks and examples', { timeout: 300_000 }, async () => {
    expect(await problemsInRepository()).toEqual([]);
  });

  it.each([
    'libs/minibatch/src/engine/lease-keeper.ts',
    'libs/minibatch/src/engine/lease-keeper.spec.ts',
    'test/adapters/celery-redis.spec.ts',
    'test/adapters/support/celery.ts',
    'scripts/soak.mjs',
    'bench/run.mjs',
    'apps/example/src/main.ts',
    'examples/store/file-store.ts',
  ])('are checked in %s', (path) => {
    const { file } = LIMITS;
    expect(problemsIn(path, `${'\n'.repeat(file)}// end\n`)).toEqual([[`${path} file`, file + 1]]);
  });

  it('are those of functions, too, but for the cases of specs and the contract of stores', () => {
    const long = `function f() {\n${lines(LIMITS.function)}\n}\n`;
    const sources = ['scripts/soak.mjs', 'bench/run.mjs', 'examples/store/state.ts', 'test/crash/soak.ts'];
    for (const path of [...sources, 'libs/minibatch/src/x.spec.support.ts', 'test/e2e/drain.spec.ts']) {
      expect(problemsIn(path, long)).toEqual([[`${path} function f`, LIMITS.function + 2]]);
    }
    const cases = `describe('f', () => {\n${lines(LIMITS.function)}\n});\n`;
    for (const path of ['test/e2e/drain.spec.ts', 'libs/minibatch/src/x.spec.ts']) {
      expect(problemsIn(path, cases)).toEqual([]);
    }
    expect(problemsIn('libs/minibatch/src/x.spec.support.ts', cases)).toHaveLength(1);
    expect(problemsIn(`${CONTRACT}settle.ts`, long)).toEqual([]);
  });
});

describe('tooLong', () => {
  const { file, class: ofClass, function: ofFunction } = LIMITS;

  it.each<[string, string, { what: string; lines: number }[]]>([
    ['a file', `${'\n'.repeat(file)}// end\n`, [{ what: 'file', lines: file + 1 }]],
    ['a class', `class A {\n${lines(ofClass - 1)}\n}`, [{ what: 'class A', lines: ofClass + 1 }]],
    [
      'a class that is assigned',
      `const B = class {\n${lines(ofClass - 1)}\n};`,
      [{ what: 'class B', lines: ofClass + 1 }],
    ],
    ['a function', `function f() {\n${lines(ofFunction - 1)}\n}`, [{ what: 'function f', lines: ofFunction + 1 }]],
    [
      'a method',
      `class A {\n  m() {\n${lines(ofFunction - 1)}\n  }\n}`,
      [{ what: 'function m', lines: ofFunction + 1 }],
    ],
    [
      'a constructor',
      `class A {\n  constructor() {\n${lines(ofFunction - 1)}\n  }\n}`,
      [{ what: 'constructor', lines: ofFunction + 1 }],
    ],
    [
      'an arrow function',
      `const g = () => {\n${lines(ofFunction - 1)}\n};`,
      [{ what: 'function g', lines: ofFunction + 1 }],
    ],
  ])('finds %s', (_, text, expected) => {
    expect(tooLong(text)).toEqual(expected);
  });

  it('lets through what is as long as it may be, and does not count doc comments', () => {
    const doc = `/**\n${' * more\n'.repeat(20)} */\n`;
    expect(tooLong(`${'\n'.repeat(file - 1)}// end\n`)).toEqual([]);
    expect(tooLong(`${doc}class A {\n${lines(ofClass - 2)}\n}`)).toEqual([]);
    expect(tooLong(`${doc}function f() {\n${lines(ofFunction - 2)}\n}`)).toEqual([]);
    expect(tooLong(`function f() {\n${lines(ofFunction)}\n}`, ['file'])).toEqual([]);
  });
});
