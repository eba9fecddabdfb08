import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { SplitState } from '../storage/stream-store.interface.js';
import { begin, failed, isolate, passed, passedBut } from './bisection.js';

/** Runs a bisection to its end; the handler fails for any part that has one of the bad messages. */
function run(state: SplitState, bad: ReadonlySet<number>) {
  const done: number[] = [];
  let runs = 0;
  for (let part = state.pending[0]; part; part = state.pending[0]) {
    runs += 1;
    const { from, to } = part;
    const indices = Array.from({ length: to - from }, (_, i) => from + i);
    if (indices.some((index) => bad.has(index))) state = failed(state, 'bad', undefined);
    else {
      done.push(...indices);
      state = passed(state);
    }
  }
  return { done, failed: state.failed.map(({ index }) => index), runs };
}

describe('bisection', () => {
  it('finds one bad message of 100 in about 2 · log2(n) runs', () => {
    const result = run(begin(100), new Set([37]));
    expect(result.failed).toEqual([37]);
    expect(result.done.length).toBe(99);
    expect(result.runs).toBeLessThanOrEqual(16);
  });

  it('tries a single message twice', () => {
    expect(run(begin(1), new Set([0]))).toEqual({ done: [], failed: [0], runs: 2 });
  });

  it('tries rejected messages alone', () => {
    const state = passedBut(begin(4), [1]);
    expect(state.pending).toEqual([
      { from: 1, to: 2, failures: 1 },
      { from: 2, to: 4, failures: 0 },
    ]);
    expect(run(isolate([3, 5], 0), new Set([5]))).toEqual({ done: [3], failed: [5], runs: 3 });
  });

  it('puts every message in exactly one place, in order, and only bad ones among the failed', () => {
    const input = fc
      .integer({ min: 1, max: 300 })
      .chain((n) => fc.record({ n: fc.constant(n), bad: fc.uniqueArray(fc.integer({ min: 0, max: n - 1 })) }));
    fc.assert(
      fc.property(input, ({ n, bad }) => {
        const result = run(begin(n), new Set(bad));
        expect(result.failed).toEqual(bad.toSorted((a, b) => a - b));
        expect(result.done).toEqual(Array.from({ length: n }, (_, i) => i).filter((i) => !bad.includes(i)));
      }),
    );
  });
});
