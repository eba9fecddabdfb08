import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { batchesOf, batchLength, type BatchLimits } from './batches.js';

const cut = (sizes: readonly number[], limits: BatchLimits) => batchesOf(sizes, limits, (size) => size);

describe('batchesOf', () => {
  it.each<[string, number[], BatchLimits, number[][]]>([
    ['nothing', [], { items: 3, bytes: 10 }, []],
    ['what fits exactly', [4, 6], { items: 2, bytes: 10 }, [[4, 6]]],
    ['more items than fit', [1, 1, 1], { items: 2, bytes: 10 }, [[1, 1], [1]]],
    ['more bytes than fit', [6, 5, 5], { items: 9, bytes: 10 }, [[6], [5, 5]]],
    ['items that are too large alone', [11, 1, 12], { items: 9, bytes: 10 }, [[11], [1], [12]]],
    ['items of no size', [0, 0, 0], { items: 2, bytes: 0 }, [[0, 0], [0]]],
    ['an item of unknown size', [1, Infinity, 1], { items: 9, bytes: 10 }, [[1], [Infinity], [1]]],
  ])('splits %s', (_, sizes, limits, expected) => {
    expect(cut(sizes, limits).map(({ items }) => items)).toEqual(expected);
  });

  it('keeps the order, the limits and the sums, and never starts a batch too early', () => {
    const input = fc.record({
      sizes: fc.array(fc.nat(20)),
      limits: fc.record({ items: fc.integer({ min: 1, max: 5 }), bytes: fc.integer({ min: 1, max: 30 }) }),
    });
    fc.assert(
      fc.property(input, ({ sizes, limits }) => {
        const batches = cut(sizes, limits);
        expect(batches.flatMap(({ items }) => items)).toEqual(sizes);
        for (const [index, { items, bytes }] of batches.entries()) {
          expect(bytes).toBe(items.reduce((sum, size) => sum + size, 0));
          expect(items.length).toBeGreaterThan(0);
          expect(items.length).toBeLessThanOrEqual(limits.items);
          if (items.length > 1) expect(bytes).toBeLessThanOrEqual(limits.bytes);
          const next = batches[index + 1]?.items[0];
          if (next !== undefined) {
            expect(items.length === limits.items || bytes + next > limits.bytes).toBe(true);
          }
        }
      }),
    );
  });

  it('does not copy what fits into one batch', () => {
    const items = [1, 2];
    expect(cut(items, { items: 2, bytes: 10 })[0]?.items).toBe(items);
  });
});

describe('batchLength', () => {
  const limits = { items: 5, bytes: 10 };

  it.each<[string, { items: number; bytes: number }[], number]>([
    ['none', [], 0],
    [
      'those that fit exactly',
      [
        { items: 2, bytes: 4 },
        { items: 3, bytes: 6 },
        { items: 1, bytes: 1 },
      ],
      2,
    ],
    [
      'those before too many items',
      [
        { items: 4, bytes: 1 },
        { items: 2, bytes: 1 },
      ],
      1,
    ],
    [
      'those before too many bytes',
      [
        { items: 1, bytes: 9 },
        { items: 1, bytes: 2 },
      ],
      1,
    ],
    [
      'one that is too large alone',
      [
        { items: 9, bytes: 99 },
        { items: 1, bytes: 1 },
      ],
      1,
    ],
  ])('counts %s', (_, units, expected) => {
    const length = batchLength(
      units,
      limits,
      ({ items }) => items,
      ({ bytes }) => bytes,
    );
    expect(length).toBe(expected);
  });
});
