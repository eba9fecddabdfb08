import { type Document, EJSON } from 'bson';
import { refuseWindow } from '../returned-window.js';
import { ResultRefused } from '../../errors/minibatch.error.js';

/**
 * The documents that are stored for a result: one for each element of an array, otherwise one. Undefined and undefined elements
 * give none; anything that is not a document (a number, a string, null, a date, …) is stored as `{ value }`.
 *
 * @throws ResultRefused for a function or a symbol, of which nothing would be stored
 */
export function documentsOf(result: unknown): readonly (Document | undefined)[] {
  if (!Array.isArray(result)) return [documentOf(result)];
  return result.map((element: unknown) => documentOf(element));
}

function documentOf(result: unknown): Document | undefined {
  refuseWindow(result);
  const value = plainOf(result);
  if (value === undefined) return undefined;
  if (typeof value === 'function' || typeof value === 'symbol') {
    throw new ResultRefused(`the result is, or contains, a ${typeof value}, which MongoDB cannot store`);
  }
  // A copy: the driver adds an `_id` to what it inserts, and the result is the handler's.
  return isDocument(value) ? { ...value } : { value };
}

/** What the object says it is to be stored as: a Mongoose document is its plain content. */
function plainOf(value: unknown): unknown {
  if (value instanceof Map) return Object.fromEntries(value as Map<string, unknown>);
  return knowsItsBson(value) ? value.toBSON() : value;
}

function knowsItsBson(value: unknown): value is { toBSON(): unknown } {
  return typeof value === 'object' && value !== null && 'toBSON' in value && typeof value.toBSON === 'function';
}

function isDocument(value: unknown): value is Document {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  if ('_bsontype' in value) return false;
  return !(value instanceof Date || value instanceof RegExp || ArrayBuffer.isView(value));
}

/** An id as it stands in a message. */
export function idText(id: unknown): string {
  return typeof id === 'string' ? `'${id}'` : EJSON.stringify(id, { relaxed: true });
}
