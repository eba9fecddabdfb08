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

  const whole = (n: number) => ({ pending: [], alone: [], again: [{ from: 0, to: n }], last: false });

  it('probes one message, another one each time, and nothing has changed when it fails', () => {
    const bisection = new Bisection(whole(10));
    const probed = range(0, 10).map((turn) => {
      const part = bisection.probe(turn)!;
      const { from, to } = part;
      expect(part).toEqual({ from, to: from + 1, last: true });
      // Should the process end here, the message is the first to be tried.
      const again = [
        { from: 0, to: from },
        { from: to, to: 10 },
      ].filter((each) => each.to > each.from);
      expect(bisection.state).toEqual({ pending: [{ from, to }], alone: [], again, last: true });
      bisection.probeFailed(part);
      expect(bisection.state).toEqual(whole(10));
      return from;
    });
    expect(probed).toEqual([0, 6, 2, 8, 4, 0, 7, 3, 9, 5]);
  });

  it('probes what is pending and what has failed before in the order of their places', () => {
    const state = { pending: [{ from: 5, to: 7 }], alone: [], again: [{ from: 0, to: 2 }], last: false };
    const bisection = new Bisection(state);
    expect(bisection.probe(1)).toEqual({ from: 5, to: 6, last: true });
    const again = [
      { from: 0, to: 2 },
      { from: 6, to: 7 },
    ];
    expect(bisection.state).toEqual({ pending: [{ from: 5, to: 6 }], alone: [], again, last: true });
  });

  it('knows that something works when a probe gets through', () => {
    const bisection = new Bisection(whole(3));
    expect(bisection.proven).toBe(false);
    expect(bisection.passed(bisection.probe(0)!, [])).toEqual([]);
    expect(bisection.proven).toBe(true);
    expect(bisection.state).toEqual({ pending: [], alone: [], again: [{ from: 1, to: 3 }], last: false });
  });

  it('probes what comes next where only messages are left that the handler has rejected', () => {
    const bisection = Bisection.isolate([3, 5]);
    expect(bisection.proven).toBe(true);
    expect(bisection.probe(7)).toEqual({ from: 3, to: 4, last: true });
    const alone = [
      { from: 3, to: 4 },
      { from: 5, to: 6 },
    ];
    expect(bisection.state).toEqual({ pending: [], alone, again: [], last: false });
  });

  it('begins afresh with all that is left, and forgets how it had failed', () => {
    const state = {
      pending: [{ from: 4, to: 5 }],
      alone: [{ from: 1, to: 2 }],
      again: [{ from: 7, to: 9 }],
      last: true,
    };
    const bisection = new Bisection(state);
    const pending = [...state.pending, ...state.alone, ...state.again];
    for (const proven of [false, true]) {
      bisection.proven = proven;
      const afresh = bisection.afresh();
      expect(afresh.state).toEqual({ pending, alone: [], again: [], last: false });
      expect(afresh.proven).toBe(proven);
    }
  });

  it('is in its last round only while parts of it are pending', () => {
    const last = new Bisection({ ...whole(2), last: true });
    expect(last.state.last).toBe(false);
    expect(last.next()).toBeUndefined();
    last.proven = true;
    expect(last.next()).toEqual({ from: 0, to: 2, last: true });
  });

  it('takes a part of which every message was rejected for no proof, and tries each once more', () => {
    const bisection = Bisection.begin(4);
    for (const rejected of [
      [0, 1],
      [2, 3],
    ]) {
      expect(bisection.passed(bisection.next()!, rejected)).toEqual([]);
      expect(bisection.proven).toBe(false);
    }
    // Even in the last round a message is given up only if it fails alone.
    const last = new Bisection(whole(2));
    last.proven = true;
    expect(last.passed(last.next()!, [1])).toEqual([]);
    expect(last.state).toEqual({ pending: [], alone: [{ from: 1, to: 2 }], again: [], last: false });
    // Nor if it is alone and its last round has not come.
    const first = new Bisection({ pending: [{ from: 0, to: 1 }], alone: [], again: [], last: false });
    expect(first.passed(first.next()!, [0])).toEqual([]);
    expect(first.state).toMatchObject({ alone: [{ from: 0, to: 1 }] });
  });

  it('is done when nothing is left, wherever', () => {
    const some = [{ from: 2, to: 4 }];
    const nothing = { pending: [], alone: [], again: [], last: false };
    expect(new Bisection(nothing).isDone).toBe(true);
    for (const place of ['pending', 'alone', 'again'] as const) {
      const bisection = new Bisection({ ...nothing, [place]: some });
      expect([bisection.isDone, bisection.rest]).toEqual([false, some]);
    }
  });

  it('knows what comes next also without proof', () => {
    const bisection = new Bisection(whole(3));
    expect(bisection.next()).toBeUndefined();
    expect(bisection.tried()).toEqual({ from: 0, to: 3, last: true });
    expect(bisection.next()).toBeUndefined();
    expect(bisection.tried()).toEqual({ from: 0, to: 3, last: true });
  });

  it('skips a part of which nothing is left', () => {
    const bisection = Bisection.begin(4);
    bisection.next();
    bisection.skip();
    expect(bisection.state).toEqual({ pending: [{ from: 2, to: 4 }], alone: [], again: [], last: false });
    expect(bisection.proven).toBe(false);
  });
});
