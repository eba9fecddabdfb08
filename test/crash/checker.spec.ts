import { describe, expect, it } from 'vitest';
import { check, type CrashEntry, type ViolationKind } from './checker.js';

type Step = CrashEntry extends infer E
  ? E extends { readonly pid: number }
    ? Omit<E, 'pid' | 'group'>
    : never
  : never;

const GROUP = 'default';
const BAD = new Set([3]);

/** A log of one process, or of those that the entries name. */
function log(...steps: readonly (Step & { readonly pid?: number; readonly group?: string })[]): CrashEntry[] {
  return steps.map((step) => ({ pid: 1, group: GROUP, ...step }) as CrashEntry);
}

const kinds = (entries: readonly CrashEntry[], groups?: string[]): ViolationKind[] => [
  ...new Set(check(entries, BAD, groups).violations.map(({ kind }) => kind)),
];

const claim = (id: string, ...rows: number[]): Step => ({
  kind: 'claim',
  windows: [{ id, messages: rows.map((row) => [`m${row}`, row] as const) }],
});
const run = (window: string, ...rows: number[]): Step[] => [
  { kind: 'start', window, rows },
  { kind: 'put', window, rows },
];
const commit = (...windows: string[]): Step => ({ kind: 'committed', windows });
const end = (letters: number[] = [], buffered = 0): Step => ({
  kind: 'end',
  buffered,
  open: 0,
  letters: letters.map((row) => [GROUP, row] as const),
});
const recovered = (open: string[], finished: string[] = []): Step => ({ kind: 'recovered', open, finished });
const appended = (...rows: number[]): Step => ({ kind: 'appended', rows });

describe('the checker of the crash suite', () => {
  const sound = [recovered([]), appended(1, 2), claim('w', 1, 2), ...run('w', 1, 2), commit('w')];

  it('finds nothing in a log without mistakes', () => {
    expect(check(log(...sound, end()), BAD)).toEqual({
      appended: 2,
      handled: 2,
      repeated: 0,
      deadLetters: 0,
      lost: 0,
      violations: [],
    });
  });

  it('counts a window that came again as repeated', () => {
    const entries = log(appended(1), claim('w', 1), ...run('w', 1), { pid: 2, ...recovered(['w']) });
    entries.push(...log(...run('w', 1), commit('w'), end()).map((entry) => ({ ...entry, pid: 2 })));
    expect(check(entries, BAD)).toMatchObject({ repeated: 1, lost: 0, violations: [] });
  });

  it('takes a commit point that only the next process saw for a commit', () => {
    const entries = log(appended(1), claim('w', 1), ...run('w', 1), { pid: 2, ...recovered([], ['w']) }, end());
    expect(kinds(entries)).toEqual([]);
    const again = log({ pid: 2, kind: 'start', window: 'w', rows: [1] });
    expect(kinds([...entries, ...again])).toEqual(['handled after its commit']);
  });

  it('does not blame a process that has been replaced for a handler that it had begun', () => {
    const entries = log(
      ...sound,
      { pid: 2, ...recovered([], ['w']) },
      { kind: 'start', window: 'w', rows: [1] },
      end(),
    );
    expect(kinds(entries)).toEqual([]);
  });

  it('takes a commit that a stopped process wrote down late for the one that the next process found', () => {
    const found = log(appended(1), claim('w', 1), ...run('w', 1), { pid: 2, ...recovered([], ['w']) });
    const late = log(commit('w'));
    expect(kinds([...found, ...late, ...log(end())])).toEqual([]);
    expect(kinds([...found, ...late, ...late, ...log(end())])).toEqual(['committed twice']);
    expect(kinds([...found, ...log({ pid: 2, ...commit('w') }, end())])).toEqual(['committed twice']);
  });

  it.each<[string, Step[], ViolationKind[]]>([
    ['never committed', [appended(1, 2), claim('w', 1), ...run('w', 1), commit('w'), end()], ['lost']],
    ['in no sink', [appended(1), claim('w', 1), commit('w'), end()], ['committed before its sink', 'lost']],
    [
      'in the sink too late',
      [appended(1), claim('w', 1), commit('w'), ...run('w'), end()],
      ['committed before its sink', 'lost'],
    ],
    [
      'handled after its commit',
      [...sound, { kind: 'start', window: 'w', rows: [1] }, end()],
      ['handled after its commit'],
    ],
    ['in two windows', [...sound, claim('v', 1), commit('v'), end()], ['committed in two windows']],
    ['committed twice', [...sound, commit('w'), end()], ['committed twice']],
    [
      'a bad row without a letter',
      [appended(3), claim('w', 3), ...run('w', 3), commit('w'), end()],
      ['bad row not given up'],
    ],
    ['a bad row with two letters', [appended(3), claim('w', 3), commit('w'), end([3, 3])], ['bad row not given up']],
    ['a good row with a letter', [...sound, end([2])], ['good row given up']],
    ['messages left over', [...sound, end([], 1)], ['not drained']],
    ['a process that got stuck', [...sound, { kind: 'stuck', buffered: 1 }, end()], ['not drained']],
    ['no end', sound, ['not drained']],
  ])('reports: %s', (_what, steps, expected) => {
    expect(kinds(log(...steps)).toSorted()).toEqual(expected.toSorted());
  });

  it('reports a row that was appended twice', () => {
    const twin: Step = { kind: 'claim', windows: [{ id: 'v', messages: [['other', 1]] }] };
    expect(kinds(log(...sound, twin, ...run('v', 1), end()))).toContain('appended twice');
  });

  it('accepts a good row that was given up after three processes died with it', () => {
    const entries = log(
      appended(1),
      claim('w', 1),
      { pid: 2, ...recovered(['w']) },
      { pid: 3, ...recovered(['w']) },
      { pid: 4, ...recovered(['w']) },
      commit('w'),
      end([1]),
    );
    expect(kinds(entries)).toEqual([]);
  });

  it('holds each group to it', () => {
    expect(kinds(log(...sound, end()), [GROUP, 'other'])).toEqual(['lost']);
  });
});
