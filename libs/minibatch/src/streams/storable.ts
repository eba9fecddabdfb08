import { ObjectId } from 'bson';
import { AppendError, ErrorCode } from '../errors/minibatch.error.js';
import { show } from '../internal/checks.js';
import { setOwn } from '../internal/set-own.js';

/** A copy of what was given, made of plain values only. */
export interface Storable {
  readonly value: unknown;
  /** Size in BSON; other stores come close to it. */
  readonly bytes: number;
}

/** MongoDB nests 100 levels; some of them belong to the documents that messages are stored in. */
const MAX_DEPTH = 90;

/** BSON types of another major version are refused by the serializer. */
const BSON_VERSION = Symbol.for('@@mdb.bson.version');
const OUR_BSON_VERSION: unknown = Reflect.get(new ObjectId(), BSON_VERSION);

/**
 * Copies and checks in one pass what is to be stored, so that what the caller changes after the call does not matter.
 *
 * Taken: null, booleans, numbers, strings, bigints of 64 bits, dates, regular expressions, `Buffer` and `Uint8Array`, BSON types,
 * what `toBSON` or `toJSON` make of an object, arrays, and the own enumerable properties of any other object. As in JSON,
 * properties that are undefined are dropped, and undefined elements become null. Hostile keys (`__proto__`, `$set`, `a.b`)
 * stay what they are: keys.
 *
 * @param limit bytes; the pass ends there, so that a few shared references do not unfold into gigabytes
 * @throws AppendError `NotStorable`, naming the path, or `MessageTooLarge`
 */
export function toStorable(data: unknown, limit: number = Number.POSITIVE_INFINITY): Storable {
  if (data === undefined) {
    throw new AppendError(ErrorCode.NotStorable, 'data is undefined: there is nothing to store', 'no');
  }
  const copier = new Copier(limit);
  const value = copier.copy(data);
  if (value === undefined) throw copier.notStorable('is undefined after toJSON: there is nothing to store');
  return { value, bytes: copier.bytes };
}

class Copier {
  bytes = 0;
  /** Keys from the root to the value under the hand. */
  private readonly path: (string | number)[] = [];
  /** The objects on that way: meeting one of them again is a cycle. */
  private readonly ancestors = new Set<object>();

  constructor(private readonly limit: number) {}

  copy(value: unknown): unknown {
    switch (typeof value) {
      case 'string':
        this.count(5 + Buffer.byteLength(value));
        return value;
      case 'number':
        this.count(Number.isInteger(value) && Math.abs(value) < 2 ** 31 ? 4 : 8);
        return value;
      case 'boolean':
        this.count(1);
        return value;
      case 'undefined':
        return undefined;
      case 'bigint':
        if (BigInt.asIntN(64, value) !== value) {
          throw this.notStorable('is a bigint of more than 64 bits: store it as string');
        }
        this.count(8);
        return value;
      case 'object':
        return value === null ? null : this.copyObject(value);
      case 'function':
        throw this.notStorable('is a function: store data only');
      default:
        throw this.notStorable('is a symbol: store a string');
    }
  }

  private copyObject(value: object): unknown {
    if (value instanceof Date) return this.copyDate(value);
    if (value instanceof Uint8Array) {
      this.count(5 + value.byteLength);
      return Buffer.from(value);
    }
    if (value instanceof RegExp) return this.copyRegExp(value);
    if (isBson(value)) return this.checkedBson(value);

    if (this.ancestors.has(value)) throw this.notStorable('is a cycle: it contains itself');
    if (this.ancestors.size >= MAX_DEPTH) {
      throw this.notStorable(`is nested more than ${MAX_DEPTH} levels deep: flatten it, or store it as JSON string`);
    }
    this.ancestors.add(value);
    try {
      if (Array.isArray(value)) return this.copyArray(value);
      const converted = this.convert(value);
      if (converted !== value) return this.copy(converted);
      this.refuseContainers(value);
      return this.copyProperties(value as Record<string, unknown>);
    } finally {
      this.ancestors.delete(value);
    }
  }

  private copyDate(value: Date): Date {
    if (Number.isNaN(value.getTime())) throw this.notStorable('is an invalid Date: check it before, or store null');
    this.count(8);
    return new Date(value);
  }

