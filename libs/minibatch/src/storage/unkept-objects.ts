import { types } from 'node:util';
import { show } from '../common/checks.js';

type Test = (value: object) => boolean;

const TypedArray = Object.getPrototypeOf(Uint8Array) as abstract new () => object;

/**
 * Objects that are more than their own properties: copying these would silently lose the rest. `instanceof` in addition to what Node says,
 * for a proxy, or an object with a borrowed prototype, has nothing of what its class has.
 */
const UNKEPT: readonly (readonly [Test, string])[] = [
  [(value) => types.isMap(value) || value instanceof Map, 'is a Map: use Object.fromEntries(map) or [...map]'],
  [(value) => types.isSet(value) || value instanceof Set, 'is a Set: use [...set]'],
  [(value) => types.isNativeError(value) || value instanceof Error, 'is an Error: store { name, message }'],
  [(value) => types.isPromise(value) || value instanceof Promise, 'is a Promise: await it first'],
  [
    (value) => ArrayBuffer.isView(value) || value instanceof TypedArray,
    'is a typed array: use Array.from(it) or a Buffer',
  ],
  [types.isAnyArrayBuffer, 'is an ArrayBuffer: use Buffer.from(it)'],
  [types.isBoxedPrimitive, 'is an object around a primitive value: use the plain value'],
];

/** Undefined for an object of which nothing is lost but its methods. `value` has a prototype that is not `Object.prototype`. */
export function whyNotKept(value: object): string | undefined {
  for (const [test, why] of UNKEPT) if (test(value)) return why;
  if (Object.keys(value).length > 0 || isPlainElsewhere(value)) return undefined;
  // Iterators, private fields, handles of the platform: what they hold can't be seen from outside.
  return `is ${show(value)} that has no properties of its own: nothing of it would be stored. Give it a toJSON(), or store a plain object`;
}

/** A plain object of another realm, as a test runner has it. */
function isPlainElsewhere(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}
