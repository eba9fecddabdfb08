import * as BSON from 'bson';
import { describe, expect, it } from 'vitest';
import { RawValue } from '../../storage/mongoose/raw-value.js';
import { decodeFound, withRegExps } from './found-document.js';

const found = (document: BSON.Document) => decodeFound(BSON, BSON.serialize(document), {});
/** An element of type 2, with a byte that begins no character. */
const NOT_UTF8 = new RawValue(2, Buffer.from([3, 0, 0, 0, 0x61, 0xff, 0]));
const regExp = (source: string, flags: string) => new RawValue(11, Buffer.from(`${source}\0${flags}\0`));

describe('a document as the server sent it', () => {
  it('has the values that the driver makes', () => {
    const document = {
      _id: new BSON.ObjectId(),
      n: 1,
      long: BSON.Long.fromString('9007199254740993'),
      bytes: new BSON.Binary(Buffer.from('a')),
      at: new Date(0),
      list: [{ a: null }, [1.5]],
      code: new BSON.Code('f()'),
    };
    expect(found(document)).toEqual({ document: BSON.deserialize(BSON.serialize(document)) });
    expect(decodeFound(BSON, BSON.serialize({ n: 5n }), { useBigInt64: true })).toEqual({ document: { n: 5n } });
  });

  it("keeps regular expressions that JavaScript can't compile; others are JavaScript's, also within", () => {
    const python = new BSON.BSONRegExp('(?P<n>x)', 'u');
    const given = { a: python, b: new BSON.BSONRegExp('y', 'i'), c: [{ d: new BSON.BSONRegExp('z', '') }, python] };
    expect(found(given)).toEqual({ document: { a: python, b: /y/i, c: [{ d: /z/ }, python] } });
    expect(found({ a: regExp('y', 'iz') })).toEqual({ document: { a: /y/i } });
  });

  it('has the fields that can be decoded, and says that there are others', () => {
    const _id = new BSON.ObjectId();
    for (const odd of [NOT_UTF8, regExp('(?P<n>x)', 'z')]) {
      const { document, undecodable } = found({ _id, n: 1, odd, deep: { odd }, last: ['a'] });
      expect(document).toEqual({ _id, n: 1, last: ['a'] });
      expect(undecodable).toMatchObject({ message: expect.stringContaining('cannot be decoded') });
    }
  });

  it('does not mistake a field for a type, nor a name for the prototype', () => {
    const fields = JSON.parse('{ "__proto__": { "a": 1 }, "b": { "_bsontype": "BSONRegExp" } }') as BSON.Document;
    expect(Object.keys(withRegExps(fields))).toEqual(['__proto__', 'b']);
    expect(Object.getPrototypeOf(withRegExps(fields))).toBe(Object.prototype);
  });
});
