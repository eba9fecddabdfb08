import * as BSON from 'bson';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BsonDecoder } from '../storage/bson-decoder.js';
import {
  avg,
  changed,
  collect,
  combined,
  count,
  distinct,
  first,
  last,
  max,
  min,
  reduce,
  sum,
  topK,
  type Untyped,
} from './aggregates.js';

const decoder = new BsonDecoder(BSON);
/** As a row keeps it. */
const stored = (acc: unknown): unknown =>
  decoder.document<{ acc: unknown }>(Buffer.from(BSON.serialize({ acc }, { ignoreUndefined: true })), 'bigint').acc;

interface Placed {
  readonly time: number;
  readonly id: string;
  readonly data: unknown;
}

const placed = (data: readonly unknown[]): readonly Placed[] =>
  data.map((each, n) => ({ time: n, id: `m${String(n).padStart(4, '0')}`, data: each }));

function add(aggregate: unknown, acc: unknown, { data, time, id }: Placed): unknown {
  const message = { id, data, created: new Date(time) };
  return changed(acc, (aggregate as Untyped).add(acc, data, message, { time, id }));
}

/** Each part by itself, all of them merged, and stored between any two steps. */
function inParts(aggregate: unknown, items: readonly Placed[], sizes: readonly number[]): unknown {
  const typed = aggregate as Untyped;
  const rest = [...items];
  const parts: unknown[] = [];
  for (let n = 0; rest.length > 0; n += 1) {
    let acc = stored(typed.init());
    for (const item of rest.splice(0, sizes[n % sizes.length] ?? 1)) acc = stored(add(aggregate, acc, item));
    parts.push(acc);
  }
  let merged: unknown = stored(typed.init());
  for (const part of parts) merged = stored(changed(merged, typed.merge?.(merged, part)));
  return typed.result(merged);
}

/** All in one go. */
function inOne(aggregate: unknown, items: readonly Placed[]): unknown {
  const typed = aggregate as Untyped;
  return typed.result(items.reduce((acc, item) => add(aggregate, acc, item), typed.init()));
}

const self = (data: unknown) => data as never;
const of = (aggregate: unknown, ...data: readonly unknown[]) => inOne(aggregate, placed(data));

describe('aggregates', () => {
  it('have a result of no messages', () => {
    const all = {
      count: count(),
      sum: sum(self),
      avg: avg(self),
      min: min(self),
      max: max(self),
      first: first(),
      last: last(),
    };
    const more = { ...all, collect: collect(3), distinct: distinct(self), topK: topK(2, self), reduce: reduce(self) };
    expect(of(combined(more as unknown as Record<string, Untyped>))).toEqual({
      count: 0,
      sum: 0,
      avg: undefined,
      min: undefined,
      max: undefined,
      first: undefined,
      last: undefined,
      collect: [],
      distinct: 0,
      topK: [],
      reduce: undefined,
    });
  });

  it('count, add up and compare', () => {
    expect(of(count(), 'a', 'b', null)).toBe(3);
    expect(of(sum('n'), { n: 1 }, { n: 2.5 })).toBe(3.5);
    expect(of(avg('n'), { n: 1 }, { n: 2 })).toBe(1.5);
    expect(of(min(self), 3, -0, 0)).toBe(-0);
    expect(of(max(self), -3, Number.NEGATIVE_INFINITY)).toBe(-3);
    expect(of(max(self), 3, Number.NaN, 5)).toBe(Number.NaN);
  });

  it('know the first and the last by time, then id, in whatever order they come', () => {
    const items = [
      { time: 5, id: 'b', data: '5b' },
      { time: 9, id: 'c', data: '9c' },
      { time: 5, id: 'a', data: '5a' },
      { time: 9, id: 'd', data: '9d' },
      { time: 7, id: 'e', data: '7e' },
    ];
    expect(inOne(first(), items)).toBe('5a');
    expect(inOne(last(), items)).toBe('9d');
    expect(inOne(collect(3), items)).toEqual(['5a', '5b', '7e']);
    expect(inOne(collect(100), items)).toEqual(['5a', '5b', '7e', '9c', '9d']);
  });

  it('tell numbers from texts', () => {
    expect(of(distinct(self), 1, '1', 0, -0, 'a', 'a')).toBe(4);
    expect(of(distinct(self, 3), 1, 2, 3, 4, 5)).toBe(3);
    expect(of(topK(3, self), 'b', 1, '1', 'a', 'b', 1, '__proto__')).toEqual([
      { item: 1, n: 2 },
      { item: 'b', n: 2 },
      { item: '1', n: 1 },
    ]);
  });

  it('reduce without changing the messages', () => {
    const data = [{ n: 1 }, { n: 2 }, { n: 3 }];
    const adding = reduce<{ n: number }>((a, b) => {
      a.n += b.n;
      return a;
    });
    expect(of(adding, ...data)).toEqual({ n: 6 });
    expect(data).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }]);
  });

  it.each([
    ['sum', sum('n'), { n: '5' }, "sum('n') got a value of type string where it needs a number"],
    ['sum', sum('n'), {}, "sum('n') got a value of type undefined where it needs a number"],
    ['avg', avg('n'), { n: 5n }, "avg('n') got a value of type bigint where it needs a number"],
    ['max', max('n'), null, "max('n') got a value of type undefined where it needs a number"],
    ['min', min(self), null, 'min() got null where it needs a number'],
    ['distinct', distinct('n'), { n: Number.NaN }, "distinct('n') got NaN where it needs a text or a number"],
    ['topK', topK(1, 'n'), { n: '\ud800' }, "topK('n') got a value of type string where it needs a text or a number"],
    ['topK', topK(1, 'n'), { n: {} }, "topK('n') got an object where it needs a text or a number"],
  ])('%s says what it can not take', (_name, aggregate, data, message) => {
    const acc = (aggregate as unknown as Untyped).init();
    const before = structuredClone(acc);
    expect(() => add(aggregate, acc, { time: 0, id: 'm', data })).toThrow(message);
    expect(acc).toEqual(before);
  });
});

