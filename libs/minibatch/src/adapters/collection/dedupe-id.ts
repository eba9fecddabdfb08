import { createHash } from 'node:crypto';
import { inspect } from 'node:util';
import { EJSON } from 'bson';

/** Stores refuse ids that are longer than this, or contain NUL. */
const LONGEST = 400;

/**
 * Tells the messages of one source apart: namespace and `_id`, then what tells several messages of one document apart. The
 * database's name is part of it, for a source may be pointed at another one.
 */
export function dedupeId(namespace: string, id: unknown, ...more: readonly string[]): string {
  return bounded([namespace, idText(id), ...more].join(':'));
}

/** Two sources of one stream may read collections of the same name, of two servers. */
export function messageId(source: string | undefined, id: string): string {
  return source === undefined ? id : bounded(`${source}:${id}`);
}

function bounded(text: string): string {
  if (text.length <= LONGEST && !text.includes('\0')) return text;
  return `sha256:${createHash('sha256').update(text).digest('hex')}`;
}

/** Strings stay quoted, so that the string '1' and the number 1 are two ids, as they are in the database. */
export function idText(id: unknown): string {
  if (isObjectId(id)) return id.toHexString();
  try {
    return id instanceof Date ? id.toISOString() : EJSON.stringify(id, { relaxed: true });
  } catch {
    // A date beyond those of JavaScript, or a subdocument with a field `_bsontype`.
    return inspect(id, { depth: null, maxArrayLength: null, maxStringLength: null, breakLength: Infinity });
  }
}

export function isObjectId(value: unknown): value is { toHexString(): string; getTimestamp(): Date } {
  // Not by class: the application's driver may have its own copy of the bson package.
  return (
    typeof value === 'object' &&
    value !== null &&
    '_bsontype' in value &&
    value._bsontype === 'ObjectId' &&
    // Otherwise it is a subdocument that has such a field.
    'toHexString' in value &&
    typeof value.toHexString === 'function'
  );
}
