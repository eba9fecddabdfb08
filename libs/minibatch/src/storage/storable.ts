import { types } from 'node:util';
import { AppendError, ErrorCode, messageOf } from '../errors/minibatch.error.js';
import { show } from '../common/checks.js';
import { tooLargeText } from '../errors/store-faults.js';
import { setOwn } from '../common/set-own.js';
import { type BsonCopier, copyBsonValue, isBsonValue } from './bson-values.js';
import { areBytesAlone, furtherProperty, isIndex } from './further-properties.js';
import { whyNotKept } from './unkept-objects.js';

/** A copy of what was given, made of plain values only. */
export interface Storable {
  readonly value: unknown;
  /** Size in BSON; other stores come close to it. */
  readonly bytes: number;
  /** Whether there is a bigint in it. */
  readonly bigints: boolean;
}

/** MongoDB nests 100 levels; some of them belong to the documents that messages are stored in. */
const MAX_DEPTH = 90;

/** Keys that have been looked at, and their bytes: messages of a stream have the same ones. */
const goodKeys = new Map<string, number>();
const MOST_GOOD_KEYS = 1000;
const LONGEST_GOOD_KEY = 64;

/**
 * Copies and checks in one pass the data to store, so that what the caller changes after the call does not matter. `docs/reference/values.md`
 * says what comes back as what; anything else is refused.
 *
 * @param limit bytes; the pass ends there, so that a few shared references do not unfold into gigabytes
 * @param what the root of the paths in errors
 * @throws AppendError `NotStorable`, naming the path, or `MessageTooLarge`
 */
export function toStorable(data: unknown, limit: number = Number.POSITIVE_INFINITY, what = 'data'): Storable {
  if (data === undefined) {
    throw new AppendError(ErrorCode.NotStorable, `${what} is undefined: there is nothing to store`, 'no');
  }
  const copier = new Copier(limit, what);
  const value = copier.copyAll(data);
  return { value, bytes: copier.bytes, bigints: copier.bigints };
}

class Copier implements BsonCopier {
  bytes = 0;
  bigints = false;
  /** Keys from the root to the value under the hand. */
  private readonly path: (string | number)[] = [];
  /** The objects on that way: meeting one of them again is a cycle. They are few, so a list does. */
  private readonly ancestors: object[] = [];
  /** What this copier has thrown, to tell it from what the caller's own code throws. */
  private refusal: AppendError | undefined;

  constructor(
    private readonly limit: number,
    private readonly what: string,
  ) {}

  copyAll(data: unknown): unknown {
    let value: unknown;
    try {
      value = this.copy(data);
    } catch (error) {
      // Not before there is one: code of the caller may throw undefined.
      if (this.refusal && error === this.refusal) throw error;
      throw this.notStorable(`throws when it is read: ${messageOf(error)}`, error);
    }
    if (value === undefined) throw this.notStorable('is undefined after toJSON: there is nothing to store');
    return value;
  }

  copy(value: unknown): unknown {
    switch (typeof value) {
      case 'string':
        return this.text(value);
      case 'number':
        this.count(isInt32(value) ? 4 : 8);
        return value;
      case 'boolean':
        this.count(1);
        return value;
      case 'undefined':
        return undefined;
      case 'bigint':
        return this.bigint(value);
      case 'object':
        return value === null ? null : this.copyObject(value);
      case 'function':
        throw this.notStorable('is a function: store data only');
      default:
        throw this.notStorable('is a symbol: store a string');
    }
  }

  copyAt(key: string, value: unknown): unknown {
    this.path.push(key);
    const copy = this.copy(value);
    this.path.pop();
    return copy;
  }

  text(value: string): string {
    this.count(5 + Buffer.byteLength(value));
    return this.wellFormed(value);
  }

  wellFormed(value: string): string {
    if (value.isWellFormed()) return value;
    throw this.notStorable(
      'has one half of a surrogate pair, which UTF-8 has no bytes for: use toWellFormed(), or store its bytes',
    );
  }

  private bigint(value: bigint): bigint {
    if (BigInt.asIntN(64, value) !== value) {
      throw this.notStorable('is a bigint of more than 64 bits: store it as string');
    }
    this.bigints = true;
    this.count(8);
    return value;
  }

  private copyObject(value: object): unknown {
    const prototype: unknown = Object.getPrototypeOf(value);
    const isPlain = prototype === Object.prototype || prototype === null;
    if (!isPlain && !Array.isArray(value)) {
      if (types.isDate(value)) return this.copyDate(value);
      if (types.isUint8Array(value)) return this.copyBytes(value);
      if (types.isRegExp(value)) return this.copyRegExp(value);
    }
    if (this.ancestors.includes(value)) throw this.notStorable('is a cycle: it contains itself');
    if (this.ancestors.length >= MAX_DEPTH) {
      throw this.notStorable(`is nested more than ${MAX_DEPTH} levels deep: flatten it, or store it as JSON string`);
    }
    this.ancestors.push(value);
    const copy = this.copyContent(value, isPlain);
    this.ancestors.pop();
    return copy;
  }

  private copyContent(value: object, isPlain: boolean): unknown {
    if (Array.isArray(value)) return this.copyArray(value);
    if (!isPlain && isBsonValue(value)) return copyBsonValue(this, value);
    const converted = this.convert(value);
    if (converted !== value) return this.copy(converted);
    if (!isPlain) {
      const why = whyNotKept(value);
      if (why !== undefined) throw this.notStorable(why);
    }
    return this.copyProperties(value as Record<string, unknown>);
  }

