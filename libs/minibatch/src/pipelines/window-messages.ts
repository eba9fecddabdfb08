import type { Mutable } from '../common/mutable.js';
import { bareMessageOf, ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { mergeAll } from '../flow/aggregate-content.js';
import type { Untyped } from '../flow/aggregates.js';
import type { SideNote } from '../flow/side-note.js';
import { keyFrom, type StoredKey, storedKey } from '../flow/slot.js';
import type { FiredWindow } from '../flow/window-logic.js';
import { type Draft, type DraftLabels, draftOf } from './draft.js';
import type { Message } from '../windows/message.js';
import type { Origin } from './message-run.js';
import type { Bounds, Result } from './window.options.js';

/** Characters of a key that decide on the partition. */
const LONGEST_PARTITION_KEY = 256;

/**
 * What the messages of a pipeline's own streams hold. They are stored, and read by later versions: fields may come, and none may change its
 * meaning.
 */

/** What goes into windows, in the stream of a step that does not read its source itself. */
export interface ItemMessage {
  readonly key: StoredKey;
  /** Milliseconds since the epoch. */
  readonly time: number;
  readonly data: unknown;
  /** Of the side that it comes from, if the step has sides. */
  readonly side?: string;
  readonly mark?: number;
  /** Of the message that it was made of. Absent in those of earlier versions. */
  readonly id?: string;
  /** The key of that message; absent: it had none. */
  readonly own?: string;
}

/** What a side says without an item, in the same stream; in that of results, on its way there. */
export interface NoteMessage {
  readonly note: SideNote;
  /** The step that it is for. */
  readonly step: string;
}

/** A window that has closed, for what follows it. */
export interface ResultMessage extends Pick<
  FiredWindow,
  'start' | 'end' | 'openedBy' | 'revision' | 'late' | 'partial'
> {
  readonly key: StoredKey;
  /** Accumulators, of which the result is made where it is read: what throws at it is tried there, and blamed on this message. */
  readonly parts: readonly unknown[];
  /** Why there are none: they can't be in a message. */
  readonly failed?: string;
}

/** @throws AppendError `NotStorable`, `MessageTooLarge` */
export function itemMessage(
  stream: string,
  { key, time, data }: { readonly key: string; readonly time: number; readonly data: unknown },
  { id, key: own, created, headers }: Pick<DraftLabels, 'created' | 'headers'> & Pick<Message, 'id' | 'key'>,
  maxBytes: number,
  note?: SideNote,
): Draft {
  const content: ItemMessage = { key: storedKey(key), time, data, id, ...(own !== undefined && { own }), ...note };
  return draftOf(stream, content, { created, headers, key: partitionKey(key) }, maxBytes);
}

export function noteMessage(stream: string, step: string, note: SideNote, created: number, maxBytes: number): Draft {
  return draftOf(stream, { note, step } satisfies NoteMessage, { created }, maxBytes);
}

/** Undefined if it is no note. */
export function noteFrom(data: unknown): NoteMessage | undefined {
  return typeof data === 'object' && data !== null && 'note' in data && !('key' in data)
    ? (data as NoteMessage)
    : undefined;
}

/** One that can't be stored is stored without its accumulators, and becomes a dead letter: it must not hold up others. */
export function resultMessage(stream: string, fired: FiredWindow, created: number, maxBytes: number): Draft {
  try {
    return draftOfResult(stream, fired, fired.parts ?? [], created, maxBytes);
  } catch (error) {
    return draftOfResult(stream, { ...fired, failed: bareMessageOf(error) }, [], created, maxBytes);
  }
}

function draftOfResult(
  stream: string,
  { key, start, end, openedBy, revision, late, partial, failed }: FiredWindow,
  parts: readonly unknown[],
  created: number,
  maxBytes: number,
): Draft {
  const data: Mutable<ResultMessage> = { key: storedKey(key), revision, late, partial, parts };
  if (parts.length === 0) data.failed = String(failed);
  if (start !== undefined) data.start = start;
  if (end !== undefined) data.end = end;
  if (openedBy !== undefined) data.openedBy = openedBy;
  return draftOf(stream, data, { created, key: partitionKey(key) }, maxBytes);
}

/** Decides on the partition: the same for the same key, and such that it can be stored. */
function partitionKey(key: string): string {
  return key.length <= LONGEST_PARTITION_KEY ? key.toWellFormed() : key.slice(0, LONGEST_PARTITION_KEY).toWellFormed();
}

/** @param message that holds it */
export function itemFrom(
  stored: unknown,
  { created, headers }: Message,
): {
  readonly key: string;
  readonly time: number;
  readonly data: unknown;
  readonly note?: SideNote;
  readonly origin?: Origin;
} {
  const { key, time, data, side, mark, id, own } = stored as ItemMessage;
  const note = side === undefined ? {} : { note: { side, ...(mark !== undefined && { mark }) } };
  const item = { key: keyFrom(key), time, data, ...note };
  if (id === undefined) return item;
  return { ...item, origin: { id, created, ...(own !== undefined && { key: own }), ...(headers && { headers }) } };
}

/** @throws what a function of the application throws */
export function resultFrom(data: unknown, aggregate: Untyped): Result<unknown> {
  const { parts, failed, ...message } = data as ResultMessage;
  if (failed !== undefined) {
    throw new MinibatchError(ErrorCode.StateTooLarge, `a result whose accumulators could not be stored: ${failed}`);
  }
  return resultOf({ ...message, key: keyFrom(message.key) }, aggregate.result(mergeAll(aggregate, parts)));
}

export function resultOf(
  { key, start, end, revision, late, partial }: Omit<FiredWindow, 'value' | 'parts'>,
  value: unknown,
): Result<unknown> {
  const result: Mutable<Result<unknown> & Partial<Bounds>> = { key, value, revision, late, partial };
  if (start !== undefined) result.start = new Date(start);
  if (end !== undefined) result.end = new Date(end);
  return result;
}

/** As it is known to the functions that follow: the same for the same result, whenever it is made. */
export function idOfResult({ key, start, end, openedBy, revision }: FiredWindow): string {
  return [key, start, end, openedBy, revision].map((part) => part ?? '').join('/');
}
