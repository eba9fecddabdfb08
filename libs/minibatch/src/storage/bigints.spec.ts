import { Code, Double, Long, ObjectId } from 'bson';
import { expect, it } from 'vitest';
import { holdsBigint } from './bigints.js';

it.each([
  ['itself', 1n],
  ['a value of BSON', Long.fromBigInt(2n ** 60n)],
  ['in a list, behind others', [1, 'a', 1n]],
  ['in an object, behind others', { a: 1, b: { c: [null, 2n] } }],
  ["in a function's scope", new Code('f()', { n: 3n })],
  ['in an object that has _bsontype for a key', { _bsontype: 'Double', n: 4n }],
])('data hold an integer of 64 bits: %s', (_, data) => {
  expect(holdsBigint(data)).toBe(true);
});

it.each([
  ['a number', 1],
  ['a text', '1'],
  ['nothing', undefined],
  ['null', null],
  ['a list', [1, 2]],
  ['an empty list', []],
  ['an object', { a: 1, b: { c: [null] } }],
  ['64-bit elements of a typed array, which are bytes', new BigInt64Array(1)],
  ['other values of BSON', [new Double(1), new ObjectId(), new Code('f()'), new Code('f()', { n: 1 })]],
  ['a key named _bsontype', { _bsontype: 'Long' }],
])('data hold none: %s', (_, data) => {
  expect(holdsBigint(data)).toBe(false);
});
