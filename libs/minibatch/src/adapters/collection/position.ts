import { EJSON } from 'bson';
import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import type { CursorValue } from './cursor-value.js';

/** Where a change stream begins. */
export type ChangeStart =
  | { readonly startAfter: unknown }
  // Only for servers that give no token before the first event.
  | { readonly startAtOperationTime: unknown };

/** All events before `start` have been read. */
export interface ChangeStreamPosition {
  readonly mode: 'changeStream';
  readonly start: ChangeStart;
  /** From `start` on, the events of the time in which the snapshot was read. */
  readonly overlap?: true;
}

/** The documents with an `_id` below `from` have been read; then the change stream follows, from where it was at the beginning. */
export interface SnapshotPosition {
  readonly mode: 'snapshot';
  readonly start: ChangeStart;
  readonly from?: unknown;
}

/** The documents below `from` have been read (absent: none), and those of `skip` are not to be read. */
export interface CursorPosition {
  readonly mode: 'cursor';
  readonly field: string;
  readonly from?: CursorValue;
  readonly skip?: SkippedDocuments;
}

/** Documents within the look-back that were there before the source was started with `snapshot: false`. */
export interface SkippedDocuments {
  /** Dedupe ids. */
  readonly ids: readonly string[];
  /** The largest value among them. */
  readonly upTo: CursorValue;
}

export type CollectionPosition = ChangeStreamPosition | SnapshotPosition | CursorPosition;

/** Grows when an older version of this file could not read what is written. */
const VERSION = 1;

/** As it is stored: plain data, with BSON values as extended JSON text, so that every store keeps them as they are. */
interface StoredPosition {
  readonly v: number;
  readonly collection: string;
  readonly mode: CollectionPosition['mode'];
  readonly start?: string;
  readonly overlap?: true;
  readonly field?: string;
  readonly from?: string;
  readonly skip?: { readonly ids: readonly string[]; readonly upTo: string };
}

export function encodePosition(collection: string, position: CollectionPosition): StoredPosition {
  const { mode } = position;
  const from = 'from' in position && position.from !== undefined ? { from: encode(position.from) } : {};
  const head = { v: VERSION, collection, mode };
  if (position.mode === 'snapshot') return { ...head, start: encode(position.start), ...from };
  if (position.mode === 'changeStream') {
    return { ...head, start: encode(position.start), ...(position.overlap && { overlap: true }) };
  }
  const { field, skip } = position;
  return { ...head, field, ...from, ...(skip ? { skip: { ids: skip.ids, upTo: encode(skip.upTo) } } : {}) };
}

/** A stored position that this source cannot resume from. */
export interface UnusablePosition {
  readonly unusable: string;
}

/** @throws MinibatchError `SchemaTooNew` if a newer version of the package wrote it */
export function decodePosition(
  where: string,
  collection: string,
  stored: unknown,
): CollectionPosition | UnusablePosition | undefined {
  if (stored === undefined || stored === null) return undefined;
  if (!isStored(stored)) return { unusable: 'it was not written by a CollectionSource' };
  if (stored.v > VERSION) {
    throw new MinibatchError(
      ErrorCode.SchemaTooNew,
      `${where}: the stored position has version ${stored.v}, this package reads up to ${VERSION}: upgrade nestjs-minibatch`,
      { details: { version: stored.v, allowed: VERSION } },
    );
  }
  if (stored.collection !== collection) {
    return { unusable: `it was written for the collection ${stored.collection}, this source reads ${collection}` };
  }
  try {
    return decodeBody(stored) ?? { unusable: 'parts of it are missing' };
  } catch {
    return { unusable: 'it can not be read' };
  }
}

function decodeBody({ mode, start, overlap, field, from, skip }: StoredPosition): CollectionPosition | undefined {
  const rest = from === undefined ? {} : { from: decode(from) };
  if (mode === 'cursor' && field !== undefined) {
    return { mode, field, ...rest, ...(skip ? { skip: { ids: skip.ids, upTo: decode(skip.upTo) } } : {}) };
  }
  if (start === undefined) return undefined;
  const decoded = decode(start) as ChangeStart;
  if (mode === 'changeStream') return { mode, start: decoded, ...(overlap && { overlap }) };
  return mode === 'snapshot' ? { mode, start: decoded, ...rest } : undefined;
}

function isStored(value: unknown): value is StoredPosition {
  return (
    typeof value === 'object' &&
    value !== null &&
    'v' in value &&
    typeof value.v === 'number' &&
    'collection' in value &&
    'mode' in value
  );
}

/** Wrapped, because not every value is a document of its own. */
function encode(value: unknown): string {
  return EJSON.stringify({ value }, { relaxed: false });
}

function decode(text: string): CursorValue {
  const { value } = EJSON.parse(text, { relaxed: false }) as Readonly<Record<string, unknown>>;
  if (value === undefined || value === null) throw new Error('a position without a value');
  return plain(value);
}

/** Extended JSON gives Int32 and Double objects where the driver gives numbers: they would not compare alike. */
function plain(value: CursorValue): CursorValue {
  if (typeof value !== 'object' || !('_bsontype' in value)) return value;
  const isNumber = value._bsontype === 'Int32' || value._bsontype === 'Double';
  return isNumber ? Number(value) : value;
}
