import { Binary, Decimal128, deserialize, Long, ObjectId, serialize } from 'bson';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AppendError, ErrorCode } from '../errors/minibatch.error.js';
import { toStorable } from './storable.js';

const copy = (data: unknown) => toStorable(data).value;

function errorOf(data: unknown, limit?: number): AppendError {
  try {
    toStorable(data, limit);
  } catch (error) {
    if (error instanceof AppendError) return error;
    throw error;
  }
  throw new Error('it was accepted');
}

class Money {
  static readonly currency = 'EUR';
  #cents = 5;
  constructor(readonly amount: number) {}
  get cents() {
    return this.#cents;
  }
}

describe('toStorable', () => {
  it.each([
    ['null', null],
    ['false', false],
    ['0', 0],
    ['NaN', Number.NaN],
    ['an empty string', ''],
    ['a bigint', 2n ** 63n - 1n],
    ['the smallest bigint', -(2n ** 63n)],
    ['a date', new Date(5)],
    ['a regular expression', /a+/giu],
    ['a buffer', Buffer.from([1, 2])],
    ['an array', [1, [2, { a: 3 }]]],
    ['an object', { a: { b: [null] } }],
    ['hostile keys', { $set: 1, 'a.b': 2, constructor: 3, toString: 4, '': 5 }],
    ['an object without prototype', Object.assign(Object.create(null), { a: 1 })],
  ])('keeps %s', (_, data) => {
    expect(copy(data)).toEqual(data);
  });

  it('is a snapshot: later changes of what was given do not matter', () => {
    const data = { list: [1], when: new Date(1), bytes: Buffer.from([1]) };
    const stored = copy(data) as typeof data;
    data.list.push(2);
    data.when.setTime(2);
    data.bytes[0] = 2;
    expect(stored).toEqual({ list: [1], when: new Date(1), bytes: Buffer.from([1]) });
  });

  it('drops undefined properties and makes null of undefined elements', () => {
    // eslint-disable-next-line no-sparse-arrays
    expect(copy({ a: undefined, list: [undefined, , 1] })).toStrictEqual({ list: [null, null, 1] });
  });

  it('takes the own enumerable properties of class instances', () => {
    expect(copy(new Money(3))).toStrictEqual({ amount: 3 });
  });

  it('takes what toJSON and toBSON say', () => {
    const both = { toJSON: () => 'json', toBSON: () => ({ bson: new Date(1) }) };
    expect(copy({ url: new URL('http://a.b/'), both })).toEqual({ url: 'http://a.b/', both: { bson: new Date(1) } });
    const self = { a: 1, toJSON: () => self };
    expect(errorOf(self).message).toContain('data.toJSON is a function');
  });

  it('keeps BSON values as they are', () => {
    const data = {
      id: new ObjectId(),
      long: Long.fromNumber(5),
      money: Decimal128.fromString('1.5'),
      raw: new Binary(),
    };
    expect(copy(data)).toEqual(data);
  });

  it('turns Uint8Array into Buffer, without what lies beside it in memory', () => {
    const bytes = new Uint8Array([1, 2, 3, 4]).subarray(1, 3);
    expect(copy(bytes)).toEqual(Buffer.from([2, 3]));
  });

  it('keeps __proto__ a key and nobody’s prototype', () => {
    const stored = copy(JSON.parse('{"__proto__":{"admin":true},"a":{"__proto__":5}}')) as Record<string, unknown>;
    expect(Object.keys(stored)).toEqual(['__proto__', 'a']);
    expect(stored['admin']).toBeUndefined();
    expect(Object.getPrototypeOf(stored)).toBe(Object.prototype);
    expect(Object.keys(stored['a'] as object)).toEqual(['__proto__']);
  });

  it('accepts a shared reference that is no cycle', () => {
    const shared = { a: 1 };
    expect(copy({ x: shared, y: [shared, shared] })).toEqual({ x: { a: 1 }, y: [{ a: 1 }, { a: 1 }] });
  });

  const cycle: { a: { back?: unknown } } = { a: {} };
  cycle.a.back = cycle;
  const deep: { a?: unknown } = {};
  for (let level = 0, at = deep; level < 100; level += 1) at = (at.a = {}) as typeof deep;

  it.each([
    ['undefined', undefined, 'data is undefined'],
    ['a function', { a: [0, 0, 0, { f: () => undefined }] }, 'data.a[3].f is a function: store data only'],
    ['a method of a class', { run: Money }, 'data.run is a function'],
    ['a symbol', [Symbol('x')], 'data[0] is a symbol: store a string'],
    ['a cycle', cycle, 'data.a.back is a cycle'],
    ['a cycle through toJSON', { toJSON: () => cycle }, 'is a cycle'],
    ['a large bigint', { 'a b': 2n ** 63n }, 'data["a b"] is a bigint of more than 64 bits'],
    ['an invalid date', { d: new Date(Number.NaN) }, 'data.d is an invalid Date'],
    ['a Map', { m: new Map() }, 'data.m is a Map: use Object.fromEntries(map)'],
    ['a Set', new Set([1]), 'data is a Set: use [...set]'],
    ['an Error', new Error('x'), 'data is an Error: store { name, message }'],
    ['a Promise', Promise.resolve(1), 'data is a Promise: await it first'],
    ['a typed array', new Float64Array(1), 'data is a typed array'],
    ['an ArrayBuffer', new ArrayBuffer(1), 'data is an ArrayBuffer'],
    ['a boxed number', Object(5), 'use the plain value'],
    ['too many levels', deep, 'nested more than 90 levels'],
    ['a key with NUL', { 'a\0b': 1 }, 'has NUL in its key'],
    ['a plain _bsontype', { _bsontype: 'ObjectId', id: 1 }, 'rename `_bsontype`'],
    [
      'a getter that throws',
      {
        get a() {
          throw new Error('no');
        },
      },
      'data.a has a getter that throws',
    ],
    [
      'a toJSON that throws',
      {
        a: {
          toJSON() {
            throw new Error('no');
          },
        },
      },
      'data.a has a toBSON or toJSON that throws',
    ],
    ['a toJSON that says nothing', { toJSON: () => undefined }, 'data is undefined after toJSON'],
  ])('refuses %s', (_, data, message) => {
    const error = errorOf(data);
    expect(error).toMatchObject({ code: ErrorCode.NotStorable, stored: 'no' });
    expect(error.message).toContain(message);
  });

  it('refuses values of another version of bson', () => {
    class ObjectId4 {
      get _bsontype() {
        return 'ObjectId';
      }
    }
    expect(errorOf({ id: new ObjectId4() }).message).toContain('data.id is a BSON ObjectId4 of another version');
  });

  it('ends at the limit, however few objects it began with', () => {
    let bomb: unknown = 'x';
    for (let level = 0; level < 50; level += 1) bomb = [bomb, bomb];
    expect(errorOf(bomb, 10_000)).toMatchObject({ code: ErrorCode.MessageTooLarge, stored: 'no' });
  });

  it('counts bytes as BSON does', () => {
    const data = { a: 1, b: 'ü', c: [1.5, true, null], d: new Date(), e: Buffer.from('x'), f: { g: -1 }, i: 5n };
    expect(toStorable(data).bytes).toBe(serialize(data).byteLength);
  });

  it('makes what BSON can write and read, of any JSON', () => {
    fc.assert(
      fc.property(fc.json(), (json) => {
        const data: unknown = JSON.parse(json);
        let stored: unknown;
        try {
          stored = copy({ data });
        } catch (error) {
          // Keys with NUL and `_bsontype` are refused.
          expect(error).toMatchObject({ code: ErrorCode.NotStorable });
          return;
        }
        expect(deserialize(serialize(stored as object))).toEqual({ data });
      }),
    );
  });
});
