import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { IndexRanges } from './index-ranges.js';

const MOST = 24;
const index = fc.nat(MOST - 1);
const step = fc.oneof(
  fc.record({ kind: fc.constant('add' as const), n: index }),
  fc.record({ kind: fc.constant('take' as const), n: index }),
  fc.constant({ kind: 'shift' as const, n: 0 }),
  fc.constant({ kind: 'shiftIndex' as const, n: 0 }),
);

/** The ranges of a list of indices in ascending order. */
function rangesOf(indices: readonly number[]) {
  const ranges: { from: number; to: number }[] = [];
  for (const each of indices) {
    const last = ranges.at(-1);
    if (last?.to === each) last.to += 1;
    else ranges.push({ from: each, to: each + 1 });
  }
  return ranges;
}

describe('index ranges', () => {
  it('hold the same as a sorted list of indices', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const ranges = new IndexRanges();
        let list: readonly number[] = [];
        for (const { kind, n } of steps) {
          if (kind === 'add') {
            // What is there already is never added again.
            if (list.includes(n)) continue;
            ranges.add(n);
            list = [...list, n].toSorted((a, b) => a - b);
          } else if (kind === 'take') {
            expect(ranges.take(n)).toBe(list[n]);
            list = list.filter((_, at) => at !== n);
          } else if (kind === 'shift') {
            const [first] = rangesOf(list);
            expect(ranges.shift()).toEqual(first);
            list = list.filter((each) => !first || each >= first.to);
          } else {
            ranges.shiftIndex();
            list = list.slice(1);
          }
          expect(ranges.toArray()).toEqual(rangesOf(list));
          expect([ranges.size, ranges.isEmpty, ranges.first]).toEqual([
            list.length,
            list.length === 0,
            rangesOf(list)[0],
          ]);
        }
      }),
    );
  });

  it('give each index out once, whichever is taken', () => {
    const whole = () =>
      new IndexRanges([
        { from: 2, to: 4 },
        { from: 7, to: 8 },
        { from: 10, to: 13 },
      ]);
    expect([0, 1, 2, 3, 4, 5, 6].map((n) => whole().take(n))).toEqual([2, 3, 7, 10, 11, 12, undefined]);
  });
});