  private copyRegExp(value: RegExp): RegExp {
    if (value.source.includes('\0')) throw this.notStorable('is a regular expression with NUL in it');
    this.count(2 + Buffer.byteLength(value.source) + value.flags.length);
    return new RegExp(value);
  }

  /** BSON values are not changed by anybody: they need no copy. */
  private checkedBson(value: object): object {
    if (Reflect.get(value, BSON_VERSION) !== OUR_BSON_VERSION) {
      throw this.notStorable(
        `is a BSON ${value.constructor.name} of another version of the bson package: make it with the classes of 'mongoose' or of bson ${String(OUR_BSON_VERSION)}`,
      );
    }
    this.count(16);
    return value;
  }

  private copyArray(value: readonly unknown[]): unknown[] {
    this.count(5);
    const copy: unknown[] = [];
    for (let index = 0; index < value.length; index += 1) {
      this.count(2 + String(index).length);
      this.path.push(index);
      copy.push(this.copy(value[index]) ?? null);
      this.path.pop();
    }
    return copy;
  }

  private copyProperties(value: Record<string, unknown>): object {
    this.count(5);
    const copy: Record<string, unknown> = {};
    for (const key of Object.keys(value)) {
      this.path.push(key);
      if (key.includes('\0')) throw this.notStorable('has NUL in its key');
      const property = this.copy(this.read(value, key));
      if (property !== undefined) {
        if (key === '_bsontype') {
          throw this.notStorable("has a key that MongoDB's serializer keeps for itself: rename `_bsontype`");
        }
        this.count(2 + Buffer.byteLength(key));
        setOwn(copy, key, property);
      }
      this.path.pop();
    }
    return copy;
  }

  private read(value: Record<string, unknown>, key: string): unknown {
    try {
      return value[key];
    } catch (cause) {
      throw this.notStorable('has a getter that throws', cause);
    }
  }

  /** What the object says it is to be stored as; itself if it says nothing. */
  private convert(value: object): unknown {
    try {
      if ('toBSON' in value && typeof value.toBSON === 'function') return value.toBSON();
      if ('toJSON' in value && typeof value.toJSON === 'function') return value.toJSON(String(this.path.at(-1) ?? ''));
    } catch (cause) {
      throw this.notStorable('has a toBSON or toJSON that throws', cause);
    }
    return value;
  }

  /** Objects whose own properties are not what they hold: copying these would lose the data in silence. */
  private refuseContainers(value: object): void {
    if (value instanceof Map) throw this.notStorable('is a Map: use Object.fromEntries(map) or [...map]');
    if (value instanceof Set) throw this.notStorable('is a Set: use [...set]');
    if (value instanceof Error) throw this.notStorable('is an Error: store { name, message }');
    if (value instanceof Promise) throw this.notStorable('is a Promise: await it first');
    if (ArrayBuffer.isView(value)) throw this.notStorable('is a typed array: use Array.from(it) or a Buffer');
    if (value instanceof ArrayBuffer) throw this.notStorable('is an ArrayBuffer: use Buffer.from(it)');
    if (value instanceof WeakMap || value instanceof WeakSet || value instanceof WeakRef) {
      throw this.notStorable(`is ${show(value)}: it can't be read`);
    }
    if (value instanceof String || value instanceof Number || value instanceof Boolean) {
      throw this.notStorable(`is ${show(value)} object: use the plain value`);
    }
  }

  private count(bytes: number): void {
    this.bytes += bytes;
    if (this.bytes > this.limit) {
      throw new AppendError(
        ErrorCode.MessageTooLarge,
        `the message is larger than the ${this.limit} bytes the store accepts: split it, or store a reference to it`,
        'no',
        { details: { limit: this.limit } },
      );
    }
  }

  notStorable(why: string, cause?: unknown): AppendError {
    const path = `data${this.path.map(step).join('')}`;
    return new AppendError(ErrorCode.NotStorable, `${path} ${why}`, 'no', { cause, details: { path } });
  }
}

/** By the prototype: a plain object from outside with a key of that name is no BSON type. */
function isBson(value: object): boolean {
  return '_bsontype' in value && !Object.hasOwn(value, '_bsontype') && typeof value._bsontype === 'string';
}

function step(key: string | number): string {
  if (typeof key === 'number') return `[${key}]`;
  return /^[A-Za-z_$][\w$]*$/.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`;
}
