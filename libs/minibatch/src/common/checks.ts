import { types } from 'node:util';
import ms from 'ms';
import { isA } from '../errors/error-text.js';
import { ErrorCode, messageOf, MinibatchError } from '../errors/minibatch.error.js';
import { didYouMean } from './did-you-mean.js';
import { HIDDEN, isSecret, redactOption } from '../errors/redact.js';

/** An option is wrong: says whose, which one, what was given and what is allowed. Secrets are not told. */
export function invalidOption(where: string, option: string, given: unknown, allowed: string): MinibatchError {
  const hidden = isSecret(option) && given !== undefined && given !== null && typeof given !== 'object';
  const clean = hidden ? HIDDEN : redactOption(option, given);
  const shown = hidden ? `a ${typeof given}, not shown here` : show(clean);
  return new MinibatchError(ErrorCode.InvalidOptions, `${where}: ${option} is ${shown}; allowed: ${allowed}`, {
    details: { where, option, given: clean, allowed },
  });
}

/** A value as it stands in an error message. */
export function show(value: unknown): string {
  if (typeof value === 'string') return `'${value.length > 60 ? `${value.slice(0, 60)}…` : value}'`;
  if (typeof value === 'function') return value.name || 'a function';
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'object' && value !== null) return showObject(value);
  return String(value);
}

function showObject(value: object): string {
  try {
    if (Array.isArray(value)) return `[${value.slice(0, 10).map(show).join(', ')}${value.length > 10 ? ', …' : ''}]`;
    const name: unknown = value.constructor?.name;
    return typeof name === 'string' && name !== 'Object' && name !== ''
      ? `${/^[AEIO]/.test(name) ? 'an' : 'a'} ${name}`
      : 'an object';
  } catch {
    // A getter, or a proxy.
    return 'an object';
  }
}

export interface DurationRange {
  /** Milliseconds. */
  readonly min: number;
  /** Why so much; stands in the message. */
  readonly because?: string;
}

/** A number of milliseconds, or a string as the `ms` package reads it. */
export function checkDuration(where: string, option: string, given: unknown, range: DurationRange): number {
  const parsed = typeof given === 'string' ? parseDuration(given) : given;
  if (typeof parsed === 'number' && Number.isSafeInteger(parsed) && parsed >= range.min) return parsed;
  const least = Number.isFinite(range.min) ? ` of at least ${range.min}` : '';
  const because = range.because ? ` (${range.because})` : '';
  throw invalidOption(
    where,
    option,
    given,
    `a whole number of milliseconds${least}, or a string like '5s' or '2 minutes'${because}`,
  );
}

function parseDuration(text: string): number | undefined {
  // `ms` throws on an empty string and on a very long one, and answers undefined to what it can't read.
  if (text.trim() === '' || text.length > 100) return undefined;
  return ms(text as ms.StringValue);
}

export function checkInteger(where: string, option: string, given: unknown, min: number): number {
  if (typeof given === 'number' && Number.isSafeInteger(given) && given >= min) return given;
  throw invalidOption(where, option, given, `a whole number of at least ${min}`);
}

export function checkText(where: string, option: string, given: unknown): string {
  if (typeof given === 'string') return given;
  throw invalidOption(where, option, given, 'a string');
}

export function checkBoolean(where: string, option: string, given: unknown): boolean {
  if (typeof given === 'boolean') return given;
  throw invalidOption(where, option, given, 'true or false');
}

/** Characters of a stream's or a group's name. */
const LONGEST_NAME = 512;

/** Names become parts of keys that are joined by NUL, in UTF-8, which has no bytes for half a surrogate pair. */
function isName(given: unknown): given is string {
  if (typeof given !== 'string' || given.length === 0 || given.length > LONGEST_NAME) return false;
  return !given.includes('\0') && given.isWellFormed();
}

export function checkName(where: string, option: string, given: unknown): string {
  if (isName(given)) return given;
  throw invalidOption(
    where,
    option,
    given,
    `a string of 1 to ${LONGEST_NAME} characters without NUL and without half a surrogate pair`,
  );
}

/** What it holds are not its properties, so it would pass for an object without options: a Map, or what an async function returns. */
function isNoRecord(given: object): boolean {
  const { isBoxedPrimitive, isDate, isMap, isPromise, isSet } = types;
  return [isPromise, isMap, isSet, isDate, isBoxedPrimitive].some((is) => is(given));
}

/**
 * A misspelled option would otherwise be ignored silently where no compiler checks it. Each option is read once, so that one that throws
 * when it is read is refused here.
 */
export function checkKeys(where: string, given: unknown, allowed: readonly string[]): void {
  for (const key of readKeys(where, given, allowed)) {
    if (allowed.includes(key)) continue;
    const meant = didYouMean(key, allowed);
    const advice = meant === undefined ? 'allowed' : `did you mean '${meant}'? Allowed`;
    throw new MinibatchError(
      ErrorCode.InvalidOptions,
      `${where}: unknown option '${key}'; ${advice}: ${allowed.join(', ')}`,
      { details: { where, option: key, allowed, ...(meant === undefined ? {} : { meant }) } },
    );
  }
}

/**
 * The keys of the options, all of which can be read: a getter may throw, and a proxy may at anything.
 *
 * @throws MinibatchError `InvalidOptions`
 */
export function readKeys(where: string, given: unknown, allowed: readonly string[]): readonly string[] {
  let option = 'options';
  try {
    if (typeof given !== 'object' || given === null || Array.isArray(given) || isNoRecord(given)) {
      throw invalidOption(where, option, given, 'an object');
    }
    const keys = Object.keys(given);
    for (option of allowed) Reflect.get(given, option);
    return keys;
  } catch (cause) {
    if (isA(cause, MinibatchError)) throw cause;
    throw unreadable(where, option, cause);
  }
}

/** @throws MinibatchError `InvalidOptions` */
export function checkList(where: string, option: string, given: unknown, allowed: string): readonly unknown[] {
  try {
    if (Array.isArray(given)) return given as readonly unknown[];
  } catch (cause) {
    // A proxy that was revoked.
    throw unreadable(where, option, cause);
  }
  throw invalidOption(where, option, given, allowed);
}

/** A copy, which can be read without care. @throws MinibatchError `InvalidOptions` if one throws when it is read */
export function copyOptions(where: string, given: unknown): Record<string, unknown> {
  try {
    return { ...(given as object) };
  } catch (cause) {
    throw unreadable(where, 'options', cause);
  }
}

/** An option throws when it is read. */
function unreadable(where: string, option: string, cause: unknown): MinibatchError {
  return new MinibatchError(
    ErrorCode.InvalidOptions,
    `${where}: ${option} throws when it is read: ${messageOf(cause)}`,
    {
      cause,
      details: { where, option },
    },
  );
}

/**
 * What a source or a sink is constructed with: an object of these keys. A subclass that has no constructor passes nothing.
 *
 * @param example what to pass @throws MinibatchError `InvalidOptions`
 */
export function checkOptions<T>(
  where: string,
  options: T | undefined,
  keys: readonly string[],
  example: string,
): asserts options is T {
  if (options === undefined) {
    throw invalidOption(where, 'options', options, `an object; in your constructor, call super(${example})`);
  }
  checkKeys(where, options, keys);
}
