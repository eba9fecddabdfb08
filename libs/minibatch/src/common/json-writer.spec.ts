import { Binary, Decimal128, Double, Int32, Long, ObjectId, UUID } from 'bson';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readJson } from './json-reader.js';
import { bytesOf, withDigits, writeJson } from './json-writer.js';

const bytes = Buffer.from([0, 255, 1]);
const BIG = Long.fromString('9007199254740993');

class Money {
  constructor(readonly cents: bigint) {}
  toJSON(): unknown {
    return { cents: this.cents };
  }
}

class Plain {
  readonly data: unknown;
  constructor(data: unknown) {
    this.data = data;
  }
}

describe('writing JSON', () => {
  it.each([
    [9007199254740993n, '9007199254740993'],
    [-5n, '-5'],
    [{ id: BIG }, '{"id":9007199254740993}'],
    [Long.MAX_UNSIGNED_VALUE, '18446744073709551615'],
    [[Decimal128.fromString('1.10')], '[1.10]'],
    [Decimal128.fromString('1E+6144'), '1.000000000000000000000000000000000E+6144'],
    [[Decimal128.fromString('NaN'), Decimal128.fromString('-Infinity'), NaN], '[null,null,null]'],
    [{ a: new Binary(bytes), b: bytes, c: new Uint8Array(bytes) }, '{"a":"AP8B","b":"AP8B","c":"AP8B"}'],
    [{ at: new Date(0), id: 1n }, '{"at":"1970-01-01T00:00:00.000Z","id":1}'],
    [{ a: undefined, b: 1n, c: [undefined, () => 1, Symbol('s')], d: () => 1 }, '{"b":1,"c":[null,null,null]}'],
    [[new Int32(1), new Double(1.5), 1n], '[1,1.5,1]'],
    [{ m: new Money(2n) }, '{"m":{"cents":2}}'],
    [[new String('x'), new Number(1), new Boolean(false), 1n], '["x",1,false,1]'],
    [{ ['a"\n']: 'b"\u2028', n: 1n }, '{"a\\"\\n":"b\\"\u2028","n":1}'],
    [new Map([[1, 1n]]), '{}'],
    [() => 1, undefined],
    [undefined, undefined],
  ])('%# as digits or base64, otherwise as JSON.stringify does', (value, expected) => {
    expect(writeJson(value)).toBe(expected);
  });

  it('of identifiers as they write themselves', () => {
    const id = new ObjectId();
    const uuid = new UUID();
    expect(writeJson({ id, uuid, big: 1n })).toBe(
      `{"id":"${id.toHexString()}","uuid":"${uuid.toHexString()}","big":1}`,
    );
  });

  it('does not take an object for a BSON type by a key of its own', () => {
    expect(writeJson({ _bsontype: 'Long', high: 1, n: 1n })).toBe('{"_bsontype":"Long","high":1,"n":1}');
  });

  it.each([[{ n: 1n }], [{}]])('refuses a cycle', (start) => {
    const cycle: Record<string, unknown> = { ...start, list: [] };
    (cycle['list'] as unknown[]).push(cycle);
    expect(() => writeJson(cycle)).toThrow(TypeError);
    expect(() => withDigits(cycle)).toThrow(TypeError);
  });

  it('is JSON.stringify for all that JSON has', () => {
    fc.assert(
      fc.property(fc.anything({ withDate: true, withNullPrototype: true, withSparseArray: true }), (value) => {
        expect(writeJson([value, 1n])).toBe(JSON.stringify([value, 1]));
        expect(writeJson(value)).toBe(JSON.stringify(value));
      }),
    );
  });

  it('and reading it again keeps each integer of 64 bits', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 2n ** 53n, max: 2n ** 63n - 1n }), (integer) => {
        const value = { a: [integer, -integer] };
        expect(readJson(writeJson(value) ?? '', 'bigint')).toEqual(value);
      }),
    );
  });
});

describe('what a client that writes JSON itself is given', () => {
  it('has digits as strings, and all else as it was', () => {
    const data = {
      id: BIG,
      n: 5n,
      price: Decimal128.fromString('1.10'),
      raw: bytes,
      at: new Date(0),
      list: [1n, undefined, 'x'],
    };
    expect(withDigits(data)).toEqual({
      id: '9007199254740993',
      n: '5',
      price: '1.10',
      raw: bytes,
      at: new Date(0),
      list: ['1', undefined, 'x'],
    });
  });

  it('is what it was where nothing is to be changed, and of the same class where something is', () => {
    const same = { a: [new Date(0), { b: 'x' }] };
    expect(withDigits(same)).toBe(same);
    const record = new Plain({ a: 1 });
    expect(withDigits(record)).toBe(record);
    const changed = withDigits(new Plain({ a: 1n })) as Plain;
    expect(changed).toBeInstanceOf(Plain);
    expect(changed.data).toEqual({ a: '1' });
  });
});

describe('bytes', () => {
  it('are those of arrays and of Binary, but not of a UUID', () => {
    expect(bytesOf(new Uint8Array(bytes))).toEqual(new Uint8Array(bytes));
    expect(Buffer.from(bytesOf(new Binary(bytes)) ?? [])).toEqual(bytes);
    expect(bytesOf(new UUID())).toBeUndefined();
    expect(bytesOf('x')).toBeUndefined();
    expect(bytesOf({ _bsontype: 'Binary', buffer: bytes, position: 3 })).toBeUndefined();
  });
});
