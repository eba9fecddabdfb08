import { mongo } from 'mongoose';
import { describe, expect, it } from 'vitest';
import { isRow, toColumn, toPython } from './python-values.js';

const { Double, Long, ObjectId } = mongo.BSON;

describe('values for Python', () => {
  it.each([
    [0, 0],
    [-0, -0],
    [2 ** 31 - 1, 2 ** 31 - 1],
    [-(2 ** 31), -(2 ** 31)],
    [2 ** 31, Long.fromNumber(2 ** 31)],
    [-(2 ** 31) - 1, Long.fromNumber(-(2 ** 31) - 1)],
    [Number.MAX_SAFE_INTEGER, Long.fromNumber(Number.MAX_SAFE_INTEGER)],
    // It has lost its last digits already: a float says so.
    [2 ** 53, 2 ** 53],
    [0.5, 0.5],
    [NaN, NaN],
    [undefined, null],
    [null, null],
    ['text', 'text'],
    [5n, 5n],
  ])('%s', (given, wanted) => {
    expect(toPython(given)).toEqual(wanted);
  });

  it('at any depth, in a copy', () => {
    const given = { a: [{ b: 2 ** 40 }, undefined], c: new Map([['d', 2 ** 41]]), e: undefined };
    expect(toPython(given)).toEqual({
      a: [{ b: Long.fromNumber(2 ** 40) }, null],
      c: { d: Long.fromNumber(2 ** 41) },
      e: null,
    });
    expect(given.a[0]).toEqual({ b: 2 ** 40 });
  });

  it('leaves what BSON has a type for', () => {
    for (const value of [new Date(0), /a/, Buffer.from('a'), new ObjectId(), new Double(1)]) {
      expect(toPython(value)).toBe(value);
    }
  });

  it('takes what an object says it is to be stored as', () => {
    expect(toPython({ toBSON: () => ({ n: 2 ** 40 }) })).toEqual({ n: Long.fromNumber(2 ** 40) });
  });

  it('keeps a hostile key a key', () => {
    const copy = toPython(JSON.parse('{"__proto__": {"polluted": true}}'));
    expect(Object.keys(copy as object)).toEqual(['__proto__']);
    expect(Reflect.get({}, 'polluted')).toBeUndefined();
  });

  it('are floats in a column of floats', () => {
    expect(toColumn(1, 'float64')).toEqual(new Double(1));
    expect(toColumn(null, 'float64')).toBe(null);
    expect(toColumn(1, 'int64')).toBe(1);
    expect(toColumn(1, undefined)).toBe(1);
  });

  it('tells a row from a value', () => {
    expect([{}, Object.create(null)].map(isRow)).toEqual([true, true]);
    for (const value of [null, 5, 'a', [], new Date(), /a/, Buffer.alloc(1), new ObjectId()]) {
      expect(isRow(value)).toBe(false);
    }
  });
});
