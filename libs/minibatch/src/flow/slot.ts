import { hash } from 'node:crypto';

/** UTF-8 bytes of the longest key that stands in a slot as it is; a slot has at most 256. */
const LONGEST_PLAIN = 128;

/** A key as it is stored in a row: UTF-16 bytes if it is no well-formed text, because UTF-8 has no bytes for half a surrogate pair. */
export type StoredKey = string | Uint8Array;

/**
 * The key that `by` gave, as text; undefined if it is none.
 *
 * Numbers and bigints are their digits: 1 and '1' are one key, because a window shows its key as text, and so does a message.
 * NaN and the infinities are no keys.
 */
export function keyOf(given: unknown): string | undefined {
  if (typeof given === 'string') return given;
  if (typeof given === 'bigint') return String(given);
  return typeof given === 'number' && Number.isFinite(given) ? String(given) : undefined;
}

/**
 * The slot of a row of this key: `kind/=key`, with numbers between them where a key has several rows. The key is the last part, so it may
 * hold anything that a slot may. One that is long, or that a slot can't hold, is `#` and its SHA-256.
 */
export function slotOf(kind: string, key: string, ...numbers: readonly number[]): string {
  const between = numbers.map((number) => `${number}/`).join('');
  return `${kind}/${between}${isPlain(key) ? `=${key}` : `#${hash('sha256', Buffer.from(key, 'utf16le'), 'hex')}`}`;
}

/** The kind of row that is in a slot. */
export function kindOf(slot: string): string {
  return slot.slice(0, slot.indexOf('/'));
}

export function storedKey(key: string): StoredKey {
  return key.isWellFormed() ? key : Buffer.from(key, 'utf16le');
}

export function keyFrom(stored: StoredKey): string {
  return typeof stored === 'string' ? stored : Buffer.from(stored).toString('utf16le');
}

function isPlain(key: string): boolean {
  if (key.length > LONGEST_PLAIN || key.includes('\0') || !key.isWellFormed()) return false;
  return Buffer.byteLength(key) <= LONGEST_PLAIN;
}
