import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeSplit, encodeSplit } from '../storage/split-codec.js';
import type { SplitState } from '../storage/stream-store.interface.js';
import { Bisection } from './bisection.js';

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

/** Runs a bisection as far as it goes; a part fails if it holds one of the bad messages, or while the service is away. */
function run(bisection: Bisection, bad: ReadonlySet<number>, away: (run: number) => boolean = () => false) {
  const done: number[] = [];
  const failed: number[] = [];
  let most = 0;
  let runs = 0;
  for (let part = bisection.next(); part; part = bisection.next()) {
    runs += 1;
    const indices = range(part.from, part.to);
    if (away(runs) || indices.some((index) => bad.has(index))) {
      if (bisection.failed(part)) failed.push(part.from);
    } else {
      bisection.passed(part, []);
      done.push(...indices);
    }
    most = Math.max(most, bisection.state.pending.length);
    bisection = restored(bisection);
  }
  return { done: done.toSorted((a, b) => a - b), failed: failed.toSorted((a, b) => a - b), runs, most, bisection };
}

/** As a restart finds it, but for what is proven. */
function restored(bisection: Bisection): Bisection {
  const after = new Bisection(decodeSplit(encodeSplit(bisection.state)) as SplitState);
  expect(after.state).toEqual(bisection.state);
  after.proven = bisection.proven;
  return after;
}

const windows = fc
  .integer({ min: 1, max: 300 })
  .chain((n) => fc.record({ n: fc.constant(n), bad: fc.uniqueArray(fc.integer({ min: 0, max: n - 1 })) }));

describe('bisection', () => {
  it('finds one bad message of 100 in about 2 · log2(n) runs', () => {
    const result = run(Bisection.begin(100), new Set([37]));
    expect(result).toMatchObject({ failed: [37], done: range(0, 100).filter((i) => i !== 37) });
    expect(result.runs).toBeLessThanOrEqual(16);
  });

  it('puts every message in one place, and only bad ones among those given up', () => {
    fc.assert(
      fc.property(windows, ({ n, bad }) => {
        const { done, failed, bisection, most } = run(Bisection.begin(n), new Set(bad));
        expect(most).toBeLessThanOrEqual(Math.ceil(Math.log2(n)) + 2);
        expect(done).toEqual(range(0, n).filter((i) => !bad.includes(i)));
        if (bad.length === n) {
          // Nothing got through: nothing can be said.
          expect(failed).toEqual([]);
          expect(bisection.state).toEqual({ pending: [], alone: [], again: [{ from: 0, to: n }], last: false });
          bisection.proven = true;
        }
        const { failed: later } = run(bisection, new Set(bad));
        expect([...failed, ...later]).toEqual(bad.toSorted((a, b) => a - b));
      }),
    );
  });

  it('gives up nothing that failed before the service came back', () => {
    fc.assert(
      fc.property(windows, fc.nat(700), ({ n, bad }, back) => {
        const { failed, bisection, done } = run(Bisection.begin(n), new Set(bad), (each) => each <= back);
        expect(failed.every((index) => bad.includes(index))).toBe(true);
        if (done.length > 0) expect(bisection.isDone).toBe(true);
      }),
    );
  });

  it('tries what the handler rejected once more, alone', () => {
    const bisection = Bisection.begin(4);
    const half = bisection.next()!;
    expect(bisection.passed(half, [1])).toEqual([]);
    expect(bisection.state).toMatchObject({ pending: [{ from: 2, to: 4 }], alone: [{ from: 1, to: 2 }] });
    bisection.passed(bisection.next()!, []);
    const alone = bisection.next()!;
    expect(alone).toEqual({ from: 1, to: 2, last: true });
    expect(bisection.passed(alone, [1])).toEqual([1]);
    expect(bisection.isDone).toBe(true);
    expect(run(Bisection.isolate([3, 5, 6]), new Set([5]))).toMatchObject({ done: [3, 6], failed: [5], runs: 3 });
  });

  it('packs ten thousand messages of which every second one failed into ten thousand bytes', () => {
    const { bisection } = run(Bisection.begin(10_000), new Set(range(0, 10_000)));
    expect(encodeSplit(bisection.state).length).toBeLessThan(20);
    const again = range(0, 5_000).map((i) => ({ from: 2 * i, to: 2 * i + 1 }));
    const state = { pending: [], alone: [], again, last: false };
    expect(encodeSplit(state).length).toBeLessThan(10_100);
    expect(decodeSplit(encodeSplit(state))).toEqual(state);
  });

  it('does not know what other versions have packed', () => {
    expect(decodeSplit(undefined)).toBeUndefined();
    expect(decodeSplit(Buffer.from([9, 1, 2]))).toBeUndefined();
  });
});
