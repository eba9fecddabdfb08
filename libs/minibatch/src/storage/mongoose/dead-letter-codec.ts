import { mongo } from 'mongoose';
import { shownOf } from '../lazy-message.js';
import type { DeadLetter, Lease, NewDeadLetter, StoredMessage } from '../stream-store.interface.js';
import type { RawInsert } from './insert-missing.js';
import { ContentMessage } from '../content-message.js';
import { contentOf, documentOf } from './buffer-message.js';
import { toObjectId } from './message-ids.js';
import { RawDocument } from './raw-document.js';
import { RawValue, sizeOf } from './raw-value.js';
import type { BufferDocument } from './schemas/buffer.schema.js';
import type { DeadletterDocument } from './schemas/deadletter.schema.js';

/** MongoDB's limit of 16 MiB, with some room for what a redrive adds to the letter. */
const MAX_LETTER_BYTES = 16 * 1024 * 1024 - 16 * 1024;
/** Length to which an error and its stack are cut if they do not fit in addition to the message; characters. */
const CLIPPED = 4096;

/**
 * The fields that a letter copies from its message, as bytes. With `replayOf`, a copy of a kept message is still not kept after a redrive.
 */
const CONTENT = ['created', 'data', 'bigints', 'key', 'headers', 'replayOf'] as const;

/** A letter without its message. */
export type DeadLetterHead = Pick<
  DeadletterDocument,
  '_id' | 'stream' | 'group' | 'partition' | 'message' | 'created' | 'died' | 'copies'
>;

/** A letter as it was read. Its message stays encoded. */
export interface StoredDeadLetter {
  readonly head: DeadLetterHead;
  readonly document: RawDocument;
}

/**
 * Begins with the id of the message, so that letters are in the order of the stream. With the group it identifies the letter, so that
 * storing it again changes nothing. The group is encoded in characters that every server and JavaScript sort alike and that may be part of
 * a URL.
 */
export function letterId(messageId: string, group: string): string {
  return `${messageId}.${Buffer.from(group).toString('base64url')}`;
}

/** Copies the bytes of the message, so that a message that can't be decoded or encoded can still become a dead letter. */
export function toLetterInsert({ key }: Lease, letter: NewDeadLetter): RawInsert {
  const { message, window, consumer, attempts, error, stack, died } = letter;
  const { stream, group, partition } = key;
  const content = contentFields(message);
  const document = {
    _id: letterId(message.id, group),
    stream,
    group,
    ...(partition ? { partition } : {}),
    message: toObjectId(message.id),
    ...content,
    window,
    consumer,
    attempts,
    error,
    ...(stack === undefined ? {} : { stack }),
    died,
  };
  return withinLimit(document, Object.values(content).filter(isRaw));
}

/** One that was in a row of the consumer's state has its content under other names. */
function contentFields(message: StoredMessage): mongo.Document {
  if (!(message instanceof ContentMessage)) return copied(documentOf(message));
  const { bson, int64 } = message.content();
  const document = new RawDocument(Buffer.from(bson.buffer, bson.byteOffset, bson.byteLength));
  const [data, key, headers] = [document.raw('d'), document.raw('k'), document.raw('h')];
  return {
    created: message.created,
    ...(data && { data }),
    ...(int64 === 'bigint' && { bigints: true }),
    ...(key && { key }),
    ...(headers && { headers }),
  };
}

function isRaw(value: unknown): value is RawValue {
  return value instanceof RawValue;
}

/** Undefined for a document that is not a dead letter: other programs may write into the collection. */
export function toStoredDeadLetter(document: RawDocument): StoredDeadLetter | undefined {
  const [_id, stream, group, partition, message, created, died, copies] = HEAD.map((name) => document.get(name));
  const isLetter =
    typeof _id === 'string' &&
    typeof stream === 'string' &&
    typeof group === 'string' &&
    message instanceof mongo.ObjectId &&
    created instanceof Date &&
    died instanceof Date;
  if (!isLetter) return undefined;
  const head = { _id, stream, group, message, created, died };
  return {
    head: {
      ...head,
      ...(typeof partition === 'number' && { partition }),
      ...(Array.isArray(copies) && { copies: copies as mongo.ObjectId[] }),
    },
    document,
  };
}

const HEAD = ['_id', 'stream', 'group', 'partition', 'message', 'created', 'died', 'copies'] as const;
/** The least that a read has to ask for. */
export const HEAD_ONLY: mongo.Document = Object.fromEntries(HEAD.map((name) => [name, 1]));

export function toDeadLetter({ head, document }: StoredDeadLetter): DeadLetter {
  const { _id, stream, group, message, created, died } = head;
  const text = (name: string): string => {
    const value = document.get(name);
    return typeof value === 'string' ? value : '';
  };
  const stack = document.get('stack');
  return {
    id: _id,
    stream,
    group,
    messageId: message.toHexString(),
    created,
    ...shownOf(() => contentOf(document)),
    window: text('window'),
    consumer: text('consumer'),
    attempts: Number(document.get('attempts') ?? 0),
    error: text('error'),
    ...(typeof stack === 'string' && { stack }),
    died,
  };
}

/** The message as a redrive puts it back: for its own group only, hidden at first (see `redrive.ts`), and without a dedupe id. */
export function toCopy(letter: StoredDeadLetter, _id: mongo.ObjectId, groups: readonly string[]): RawInsert {
  const { stream, group, partition } = letter.head;
  const done = groups.filter((other) => other !== group);
  const content = copied(letter.document);
  const envelope: Pick<BufferDocument, '_id' | 'stream' | 'processed' | 'partition' | 'done' | 'waits' | 'redrives'> = {
    _id,
    stream,
    processed: true,
    ...(partition ? { partition } : {}),
    ...(done.length > 0 ? { done, waits: [group] } : {}),
    redrives: [letter.head._id, _id],
  };
  const document = { ...envelope, ...content };
  return { document, bytes: sizeOf(document, Object.values(content)) };
}

/** The content of a message, as bytes. */
export function copied(document: RawDocument): Partial<Record<(typeof CONTENT)[number], RawValue>> {
  const content: Partial<Record<(typeof CONTENT)[number], RawValue>> = {};
  for (const name of CONTENT) {
    const value = document.raw(name);
    if (value) content[name] = value;
  }
  return content;
}

/** Cuts the error if the letter would be too large: a message that nearly fills a document must be able to become a dead letter. */
function withinLimit(
  letter: { readonly error: string; readonly stack?: string } & mongo.Document,
  values: readonly RawValue[],
): RawInsert {
  const bytes = sizeOf(letter, values);
  if (bytes <= MAX_LETTER_BYTES) return { document: letter, bytes };
  const { error, stack } = letter;
  const document = {
    ...letter,
    error: error.slice(0, CLIPPED),
    ...(stack !== undefined && { stack: stack.slice(0, CLIPPED) }),
  };
  return { document, bytes: sizeOf(document, values) };
}
