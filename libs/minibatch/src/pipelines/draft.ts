import type { Mutable } from '../common/mutable.js';
import { AppendError, bareMessageOf, codeOf, ErrorCode } from '../errors/minibatch.error.js';
import { toStorable } from '../storage/storable.js';
import type { NewMessage } from '../storage/stream-store.interface.js';
import { labelsOf } from '../streams/message-labels.js';
import { bytesOf } from '../streams/pending-limit.js';

/** A message that a pipeline appends. Its dedupe id is known when its commit is. */
export type Draft = Omit<NewMessage, 'dedupeId'>;

/** For what a store adds to a message: the names of its stream and its window, and marks. */
const ADDED_BYTES = 72 * 1024;

export interface DraftLabels {
  /** Milliseconds since the epoch. */
  readonly created: number;
  /** As an application has given it. */
  readonly key?: unknown;
  readonly headers?: Record<string, string> | undefined;
}

/** @param maxBytes of a message @throws AppendError `NotStorable`, `MessageTooLarge` */
export function draftOf(
  stream: string,
  data: unknown,
  { created, key, headers }: DraftLabels,
  maxBytes: number,
): Draft {
  const where = () => `append to '${stream}'`;
  let stored: ReturnType<typeof toStorable>;
  try {
    stored = toStorable(data, maxBytes);
  } catch (error) {
    const text = `${where()}: ${bareMessageOf(error)}`;
    throw new AppendError(codeOf(error, ErrorCode.NotStorable), text, 'no', { cause: error });
  }
  const { value, bytes, bigints } = stored;
  const message: Mutable<Draft> = { stream, data: value, bytes, bigints, created: new Date(created) };
  Object.assign(message, labelsOf(where, { key, headers }));
  const total = bytesOf(message);
  const most = maxBytes - ADDED_BYTES;
  if (total <= most) return message;
  // The store would refuse the whole commit for it.
  const text = `${where()}: the message has ${total} bytes with its key and headers, at most ${most} can be stored: split it, or store a reference to it`;
  throw new AppendError(ErrorCode.MessageTooLarge, text, 'no');
}
