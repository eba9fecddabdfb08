import { runInNewContext } from 'node:vm';
import {
  Binary,
  BSONRegExp,
  BSONSymbol,
  calculateObjectSize,
  Code,
  DBRef,
  Decimal128,
  deserialize,
  Double,
  Int32,
  Long,
  MaxKey,
  MinKey,
  ObjectId,
  serialize,
  Timestamp,
  UUID,
} from 'bson';
import fc from 'fast-check';
import { model, Schema } from 'mongoose';
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

class Secret {
  readonly #secret = 1;
  get secret() {
    return this.#secret;
  }
}

const unheard: unknown = Object.create({ _bsontype: 'Unheard', [Symbol.for('@@mdb.bson.version')]: 7 });

const selfish = new Code('f', {});
selfish.scope!['c'] = selfish;

const throwing = (thrown: unknown) => () => {
  throw thrown;
};
const getting = (get: () => unknown) => Object.defineProperty({}, 'a', { get, enumerable: true });

const manyCauses = () => {
  let error = new Error('the first one');
  for (let count = 0; count < 20_000; count += 1) error = new Error('the last one', { cause: error });
  return error;
};

const endless = { toJSON: () => ({ toJSON: endless.toJSON }) } as { toJSON: () => unknown };

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
    ['a regular expression', /a+/gim],
    ['-0', -0],
    ['a well-formed pair', '\u{1f6eb}'],
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

  it('keeps BSON values, in copies', () => {
    const data = {
      id: new ObjectId('65a000000000000000000001'),
      money: Decimal128.fromString('1.5'),
      raw: new Binary(Buffer.from('abc'), 128),
      uuid: new UUID('00112233-4455-4677-8899-aabbccddeeff'),
      code: new Code('f()', { list: [new Date(1)] }),
      time: new Timestamp({ t: 1, i: 2 }),
      pattern: new BSONRegExp('a', 'x'),
      int: new Int32(5),
      double: new Double(5),
      ends: [new MinKey(), new MaxKey()],
    };
    const before = serialize(data);
    const stored = copy(data) as typeof data;
    expect(Buffer.compare(serialize(stored), before)).toBe(0);
    data.id.id.fill(0);
    data.money.bytes.fill(0);
    data.raw.buffer.fill(0);
    data.uuid.buffer.fill(0);
    (data.code.scope!['list'] as unknown[]).push(1);
    data.code.code = 'g()';
    data.pattern.pattern = 'b';
    data.int.value = 6;
    data.double.value = 6;
    data.ends.pop();
    expect(Buffer.compare(serialize(stored), before)).toBe(0);
  });

  it('takes what there is in JavaScript for other BSON values', () => {
    const id = new ObjectId();
    const data = [
      Long.fromNumber(5),
      Long.MIN_VALUE,
      new BSONSymbol('s'),
      new DBRef('c', id, undefined, { a: 1 }),
      new DBRef('c', id, '', { when: new Date(1) }),
    ];
    expect(copy(data)).toStrictEqual([
      5n,
      -(2n ** 63n),
      's',
      { $ref: 'c', $id: id, a: 1 },
      { $ref: 'c', $id: id, $db: '', when: new Date(1) },
    ]);
  });

  it('stores only what a Binary holds, and no more', () => {
    const growing = new Binary();
    growing.write(Buffer.from('abc'), 0);
    const { value, bytes } = toStorable(growing);
    expect((value as Binary).buffer).toEqual(Buffer.from('abc'));
    expect(bytes).toBe(8);
  });

  it('says whether there is a bigint', () => {
    for (const data of [[{ a: 1n }], Long.ONE, new Code('f', { a: 1n })]) expect(toStorable(data).bigints).toBe(true);
    for (const data of [[{ a: 1 }], null, new Timestamp({ t: 1, i: 1 })]) expect(toStorable(data).bigints).toBe(false);
  });

  it('turns Uint8Array into Buffer, without the rest of its memory', () => {
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
      'data.a throws when it is read: no',
    ],
    ['flags that BSON has not', { r: /a/su }, "data.r has the flags 'su'"],
    ['the flag d', { r: new RegExp('a', 'd') }, "data.r has the flags 'd'"],
    ['the flag s', { r: new RegExp('a', 's') }, "data.r has the flags 's'"],
    ['the flag u', { r: new RegExp('a', 'u') }, "data.r has the flags 'u'"],
    ['the flag v', { r: new RegExp('a', 'v') }, "data.r has the flags 'v'"],
    ['the flag y', { r: new RegExp('a', 'y') }, "data.r has the flags 'y'"],
    ['half a surrogate pair behind much text', 'x'.repeat(100_000) + '\ud800', 'data has one half of a surrogate pair'],
    ['half a surrogate pair', { a: ['x\ud800'] }, 'data.a[0] has one half of a surrogate pair'],
    ['half a surrogate pair as a key', { 'x\udfff': 1 }, 'data["x\\udfff"] has one half of a surrogate pair'],
    ['half a surrogate pair in a pattern', [new RegExp('\ud800')], 'data[0] has one half of a surrogate pair'],
    ['half a surrogate pair in BSON', [new BSONSymbol('\ud800')], 'data[0] has one half of a surrogate pair'],
    ['half a surrogate pair from toJSON', [{ toJSON: () => '\ud800' }], 'data[0] has one half of a surrogate pair'],
    ['a generator', { g: (function* () {})() }, 'data.g is'],
    ['an iterator', [[1].values()], 'data[0] is'],
    [
      'an Intl object',
      { f: new Intl.NumberFormat('en') },
      'data.f is a NumberFormat that has no properties of its own',
    ],
    ['URLSearchParams', new URLSearchParams('a=1'), 'data is a URLSearchParams that has no properties'],
    ['a Blob', [new Blob(['a'])], 'data[0] is a Blob that has no properties'],
    ['a WeakMap', new WeakMap(), 'data is a WeakMap that has no properties'],
    ['an AbortSignal', AbortSignal.abort(), 'data is an AbortSignal that has no properties'],
    ['a class with private fields alone', { s: new Secret() }, 'data.s is a Secret that has no properties'],
    ['a boxed bigint', Object(5n), 'use the plain value'],
    ['a boxed symbol', Object(Symbol('a')), 'use the plain value'],
    ['a boxed string', Object('ab'), 'use the plain value'],
    ['a shared buffer', new SharedArrayBuffer(1), 'data is an ArrayBuffer'],
    ['a DataView', new DataView(new ArrayBuffer(1)), 'data is a typed array'],
    [
      'an array with more',
      { m: /(?<a>b)/.exec('b') },
      "data.m is an array with the property 'groups' of its own, which would be lost: store an object that holds both",
    ],
    ...['-1', '-0', '1.5', '01', 'NaN', 'Infinity', '4294967295'].map((key): [string, unknown, string] => [
      `an array with the key ${key}`,
      Object.assign([1, 2], { [key]: 5 }),
      `data is an array with the property '${key}'`,
    ]),
    ['a symbol on a RegExp', Object.assign(/a/, { [Symbol('k')]: 1 }), 'data is a RegExp with the property Symbol(k)'],
    ['a symbol on few bytes', Object.assign(Buffer.alloc(3), { [Symbol('k')]: 1 }), 'data is a Buffer with'],
    ['a property of many bytes', Object.assign(new Uint8Array(300), { more: 1 }), 'data is a Uint8Array with'],
    ['a symbol on bytes', { b: Object.assign(Buffer.alloc(300), { [Symbol('k')]: 1 }) }, 'data.b is a Buffer with'],
    [
      'bytes with a part of their own',
      new (class Key extends Uint8Array {
        part = 1;
      })(3),
      'data is a Key with',
    ],
    ['a Long with more', Object.assign(Long.fromNumber(7), { more: 1 }), "data is a Long with the property 'more'"],
    [
      'a reference with more',
      Object.assign(new DBRef('c', new ObjectId()), { more: 1 }),
      "data is a DBRef with the property 'more'",
    ],
    ['binary data with more', [Object.assign(new UUID(), { more: 1 })], "data[0] is a UUID with the property 'more'"],
    ['a key that is a symbol', [{ [Symbol('k')]: 1 }], 'data[0] has the key Symbol(k): use a string'],
    ['a symbol on an array', Object.assign([1], { [Symbol('k')]: 1 }), 'data has the key Symbol(k)'],
    ['an unsigned Long', Long.MAX_UNSIGNED_VALUE, 'data is a bigint of more than 64 bits'],
    ['a scope with a function', { c: new Code('f', { g: () => 1 }) }, 'data.c.scope.g is a function'],
    ['a scope that is a cycle', { c: selfish }, 'data.c.scope.c is a cycle'],
    ['a reference with a symbol', new DBRef('c', new ObjectId(), undefined, { s: Symbol('x') }), 'data.s is a symbol'],
    ['a bad vector', { v: new Binary(Buffer.from([3, 1]), 9) }, 'data.v is a vector that BSON does not take'],
    ['a BSON type that there is not', { b: unheard }, 'data.b says of itself that it is the BSON type Unheard'],
    ['a proxy of a Date', new Proxy(new Date(), {}), 'data throws when it is read'],
    ['a proxy of bytes', new Proxy(new Uint8Array(1), {}), 'data is a typed array'],
    ['a proxy of a Map', { p: new Proxy(new Map([[1, 2]]), {}) }, 'data.p is a Map'],
    ['a toJSON that is a Map', { toJSON: () => new Map() }, 'data is a Map'],
    ['toJSON without end', endless, 'nested more than 90 levels'],
    [
      'a toJSON that throws',
      {
        a: {
          toJSON() {
            throw new Error('no');
          },
        },
      },
      'data.a throws when it is read: no',
    ],
    ['a toJSON that says nothing', { toJSON: () => undefined }, 'data is undefined after toJSON'],
    ['a getter that throws undefined', getting(throwing(undefined)), 'data.a throws when it is read: undefined'],
    ['a getter that throws null', getting(throwing(null)), 'data.a throws when it is read: null'],
    [
      'a getter that throws many causes',
      getting(throwing(manyCauses())),
      'data.a throws when it is read: the last one',
    ],
    ['a proxy that throws undefined', [new Proxy({}, { ownKeys: throwing(undefined) })], 'data[0] throws when'],
  ])('refuses %s', (_, data, message) => {
    const error = errorOf(data);
    expect(error).toMatchObject({ code: ErrorCode.NotStorable, stored: 'no' });
    expect(error.message).toContain(message);
  });

  const traps = ['get', 'has', 'ownKeys', 'getPrototypeOf', 'getOwnPropertyDescriptor'] as const;
  it.each(traps.flatMap((trap) => [{}, [], new Map(), new Money(1)].map((target) => [trap, target] as const)))(
    'refuses a proxy whose trap %s throws, around %o, with a code and the path',
    (trap, target) => {
      const proxy = new Proxy(target, {
        [trap]: () => {
          throw new TypeError('trapped');
        },
      });
      let outcome: unknown;
      try {
        outcome = copy({ a: [proxy] });
      } catch (error) {
        outcome = error;
      }
      // A trap that copying has no need of does no harm.
      if (outcome instanceof AppendError) {
        expect(outcome).toMatchObject({
          code: ErrorCode.NotStorable,
          stored: 'no',
          details: { path: expect.stringMatching(/^data\.a\[0\]/) },
        });
      } else {
        expect(outcome).toEqual({ a: [Array.isArray(target) ? [] : { ...target }] });
      }
    },
  );

  it('keeps nothing of an object but what it says', () => {
    const strange = Object.defineProperties({ a: 1 }, { hidden: { value: 2 }, [Symbol('hidden')]: { value: 3 } });
    class Id extends Date {
      readonly #hidden = 1;
      get hidden() {
        return this.#hidden;
      }
    }
    expect(
      copy([strange, new Id(5), Object.create({ inherited: 1 }, { own: { value: 1, enumerable: true } })]),
    ).toEqual([{ a: 1 }, new Date(5), { own: 1 }]);
  });

  it('asks what is one value for what it is to be stored as', () => {
    const [date, bytes, pattern, list] = [new Date(5), Buffer.from('a'), /a/, [1]];
    const asking = [date, bytes, pattern, list].map((value) => Object.assign(value, { toBSON: () => ({ asked: 1n }) }));
    expect(copy(asking)).toEqual(asking.map(() => ({ asked: 1n })));
    const self = Object.defineProperty(new Date(5), 'toBSON', { value: () => self });
    expect(copy([self])).toEqual([new Date(5)]);
  });

  it("takes Mongoose's bytes and arrays", () => {
    const Owner = model('Owner', new Schema({ photo: Buffer, tags: [String], parts: [{ bytes: Buffer }] }));
    const owner = new Owner({ photo: Buffer.from('ab'), tags: ['c'], parts: [{ bytes: Buffer.from('d') }] });
    const { photo, tags, parts } = owner;
    const { value } = toStorable({ photo, tags, bytes: parts[0]?.bytes });
    expect(deserialize(serialize({ value }), { promoteBuffers: true })['value']).toEqual({
      photo: Buffer.from('ab'),
      tags: ['c'],
      bytes: Buffer.from('d'),
    });
  });

  it('takes objects of another realm as they are', () => {
    const data: unknown = runInNewContext('({ a: [1, new Date(5)], b: new Uint8Array([1]), r: /a/g })');
    const stored = copy(data) as object;
    expect(stored).toEqual({ a: [1, new Date(5)], b: Buffer.from([1]), r: /a/g });
    expect(() => copy(runInNewContext('new Map()'))).toThrow('data is a Map');
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

  it.each([
    ['plain values', { a: 1, b: 'ü', c: [1.5, true, null], d: new Date(), f: { g: -1 }, i: 5n, z: -0, n: NaN }],
    ['long lists', Array.from({ length: 1200 }, (_, n) => n)],
    ['bytes', { e: Buffer.from('x'), b: new Binary(Buffer.alloc(1000), 5), o: new Binary(Buffer.alloc(9), 2) }],
    ['ids', [new ObjectId(), new UUID(), new Timestamp({ t: 1, i: 1 })]],
    ['numbers', [Decimal128.fromString('1'), Long.ONE, new Int32(1), new Double(1)]],
    ['code', [new Code('ü'), new Code('f()', { a: { b: 'ü' } })]],
    ['patterns', [/ü/gi, new BSONRegExp('ü', 'ix')]],
    ['references', [new DBRef('c', new ObjectId()), new DBRef('c', new ObjectId(), 'd', { a: 1 })]],
    ['ends', [new MinKey(), new MaxKey()]],
  ])('counts bytes as BSON does: %s', (_, data) => {
    const { value, bytes } = toStorable({ data });
    expect(bytes).toBe(serialize({ data }).byteLength);
    expect(bytes).toBe(calculateObjectSize(value as object));
  });

  it('counts binary data before it copies them', () => {
    const large = new Binary(Buffer.alloc(1_000_000));
    expect(errorOf({ large }, 999_999)).toMatchObject({ code: ErrorCode.MessageTooLarge, stored: 'no' });
    expect(toStorable({ large }, 1_000_100).bytes).toBe(serialize({ large }).byteLength);
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
