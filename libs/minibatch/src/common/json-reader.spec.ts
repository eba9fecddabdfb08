import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readJson, readPythonJson } from './json-reader.js';

/** Makes any text one that is read slowly, and changes nothing else. */
const slow = (text: string) => `[1e100,${text}]`;
const readSlow = (text: string) => (readJson(slow(text), 'number') as unknown[])[1];

describe('reading JSON', () => {
  it.each([
    ['9007199254740991', 9007199254740991],
    ['9007199254740992', 9007199254740992n],
    ['9007199254740993', 9007199254740993n],
    ['-9007199254740993', -9007199254740993n],
    ['9223372036854775807', 9223372036854775807n],
    ['-9223372036854775808', -9223372036854775808n],
    ['100000000000000000000', 1e20],
    ['9223372036854775808', 2 ** 63],
    ['9007199254740993.0', 9007199254740992],
    ['9007199254740993e0', 9007199254740992],
    ['1e308', 1e308],
    ['1e-400', 0],
    ['0.12345678901234567890', 0.12345678901234568],
    ['-0', -0],
    ['{"id":9007199254740993}', { id: 9007199254740993n }],
    ['{"id": 9007199254740993}', { id: 9007199254740993n }],
    ['[\n9007199254740993]', [9007199254740993n]],
    ['"9007199254740993"', '9007199254740993'],
    ['["a:9007199254740993,\\"",1]', ['a:9007199254740993,"', 1]],
  ])('gives %s exactly, or as the double that it is', (text, expected) => {
    expect(readJson(text, 'bigint')).toEqual(expected);
  });

  it.each([
    '9223372036854775809',
    '18446744073709551615',
    '1e400',
    '-1e400',
    `${'9'.repeat(400)}`,
    '[9223372036854775809]',
  ])('refuses %s, which nothing here can hold', (text) => {
    expect(() => readJson(text, 'bigint')).toThrow(SyntaxError);
    expect(() => readJson(text, 'bigint')).toThrow(/too large/);
  });

  it('takes large integers for malformed, or rounds them, if it is told to', () => {
    expect(() => readJson('[9007199254740992]', 'malformed')).toThrow(SyntaxError);
    expect(readJson('[9007199254740991]', 'malformed')).toEqual([9007199254740991]);
    expect(readJson('[9007199254740993,18446744073709551615]', 'number')).toEqual([
      9007199254740992, 18446744073709552000,
    ]);
    expect(() => readJson('1e400', 'number')).toThrow(SyntaxError);
  });

  it('keeps hostile keys, and of a key that comes twice the last', () => {
    const read = readJson('{"__proto__":{"x":9007199254740993},"a":1,"a":2}', 'bigint') as object;
    expect(Object.entries(read)).toEqual([
      ['__proto__', { x: 9007199254740993n }],
      ['a', 2],
    ]);
    expect(Object.getPrototypeOf(read)).toBe(Object.prototype);
  });

  it('of any depth ends with a value or with a SyntaxError', () => {
    for (const depth of [500, 10_000, 1_000_000]) {
      const text = `${'['.repeat(depth)}1e100${']'.repeat(depth)}`;
      const read = () => readJson(text, 'bigint');
      if (depth === 500) expect(read).not.toThrow();
      else expect(read).toThrow(SyntaxError);
    }
  });

  const json = () =>
    fc.oneof(
      fc.json(),
      fc.json({ noUnicodeString: false }),
      fc.jsonValue().map((value) => JSON.stringify(value, null, 1)),
    );

  it('is JSON.parse for all that JSON.parse gives exactly', () => {
    fc.assert(
      fc.property(json(), (text) => {
        expect(readSlow(text)).toStrictEqual(JSON.parse(text));
      }),
    );
  });

  it('refuses what JSON.parse refuses', () => {
    const broken = fc
      .tuple(
        json(),
        fc.nat(),
        fc.constantFrom('', '"', '\\', '{', ']', ',', ':', '0', '-', 'NaN', '\n', '\u0000', "'", '+1', '.5', '01'),
      )
      .map(([text, at, insert]) => {
        const place = at % (text.length + 1);
        return text.slice(0, place) + insert + text.slice(insert === '' ? place + 1 : place);
      });
    fc.assert(
      fc.property(broken, (text) => {
        // Of a number that became too large JSON.parse makes Infinity.
        fc.pre(!/E\+?\d{3}/i.test(text));
        let expected: unknown;
        try {
          expected = (JSON.parse(slow(text)) as unknown[])[1];
        } catch {
          expect(() => readSlow(text)).toThrow(SyntaxError);
          return;
        }
        expect(readSlow(text)).toStrictEqual(expected);
      }),
    );
  });

  it('gives each integer of 64 bits back with all its digits', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), (integer) => {
        const read = readJson(`{"a":[${integer}]}`, 'bigint') as { a: [number | bigint] };
        expect(BigInt(read.a[0])).toBe(integer);
      }),
    );
  });
});

describe('reading JSON of Python', () => {
  it('makes null of what can be no number, and of nothing else', () => {
    const text =
      '{"a": NaN, "b": [Infinity, -Infinity, 1e400, 1], "c": "NaN", "d": 9007199254740993, "e": 99999999999999999999999}';
    expect(readPythonJson(text)).toEqual({
      a: null,
      b: [null, null, null, 1],
      c: 'NaN',
      d: 9007199254740993n,
      e: null,
    });
  });

  it.each(['', 'nan', '[-NaN]', '[NaN', '{NaN: 1}', 'Infinity1', '-'])('refuses %j', (text) => {
    expect(() => readPythonJson(text)).toThrow(SyntaxError);
  });
});
