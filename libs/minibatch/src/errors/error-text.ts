import { redact } from './redact.js';

/**
 * Turns whatever was thrown into text. User code may throw anything: a class whose `message` is an object, a getter that
 * throws, a revoked Proxy, a validation error of 25 MB. What is stored, logged and shown is always a string of bounded size
 * and without credentials, and making it never throws.
 */

/** UTF-8 bytes of an error's message that are kept. */
export const MOST_MESSAGE_BYTES = 2_000;
/** UTF-8 bytes of a stack that are kept. */
export const MOST_STACK_BYTES = 4_000;

/** Of a stack, what goes to the message above the frames. */
const STACK_HEAD_BYTES = 1_000;
/** Room for the mark that says how much was cut. */
const MARK_BYTES = 40;
/** Characters of a text that are looked through for credentials. */
const MOST_LOOKED_AT = 500_000;
const UNREADABLE = 'an error that cannot be read';
/** Ours end with their code, which is not to be cut off. */
const CODE_AT_END = / \[MINIBATCH_\w{1,60}\]$/;

/** The message of anything that was thrown; at most `most` bytes. */
export function messageOf(error: unknown, most: number = MOST_MESSAGE_BYTES): string {
  return clean(fullMessageOf(error), most);
}

/** The stack of anything that was thrown, if it has one. A long message is cut, so that the frames below it are kept. */
export function stackOf(error: unknown, most: number = MOST_STACK_BYTES): string | undefined {
  const stack = propertyOf(error, 'stack');
  if (typeof stack !== 'string' || stack === '') return undefined;
  const frames = stack.indexOf('\n    at ');
  if (frames <= 0) return clean(stack, most);
  const head = clean(stack.slice(0, frames), Math.min(STACK_HEAD_BYTES, most));
  return cut(head + stack.slice(frames), most);
}

/** Anything that was thrown, as an `Error`. */
export function asError(thrown: unknown): Error {
  return isA(thrown, Error) ? thrown : new Error(messageOf(thrown), { cause: thrown });
}

/** `instanceof` for what may be a Proxy whose traps throw. */
export function isA<T>(value: unknown, type: abstract new (...args: never[]) => T): value is T {
  try {
    return value instanceof type;
  } catch {
    return false;
  }
}

/** What is left of the text of an error: without credentials, and at most `most` bytes. */
export function clean(text: string, most: number): string {
  if (text.length <= MOST_LOOKED_AT) return cut(redact(text), most);
  // The rest is neither looked through nor shown.
  const [code = ''] = CODE_AT_END.exec(text.slice(-80)) ?? [];
  const rest = Buffer.byteLength(text) - Buffer.byteLength(text.slice(0, MOST_LOOKED_AT)) - code.length;
  return cut(redact(text.slice(0, MOST_LOOKED_AT)) + code, most, rest);
}

/** At most `most` bytes in UTF-8: cut between two characters, with a mark that says how much is missing. */
export function cut(text: string, most: number, missing = 0): string {
  const total = Buffer.byteLength(text);
  if (total <= most && missing === 0) return text;
  const [code = ''] = CODE_AT_END.exec(text.slice(-80)) ?? [];
  const room = Math.max(0, Math.min(total, most) - MARK_BYTES - code.length);
  const bytes = new Uint8Array(room);
  const { read, written } = new TextEncoder().encodeInto(text, bytes);
  return `${text.slice(0, read)} … (${total - written - code.length + missing} bytes cut)${code}`;
}

function fullMessageOf(error: unknown): string {
  if (typeof error === 'string') return error;
  if ((typeof error !== 'object' && typeof error !== 'function') || error === null) return String(error);
  const message = propertyOf(error, 'message');
  if (typeof message === 'string' && message !== '') return message;
  const name = propertyOf(error, 'name');
  const prefix = typeof name === 'string' && name !== '' && isA(error, Error) ? name : '';
  // A message that is no string says something all the same.
  const rest = message === undefined || message === '' ? '' : describe(message);
  if (prefix || rest) return [prefix, rest].filter(Boolean).join(': ');
  return describe(error);
}

function describe(value: unknown): string {
  try {
    const text = String(value);
    if (!text.startsWith('[object ')) return text;
    return JSON.stringify(value) ?? text;
  } catch {
    try {
      // Without a prototype, or with a toString that throws.
      return Object.prototype.toString.call(value);
    } catch {
      return UNREADABLE;
    }
  }
}

/** Undefined where there is no such property, or where its getter or a trap throws. */
export function propertyOf(value: unknown, name: string): unknown {
  try {
    return (value as Record<string, unknown> | null | undefined)?.[name];
  } catch {
    return undefined;
  }
}

/** The code that a driver or a client has given an error, if any. For our own errors: `codeOf`. */
export function foreignCodeOf(error: unknown): unknown {
  return isA(error, Error) ? propertyOf(error, 'code') : undefined;
}
