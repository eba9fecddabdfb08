import { createHash } from 'node:crypto';
import { isA } from '../errors/error-text.js';
import { AppendError, ErrorCode, messageOf } from '../errors/minibatch.error.js';
import { show } from '../common/checks.js';
import { setOwn } from '../common/set-own.js';

/** What a message has in addition to its data. */
export interface MessageLabels {
  key?: string;
  headers?: Readonly<Record<string, string>>;
  dedupeId?: string;
}

/** Characters of a dedupe id that is kept as it is. */
const LONGEST_DEDUPE_ID = 512;
const HASHED = 'sha256:';

/** The same as somebody has given it. */
type GivenLabels = { readonly [Label in keyof MessageLabels]?: unknown };

/**
 * Checks and copies key, headers and dedupe id. They may come from the data, by a function of the application, so what is wrong with
 * them is wrong with the message.
 *
 * @throws AppendError `NotStorable`, naming the place
 */
export function labelsOf(where: () => string, { key, headers, dedupeId }: GivenLabels): MessageLabels {
  const labels: MessageLabels = {};
  if (key !== undefined) labels.key = textOf(where, 'key', key);
  if (headers !== undefined) labels.headers = headersOf(where, headers);
  if (dedupeId !== undefined) labels.dedupeId = storedId(textOf(where, 'dedupeId', dedupeId, 1));
  return labels;
}

/**
 * A long id as its SHA-256, so that it fits into a key of any store. One that looks like such a hash is hashed, too: it would be the
 * same as the id that the hash is of.
 */
function storedId(id: string): string {
  if (id.length <= LONGEST_DEDUPE_ID && !id.startsWith(HASHED)) return id;
  return HASHED + createHash('sha256').update(id).digest('hex');
}

function headersOf(where: () => string, given: unknown): Record<string, string> {
  try {
    return copyHeaders(where, given);
  } catch (error) {
    if (isA(error, AppendError)) throw error;
    throw notStorable(where, 'headers', `an object that throws when it is read: ${messageOf(error)}`, error);
  }
}

function copyHeaders(where: () => string, given: unknown): Record<string, string> {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw notStorable(where, 'headers', `${show(given)}; allowed: an object of strings`);
  }
  // A Map, or the Headers of a request: what it holds are not its properties, and nothing of it would be stored.
  if (Symbol.iterator in given) {
    throw notStorable(where, 'headers', `${show(given)}; allowed: an object of strings: use Object.fromEntries()`);
  }
  const headers: Record<string, string> = {};
  for (const name of Object.keys(given)) {
    const path = /^[\w-]+$/.test(name) ? `headers.${name}` : `headers[${JSON.stringify(name)}]`;
    if (!name.isWellFormed() || name.includes('\0') || name === '_bsontype') {
      throw notStorable(
        where,
        path,
        'named so; allowed: names without NUL and without half a surrogate pair, and not `_bsontype`',
      );
    }
    setOwn(headers, name, textOf(where, path, Reflect.get(given, name)));
  }
  return headers;
}

function textOf(where: () => string, path: string, given: unknown, shortest: 0 | 1 = 0): string {
  const atLeast = shortest > 0 ? ' that is not empty' : '';
  if (typeof given !== 'string' || given.length < shortest) {
    throw notStorable(where, path, `${show(given)}; allowed: a string${atLeast}`);
  }
  if (given.isWellFormed()) return given;
  // UTF-8 has no bytes for it: all such strings would become the same one.
  throw notStorable(where, path, 'a string with one half of a surrogate pair; use toWellFormed(), or a hash of it');
}

function notStorable(where: () => string, path: string, what: string, cause?: unknown): AppendError {
  return new AppendError(ErrorCode.NotStorable, `${where()}: ${path} is ${what}`, 'no', { cause, details: { path } });
}