  private copyDate(value: Date): unknown {
    if ('toBSON' in value) {
      const asked = toBson(value);
      if (asked !== value) return this.copy(asked);
    }
    // Its time, whatever a subclass makes of `getTime`.
    const copy = new Date(value);
    if (Number.isNaN(copy.getTime())) throw this.notStorable('is an invalid Date: check it before, or store null');
    // To list its symbols would take longer than all the rest.
    for (const key in value) if (Object.hasOwn(value, key)) throw this.further(value, key);
    this.count(8);
    return copy;
  }

  private copyBytes(value: Uint8Array): unknown {
    if ('toBSON' in value) {
      const asked = toBson(value);
      if (asked !== value) return this.copy(asked);
    }
    this.count(5 + value.byteLength);
    const copy = Buffer.from(value);
    if (!areBytesAlone(value, copy)) throw this.further(value);
    return copy;
  }

  private copyRegExp(value: RegExp): unknown {
    if ('toBSON' in value) {
      const asked = toBson(value);
      if (asked !== value) return this.copy(asked);
    }
    const { source, flags } = value;
    if (/[^gim]/.test(flags)) {
      throw this.notStorable(`has the flags '${flags}', of which BSON knows g, i and m: store { source, flags }`);
    }
    if (source.includes('\0')) throw this.notStorable('is a regular expression with NUL in it');
    this.refuseFurther(value);
    this.count(2 + Buffer.byteLength(source) + flags.length);
    return new RegExp(this.wellFormed(source), flags);
  }

  private copyArray(value: readonly unknown[]): unknown {
    if ('toBSON' in value) {
      const asked = toBson(value);
      if (asked !== value) return this.copy(asked);
    }
    this.count(5);
    this.refuseProperties(value);
    const copy: unknown[] = [];
    for (let index = 0; index < value.length; index += 1) {
      this.count(2 + digits(index));
      this.path.push(index);
      copy.push(this.copy(value[index]) ?? null);
      this.path.pop();
    }
    return copy;
  }

  /** An array may have more than its elements: what a match of a regular expression is, for example. */
  private refuseProperties(value: readonly unknown[]): void {
    // Indexes come first.
    const last = Object.keys(value).at(-1);
    if (last !== undefined && last !== String(value.length - 1) && !isIndex(last, value.length))
      throw this.further(value, last);
    this.refuseSymbols(value);
  }

  /** Of what is stored as one value, and not property by property. */
  private refuseFurther(value: object): void {
    const key = furtherProperty(value);
    if (key !== undefined) throw this.further(value, key);
  }

  further(value: object, key?: PropertyKey): AppendError {
    const what = Array.isArray(value) ? 'an array' : show(value);
    const property = key === undefined ? 'properties' : `the property ${show(key)}`;
    return this.notStorable(
      `is ${what} with ${property} of its own, which would be lost: store an object that holds both`,
    );
  }

  private copyProperties(value: Record<string, unknown>): object {
    this.count(5);
    this.refuseSymbols(value);
    const copy: Record<string, unknown> = {};
    for (const key of Object.keys(value)) {
      this.path.push(key);
      const bytes = goodKeys.get(key) ?? this.keyBytes(key);
      const property = this.copy(value[key]);
      if (property !== undefined) {
        this.count(2 + bytes);
        setOwn(copy, key, property);
      }
      this.path.pop();
    }
    return copy;
  }

  private keyBytes(key: string): number {
    if (key.includes('\0')) throw this.notStorable('has NUL in its key');
    if (key === '_bsontype') {
      throw this.notStorable("has a key that MongoDB's serializer keeps for itself: rename `_bsontype`");
    }
    const bytes = Buffer.byteLength(this.wellFormed(key));
    if (goodKeys.size < MOST_GOOD_KEYS && bytes <= LONGEST_GOOD_KEY) goodKeys.set(key, bytes);
    return bytes;
  }

  private refuseSymbols(value: object): void {
    const symbols = Object.getOwnPropertySymbols(value);
    if (symbols.length === 0) return;
    const symbol = symbols.find((key) => Object.prototype.propertyIsEnumerable.call(value, key));
    if (symbol) throw this.notStorable(`has the key ${String(symbol)}: use a string`);
  }

  /** What the object asks to be stored as; otherwise the object itself. */
  private convert(value: object): unknown {
    if ('toBSON' in value && typeof value.toBSON === 'function') return value.toBSON();
    if ('toJSON' in value && typeof value.toJSON === 'function') return value.toJSON(String(this.path.at(-1) ?? ''));
    return value;
  }

  count(bytes: number): void {
    this.bytes += bytes;
    if (this.bytes > this.limit) {
      this.refusal = new AppendError(ErrorCode.MessageTooLarge, tooLargeText(this.limit), 'no', {
        details: { allowed: this.limit },
      });
      throw this.refusal;
    }
  }

  notStorable(why: string, cause?: unknown): AppendError {
    const path = `${this.what}${this.path.map(step).join('')}`;
    this.refusal = new AppendError(ErrorCode.NotStorable, `${path} ${why}`, 'no', { cause, details: { path } });
    return this.refusal;
  }
}

/** What an object asks to be stored as in MongoDB; otherwise the object itself. Only where `toBSON` is: called for each value it would be slow. */
function toBson(value: object): unknown {
  return 'toBSON' in value && typeof value.toBSON === 'function' ? value.toBSON() : value;
}

function isInt32(value: number): boolean {
  // -0 is a double.
  return (value | 0) === value && !Object.is(value, -0);
}

/** Of an index of an array. */
function digits(index: number): number {
  if (index < 10) return 1;
  return index < 100 ? 2 : String(index).length;
}

function step(key: string | number): string {
  if (typeof key === 'number') return `[${key}]`;
  return /^[A-Za-z_$][\w$]*$/.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`;
}