describe('sums', () => {
  it.each([
    [[0.1, 0.2, 0.3], 0.6],
    [Array.from({ length: 10 }, () => 0.1), 1],
    [[1e16, 1, -1e16], 1],
    [[1e100, 1, -1e100], 1],
    [[1, 1e-16, 1e-16], 1.0000000000000002],
    [[2 ** 53, -0.5, -(2 ** -54)], 2 ** 53 - 1],
    [[Number.POSITIVE_INFINITY, 1], Number.POSITIVE_INFINITY],
    [[Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY], Number.NaN],
    [[1, Number.NaN], Number.NaN],
    [[Number.MAX_VALUE, Number.MAX_VALUE], Number.POSITIVE_INFINITY],
    [[], 0],
    [[-0], 0],
  ])('of %j is %d', (numbers, expected) => {
    expect(of(sum(self), ...numbers)).toBe(expected);
  });

  it('are the exact sum, rounded once', () => {
    // All of these are whole multiples of 2^-60, which BigInt adds up exactly.
    const SCALE = 2 ** 60;
    const number = fc.tuple(fc.maxSafeInteger(), fc.integer({ min: -60, max: 60 })).map(([n, power]) => n * 2 ** power);
    fc.assert(
      fc.property(fc.array(number, { maxLength: 30 }), (numbers) => {
        // Rounded once, and the division by a power of two is exact.
        const exact = numbers.reduce((total, each) => total + BigInt(each * SCALE), 0n);
        expect(of(sum(self), ...numbers)).toBe(Number(exact) / SCALE);
      }),
    );
  });
});

describe('panes', () => {
  const text = fc.string({ unit: 'grapheme', maxLength: 3 }).filter((each) => each.isWellFormed());
  const key = fc.oneof(fc.integer({ min: -3, max: 3 }), text);
  const data = fc.record({ n: fc.double(), whole: fc.integer(), key });
  const sizes = fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1 });
  const all = {
    count: count(),
    sum: sum('n'),
    avg: avg('whole'),
    min: min('n'),
    max: max('n'),
    first: first(),
    last: last(),
    collect: collect(5),
    distinct: distinct('key', 4),
    topK: topK(3, 'key'),
    reduced: reduce<{ whole: number }>((a, b) => (a.whole > b.whole ? a : b)),
  };

  it('come to the same as all messages in one go, to the last digit, stored in between', () => {
    fc.assert(
      fc.property(fc.array(data, { maxLength: 30 }), sizes, (items, parts) => {
        const aggregate = combined(all as unknown as Record<string, Untyped>);
        const { avg: _mean, sum: _sum, ...found } = inParts(aggregate, placed(items), parts) as Record<string, unknown>;
        const { avg: _other, sum: _total, ...expected } = inOne(aggregate, placed(items)) as Record<string, unknown>;
        expect(found).toEqual(expected);
      }),
    );
  });

  it('have the same sums, too, if they are numbers at all', () => {
    const numbers = fc.array(fc.double({ min: -1e300, max: 1e300, noNaN: true }), { maxLength: 30 });
    fc.assert(
      fc.property(numbers, sizes, (items, parts) => {
        for (const aggregate of [sum(self), avg(self)]) {
          expect(inParts(aggregate, placed(items), parts)).toBe(inOne(aggregate, placed(items)));
        }
      }),
    );
  });
});
