import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { repository, succeed } from '../support/workspace.js';
import { LIMITS, tooLong } from './sizes.js';

const SOURCES = 'libs/minibatch/src/';
/** The published contract of stores: each file is one list of promises, and is read as one. */
const CONTRACT = `${SOURCES}testing/store-contract/`;

async function foundInSources(): Promise<ReadonlyMap<string, number>> {
  const listed = await succeed('git', ['ls-files', `${SOURCES}*.ts`]);
  const found = new Map<string, number>();
  for (const path of listed.trim().split('\n')) {
    if (path.startsWith(CONTRACT)) continue;
    const text = await readFile(repository(path), 'utf8');
    // A spec nests all its cases in one function.
    for (const { what, lines } of tooLong(text, path.includes('.spec.') ? ['file'] : undefined)) {
      found.set(`${path.slice(SOURCES.length)} ${what}`, lines);
    }
  }
  return found;
}

const lines = (count: number) => Array.from({ length: count }, (_, index) => `  value${index} = ${index};`).join('\n');

describe('the sizes of sources', () => {
  it('stay within the limits', async () => {
    expect([...(await foundInSources())]).toEqual([]);
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
