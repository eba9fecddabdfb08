import type { Mutable } from '../common/mutable.js';
import { mergeAll } from '../flow/aggregate-content.js';
import type { Untyped } from '../flow/aggregates.js';
import { keyFrom, type StoredKey, storedKey } from '../flow/slot.js';
import type { FiredWindow } from '../flow/window-logic.js';
import { toStorable } from '../storage/storable.js';
import type { NewMessage } from '../storage/stream-store.interface.js';
import type { Message } from '../windows/message.js';
import type { Bounds, Result } from './window.options.js';

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
}

/** A window that has closed, for what follows it. */
export interface ResultMessage extends Pick<
  FiredWindow,
  'start' | 'end' | 'openedBy' | 'revision' | 'late' | 'partial'
> {
  readonly key: StoredKey;
  /** Accumulators, of which the result is made where it is read: what throws at it is tried there, and blamed on this message. */
  readonly parts: readonly unknown[];
}

export type Draft = Omit<NewMessage, 'dedupeId'>;

/** @throws AppendError `NotStorable`, `MessageTooLarge` */
export function itemMessage(
  stream: string,
  item: { key: string; time: number; data: unknown },
  source: Message,
): Draft {
  const { key, time, data } = item;
  return stored(stream, { key: storedKey(key), time, data } satisfies ItemMessage, key, source.created);
}

/** @throws AppendError `NotStorable`, `MessageTooLarge` */
export function resultMessage(stream: string, fired: FiredWindow, created: Date): Draft {
  const { key, start, end, openedBy, revision, late, partial, parts = [] } = fired;
  const data: Mutable<ResultMessage> = { key: storedKey(key), revision, late, partial, parts };
  if (start !== undefined) data.start = start;
  if (end !== undefined) data.end = end;
  if (openedBy !== undefined) data.openedBy = openedBy;
  return stored(stream, data, key, created);
}

function stored(stream: string, content: object, key: string, created: Date): Draft {
  const { value, bytes, bigints } = toStorable(content);
  // It decides on the partition.
  return { stream, data: value, bytes, bigints, created, key: key.toWellFormed() };
}

export function itemFrom(data: unknown): { readonly key: string; readonly time: number; readonly data: unknown } {
  const { key, ...rest } = data as ItemMessage;
  return { key: keyFrom(key), ...rest };
}

/** @throws what a function of the application throws */
export function resultFrom(data: unknown, aggregate: Untyped): Result<unknown> {
  const { parts, ...message } = data as ResultMessage;
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
