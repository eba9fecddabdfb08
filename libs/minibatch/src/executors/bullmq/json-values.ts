import { Decimal128, ObjectId } from 'bson';
import { setOwn } from '../../common/set-own.js';

/**
 * Values as JSON, in the notation of MongoDB's Extended JSON, which other languages read (`bson.json_util` in Python): dates, object ids,
 * bytes, decimals, and every bigint as `$numberLong`. Plain values stay as they are, so that people can read a job.
 */

/** There is no notation for the value, or it looks like one: it has to travel as bytes. */
export class NoJson extends Error {
  override readonly name = 'NoJson';
}

/** Shares with the value what needs no notation. @throws NoJson */
export function toJson(value: unknown): unknown {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return value;
    case 'number':
      return Number.isFinite(value) && !Object.is(value, -0) ? value : { $numberDouble: doubleText(value) };
    case 'bigint':
      return { $numberLong: value.toString() };
    case 'undefined':
      return undefined;
    case 'object':
      return value === null ? null : objectToJson(value);
    default:
      throw new NoJson(`a ${typeof value}`);
  }
}

function doubleText(value: number): string {
  return Object.is(value, -0) ? '-0.0' : String(value);
}

function objectToJson(value: object): unknown {
  if (Array.isArray(value)) return arrayToJson(value);
  if (value instanceof Date) return dateToJson(value);
  if (value instanceof Uint8Array) {
    const base64 = Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64');
    return { $binary: { base64, subType: '00' } };
  }
  const type = bsonTypeOf(value);
  if (type === 'ObjectId') return { $oid: (value as ObjectId).toHexString() };
  if (type === 'Decimal128') return { $numberDecimal: (value as Decimal128).toString() };
  if (type !== undefined) throw new NoJson(`a ${type}`);
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) throw new NoJson('an instance of a class');
  return plainToJson(value as Record<string, unknown>);
}

/** By the prototype, as the classes may be those of another copy of the package: a plain object with a key of that name is no BSON type. */
function bsonTypeOf(value: object): string | undefined {
  if (!('_bsontype' in value) || Object.hasOwn(value, '_bsontype')) return undefined;
  return typeof value._bsontype === 'string' ? value._bsontype : undefined;
}

function dateToJson(value: Date): unknown {
  const time = value.getTime();
  if (Number.isNaN(time)) throw new NoJson('an invalid date');
  // What ISO 8601 writes with four digits.
  const isUsual = time >= 0 && time < 253_402_300_800_000;
  return { $date: isUsual ? isoOf(time) : { $numberLong: String(time) } };
}

/** The second that was written last, up to its decimal point. Messages of a window are of few seconds, and `toISOString` is slow. */
let lastSecond = Number.NaN;
let lastText = '';

/** @param time of a year with four digits; milliseconds, whole */
function isoOf(time: number): string {
  const second = Math.floor(time / 1_000);
  if (second !== lastSecond) {
    lastText = new Date(time).toISOString().slice(0, -'000Z'.length);
    lastSecond = second;
  }
  return `${lastText}${String(time % 1_000).padStart(3, '0')}Z`;
}

function arrayToJson(value: readonly unknown[]): unknown {
  let copy: unknown[] | undefined;
  for (const [index, each] of value.entries()) {
    const json = each === undefined ? null : toJson(each);
    if (json === each) continue;
    copy ??= [...value];
    copy[index] = json;
  }
  return copy ?? value;
}

function plainToJson(value: Record<string, unknown>): unknown {
  let copy: Record<string, unknown> | undefined;
  // `toJSON` would be called by JSON.stringify; a plain object of a message has no functions.
  for (const key of Object.keys(value)) {
    // It would be read as a notation.
    if (key.startsWith('$')) throw new NoJson(`a key ${key}`);
    const each = value[key];
    const json = toJson(each);
    if (json === each) continue;
    if (!copy) {
      copy = {};
      for (const other of Object.keys(value)) setOwn(copy, other, value[other]);
    }
    setOwn(copy, key, json);
  }
  return copy ?? value;
}

/** What `toJson`, or another language's Extended JSON, made the JSON of. Changes the JSON. */
export function fromJson(json: unknown): unknown {
  if (typeof json !== 'object' || json === null) return json;
  if (Array.isArray(json)) {
    for (let index = 0; index < json.length; index += 1) json[index] = fromJson(json[index]);
    return json;
  }
  const object = json as Record<string, unknown>;
  for (const key in object) {
    if (key.startsWith('$')) return fromNotation(object, key);
    const each = object[key];
    const value = fromJson(each);
    if (value !== each) setOwn(object, key, value);
  }
  return object;
}

type Read = (content: unknown) => unknown;

/** By their keys; each returns undefined for what is no such thing. */
const NOTATIONS: Readonly<Record<string, Read>> = {
  $date: (content) => dateOf(content),
  $numberLong: (content) => (isInteger(content) ? BigInt(content) : undefined),
  $numberInt: (content) => (isInteger(content) ? Number(content) : undefined),
  $numberDouble: (content) => (typeof content === 'string' ? Number(content) : undefined),
  $oid: (content) =>
    typeof content === 'string' && /^[0-9a-f]{24}$/i.test(content) ? new ObjectId(content) : undefined,
  $numberDecimal: (content) => (typeof content === 'string' ? Decimal128.fromString(content) : undefined),
  $binary: (content) => bytesOf(content),
};

function fromNotation(object: Record<string, unknown>, key: string): unknown {
  const isAlone = Object.keys(object).length === 1;
  return (isAlone ? NOTATIONS[key]?.(object[key]) : undefined) ?? object;
}

function isInteger(content: unknown): content is string {
  return typeof content === 'string' && /^-?\d{1,19}$/.test(content);
}

function dateOf(content: unknown): Date | undefined {
  if (typeof content === 'string') return validDate(new Date(content));
  const { $numberLong } = (content ?? {}) as { $numberLong?: unknown };
  return isInteger($numberLong) ? validDate(new Date(Number($numberLong))) : undefined;
}

function validDate(date: Date): Date | undefined {
  return Number.isNaN(date.getTime()) ? undefined : date;
}

function bytesOf(content: unknown): Buffer | undefined {
  const { base64, subType } = (content ?? {}) as { base64?: unknown; subType?: unknown };
  return typeof base64 === 'string' && (subType === '00' || subType === '0')
    ? Buffer.from(base64, 'base64')
    : undefined;
}
