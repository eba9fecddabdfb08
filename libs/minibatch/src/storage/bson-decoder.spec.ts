import * as BSON from 'bson';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BsonDecoder, MalformedBson } from './bson-decoder.js';

const decoder = new BsonDecoder(BSON);
const encode = (value: unknown) => Buffer.from(BSON.serialize({ value }));
const back = (value: unknown) => decoder.document<{ value: unknown }>(encode(value), 'auto').value;

/** A document of one element with the name `value`. */
function element(type: number, ...content: number[]): Buffer {
  const bytes = Buffer.from([0, 0, 0, 0, type, ...Buffer.from('value\0'), ...content, 0]);
  bytes.writeInt32LE(bytes.length);
  return bytes;
}

describe('BsonDecoder', () => {
  it('agrees with the library on JSON and dates', () => {
    const json = fc.jsonValue({ depthSize: 'medium' }).filter((value) => !/\$ref|\\u0000/.test(JSON.stringify(value)));
    fc.assert(
      fc.property(json, fc.date({ noInvalidDate: true }), (value, date) => {
        const bytes = encode({ value, date });
        expect(decoder.document(bytes, 'auto')).toEqual(BSON.deserialize(bytes));
      }),
    );
  });

  it('makes numbers of what other languages write as int64, where they are exact', () => {
    const written = [1_700_000_000_000n, 2n ** 53n - 1n, 2n ** 53n, -(2n ** 63n)];
    expect(back(written)).toEqual([1_700_000_000_000, 2 ** 53 - 1, 2n ** 53n, -(2n ** 63n)]);
    expect(decoder.document(encode(5n), 'bigint')).toEqual({ value: 5n });
  });

  it('knows the types that are out of use', () => {
    const id = new BSON.ObjectId();
    expect(back(new BSON.BSONSymbol('a'))).toBe('a');
    expect(back(new BSON.Code('f()', { a: 1 }))).toEqual(new BSON.Code('f()', { a: 1 }));
    expect(back(new BSON.Binary(Buffer.from('ab'), 2))).toEqual(new BSON.Binary(Buffer.from('ab'), 2));
    const pointer = element(12, 2, 0, 0, 0, 0x61, 0, ...id.id);
    expect(decoder.document(pointer, 'auto')).toEqual({ value: { $ref: 'a', $id: id } });
    expect(decoder.document(element(6), 'auto')).toEqual({ value: undefined });
  });

  it('keeps a regular expression that JavaScript has not', () => {
    expect(back(new BSON.BSONRegExp('a', 'iu'))).toEqual(/a/i);
    const others = [new BSON.BSONRegExp('(?P<n>x)', 'u'), new BSON.BSONRegExp('a b', 'x')];
    expect(back(others)).toEqual(others);
  });

  it('makes no value that points into the bytes', () => {
    const bytes = encode([Buffer.from('abc'), new BSON.ObjectId(), new BSON.Binary(Buffer.from('abc'), 128)]);
    const value = decoder.document(bytes, 'auto');
    const before = BSON.EJSON.stringify(value);
    bytes.fill(0);
    expect(BSON.EJSON.stringify(value)).toBe(before);
  });

  it('finds names again, also those that are alike', () => {
    const names = ['a', 'b', 'aa', '', '\u00e9', '\u00e8', 'x'.repeat(32), 'x'.repeat(33)];
    const object = Object.fromEntries(names.map((name, n) => [name, n]));
    for (let n = 0; n < 2; n += 1) expect(back(object)).toEqual(object);
  });

  it('refuses damaged bytes, and comes to an end with any', () => {
    const bytes = encode({
      a: [1, 'text', { b: new Date() }],
      c: Buffer.from('xyz'),
      d: /a/i,
      e: 5n,
      f: new BSON.ObjectId(),
    });
    for (let length = 0; length < bytes.length; length += 1) {
      expect(() => decoder.document(bytes.subarray(0, length), 'auto')).toThrow(MalformedBson);
    }
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.nat(255), (at, byte) => {
        const damaged = Buffer.from(bytes);
        damaged[at] = byte;
        try {
          decoder.document(damaged, 'auto');
        } catch (error) {
          expect(error).toBeInstanceOf(MalformedBson);
        }
      }),
    );
    expect(() => decoder.document(element(2, 3, 0, 0, 0, 0xc3, 0x28, 0), 'auto')).toThrow('text is not UTF-8');
    expect(() => decoder.document(element(99), 'auto')).toThrow('no element of type 99');
  });
});
