import { mongo } from 'mongoose';
import { holdsBigint } from '../bigints.js';
import type { DeadLetter, Lease, NewDeadLetter } from '../stream-store.interface.js';
import type { BufferDocument } from './schemas/buffer.schema.js';
import type { DeadletterDocument } from './schemas/deadletter.schema.js';

/** MongoDB's 16 MiB; a little is left for what a redrive notes in the letter. */
const MAX_LETTER_BYTES = 16 * 1024 * 1024 - 16 * 1024;
/** What is left of an error, and of its stack, that would not fit beside its message; characters. */
const CLIPPED = 4096;

/**
 * The message's id makes letters come in the order of the stream, and with the group it makes a second burial meet the first.
 * The group in letters that every server and JavaScript sort alike, and that can be part of a URL.
 */
export function letterId(messageId: string, group: string): string {
  return `${messageId}.${Buffer.from(group).toString('base64url')}`;
}

export function toLetterDocument({ key: consumerKey }: Lease, letter: NewDeadLetter): DeadletterDocument {
  const { message, window, consumer, attempts, error, stack, died } = letter;
  const { stream, group, partition } = consumerKey;
  const { id, created, data, key, headers } = message;
  return withinLimit({
    _id: letterId(id, group),
    stream,
    group,
    ...(partition ? { partition } : {}),
    message: mongo.ObjectId.createFromHexString(id),
    created,
    data,
    ...(holdsBigint(data) ? { bigints: true } : {}),
    ...(key === undefined ? {} : { key }),
    ...(headers === undefined ? {} : { headers }),
    window,
    consumer,
    attempts,
    error,
    ...(stack === undefined ? {} : { stack }),
    died,
  });
}

export function toDeadLetter(document: DeadletterDocument): DeadLetter {
  const { _id, stream, group, message, created, data, key, headers, window, consumer, attempts, error, stack, died } =
    document;
  return {
    id: _id,
    stream,
    group,
    messageId: message.toHexString(),
    created,
    data,
    ...(key === undefined ? {} : { key }),
    ...(headers === undefined ? {} : { headers }),
    window,
    consumer,
    attempts,
    error,
    ...(stack === undefined ? {} : { stack }),
    died,
  };
}

/** The message as it comes back: for its own group only, and hidden at first (see `redrive.ts`). Never deduped again. */
export function toCopy(letter: DeadletterDocument, _id: mongo.ObjectId, groups: readonly string[]): BufferDocument {
  const { stream, created, data, bigints, key, headers, partition } = letter;
  const done = groups.filter((group) => group !== letter.group);
  return {
    _id,
    stream,
    created,
    data,
    processed: true,
    ...(bigints ? { bigints } : {}),
    ...(key === undefined ? {} : { key }),
    ...(headers === undefined ? {} : { headers }),
    ...(partition ? { partition } : {}),
    // An empty list would say that somebody has to look again.
    ...(done.length > 0 ? { done } : {}),
    redrives: [letter._id, _id],
  };
}

/** A message may be nearly as large as a document can be; it must not be impossible to give it up. */
function withinLimit(letter: DeadletterDocument): DeadletterDocument {
  if (mongo.BSON.calculateObjectSize(letter, { ignoreUndefined: false }) <= MAX_LETTER_BYTES) return letter;
  const { error, stack } = letter;
  return { ...letter, error: error.slice(0, CLIPPED), ...(stack !== undefined && { stack: stack.slice(0, CLIPPED) }) };
}
