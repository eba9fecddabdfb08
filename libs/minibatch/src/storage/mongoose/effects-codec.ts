import { tooLargeText } from '../../errors/store-faults.js';
import { mongo } from 'mongoose';
import { AppendError, ErrorCode } from '../../errors/minibatch.error.js';
import { holdsBigint } from '../bigints.js';
import { createdOf, decodeMessage, encodeMessage } from '../encoded-message.js';
import type { Effects, NewMessage, StateRow } from '../stream-store.interface.js';
import { MAX_DOCUMENT_MESSAGE_BYTES } from './message-limit.js';
import { RawDocument } from './raw-document.js';
import type { ConsumerDocument, StoredEffects, StoredOutput, StoredRow } from './schemas/consumer.schema.js';

/** What a row or a message takes in a document beside its slot and its value: an upper bound. */
export const ENTRY_BYTES = 64;
/** What the document of a message has in addition to its encoded bytes, apart from names. */
const ENVELOPE_BYTES = 256;
/** Bytes in UTF-8 for one UTF-16 unit. */
const MOST_BYTES_OF_A_CHARACTER = 3;

export interface WindowEffects {
  readonly seq: number;
  readonly effects: StoredEffects;
}

/** What decided the effects. */
export interface Decision {
  readonly fence: number;
  /** The state that the rows belong to. */
  readonly state: mongo.ObjectId;
  /** Names the window for messages that bring no dedupe id of their own. */
  readonly window: string;
}

/**
 * As they are stored, with copies of all bytes. Undefined if there is nothing in them.
 *
 * @throws AppendError if a message can't be stored
 */
export function toStoredEffects(
  { put = [], remove = [], append = [] }: Effects,
  { fence, state, window }: Decision,
): StoredEffects | undefined {
  if (put.length + remove.length + append.length === 0) return undefined;
  return {
    fence,
    state,
    ...(put.length > 0 && { put: put.map(toStoredRow) }),
    ...(remove.length > 0 && { remove: [...remove] }),
    ...(append.length > 0 && {
      append: append.map((message, n) => toStoredOutput({ dedupeId: `${window}:${n}`, ...message })),
    }),
  };
}

function toStoredRow({ slot, value, due }: StateRow): StoredRow {
  return { slot, value: new mongo.Binary(Buffer.from(value)), ...(due !== undefined && { due: due.getTime() }) };
}

function toStoredOutput(message: NewMessage): StoredOutput {
  const { stream, partition, data, bigints = holdsBigint(data), dedupeId = '' } = message;
  const body = encodeMessage(message);
  const names = 2 * stream.length + dedupeId.length;
  const bytes = body.length + ENVELOPE_BYTES + MOST_BYTES_OF_A_CHARACTER * names;
  if (bytes > MAX_DOCUMENT_MESSAGE_BYTES) {
    throw new AppendError(
      ErrorCode.MessageTooLarge,
      `stream '${stream}': ${tooLargeText(MAX_DOCUMENT_MESSAGE_BYTES, bytes)}`,
      'no',
      { details: { stream, bytes, allowed: MAX_DOCUMENT_MESSAGE_BYTES } },
    );
  }
  return {
    stream,
    ...(partition !== undefined && { partition }),
    ...(bigints && { bigints: true }),
    body: new mongo.Binary(body),
  };
}

/** The message as it is appended. Its data go into the buffer as the bytes that were decided. */
export function toMessage({ stream, partition, bigints, body }: StoredOutput): NewMessage {
  const encoded = bytesOf(body);
  const { bson = encoded } = decodeMessage('', encoded).content?.() ?? {};
  const document = new RawDocument(asBuffer(bson));
  const key = document.get('k') as string | undefined;
  const headers = document.get('h') as Record<string, string> | undefined;
  return {
    stream,
    data: document.raw('d'),
    bytes: encoded.length,
    bigints: bigints === true,
    created: createdOf(encoded),
    dedupeId: document.get('u') as string,
    ...(key !== undefined && { key }),
    ...(headers !== undefined && { headers }),
    ...(partition !== undefined && { partition }),
  };
}

/** What the effects take in the consumer's document: an upper bound. */
export function sizeOfEffects({ put = [], remove = [], append = [] }: StoredEffects): number {
  let bytes = ENTRY_BYTES * (1 + put.length + remove.length + append.length);
  for (const { slot, value } of put) bytes += Buffer.byteLength(slot) + value.length();
  for (const slot of remove) bytes += Buffer.byteLength(slot);
  for (const { stream, body } of append) bytes += Buffer.byteLength(stream) + body.length();
  return bytes;
}

/** Without a copy. */
export function bytesOf(binary: mongo.Binary): Buffer {
  return asBuffer(binary.buffer).subarray(0, binary.length());
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** In the order of `seq`; what others have put there is passed over. */
export function effectsIn({ effects = {} }: Pick<ConsumerDocument, 'effects'>): WindowEffects[] {
  return Object.entries(effects)
    .map(([seq, each]) => ({ seq: Number(seq), effects: each }))
    .filter(({ seq, effects: each }) => Number.isSafeInteger(seq) && typeof each?.fence === 'number')
    .toSorted((a, b) => a.seq - b.seq);
}
