import * as BSON from 'bson';
import { AppendError, ErrorCode, messageOf } from '../errors/minibatch.error.js';
import { tooLargeText } from '../errors/store-faults.js';
import type { Mutable } from '../common/mutable.js';
import type { Message } from '../windows/message.js';
import { BsonDecoder } from './bson-decoder.js';
import { ContentMessage } from './content-message.js';
import { LazyMessage } from './lazy-message.js';
import type { MessageContent, MessageId, NewMessage, StoredMessage } from './stream-store.interface.js';

/**
 * How the stores without a database server keep a message: one run of bytes, made before any transaction begins.
 *
 * ```text
 * 0      flags
 * 1..8   created, milliseconds, big-endian double
 * 9..    BSON { d: data, k?: key, h?: headers, u?: dedupeId, o?: original }
 * ```
 *
 * BSON, so that a value comes back in the same type as from MongoDB, whatever the store. Every int64 in it was a bigint: only
 * this package writes here.
 */
export type EncodedMessage = Buffer;

/** What MongoDB takes, so that a stream can move from one store to the other. */
export const MAX_ENCODED_BYTES = 16 * 1024 * 1024;

const CREATED = 1;
/** Of a `Date`, milliseconds. */
const LATEST = 8.64e15;
const BODY = 9;
const DEDUPED = 1;
const REDRIVEN = 2;
const REPLAYED = 4;
/** The head of a BSON element: a double called `o`. */
const ORIGINAL = Buffer.from('\u0001o\0');
/** The length and the closing zero. */
const EMPTY_BSON = 5;

const decoder = new BsonDecoder(BSON);

interface Body {
  d: unknown;
  k?: string;
  h?: Record<string, string>;
  u?: string;
}

/** @throws AppendError (`stored: 'no'`) if the data can't be stored or is too large */
export function encodeMessage(message: NewMessage): EncodedMessage {
  const body: Body = { d: message.data };
  if (message.key !== undefined) body.k = message.key;
  if (message.headers !== undefined) body.h = message.headers;
  if (message.dedupeId !== undefined) body.u = message.dedupeId;
  const bytes = serialize(body, message.stream);
  if (BODY + bytes.length > MAX_ENCODED_BYTES) throw tooLarge(message.stream, BODY + bytes.length);
  const encoded = Buffer.allocUnsafe(BODY + bytes.length);
  encoded[0] = message.dedupeId === undefined ? 0 : DEDUPED;
  encoded.writeDoubleBE(message.created.getTime(), CREATED);
  encoded.set(bytes, BODY);
  return encoded;
}

/** The bytes must not change afterwards: they are decoded on demand. */
export function decodeMessage(id: MessageId, encoded: EncodedMessage): StoredMessage {
  return new EncodedLazyMessage(id, encoded);
}

class EncodedLazyMessage extends LazyMessage {
  readonly created: Date;
  readonly bytes: number;
  readonly #encoded: EncodedMessage;

  constructor(
    readonly id: MessageId,
    encoded: EncodedMessage,
  ) {
    super();
    this.created = createdOf(encoded);
    this.bytes = encoded.length;
    this.#encoded = encoded;
    if (isDeduped(encoded)) this.deduped = true;
    if (isRedriven(encoded)) this.redriven = true;
  }

  read(): Message {
    return readMessage(this.id, this.#encoded);
  }

  content(): MessageContent {
    return { bson: this.#encoded.subarray(BODY), int64: 'bigint' };
  }

  static encodedOf(message: StoredMessage): EncodedMessage {
    if (message instanceof EncodedLazyMessage) return message.#encoded;
    if (message instanceof ContentMessage) return encodeContent(message);
    throw new TypeError(`message ${message.id} is not one that the store has given out: hand back the object itself`);
  }
}

/** One that was in a row of a consumer's state: its content is that of an encoded message. */
function encodeContent(message: ContentMessage): EncodedMessage {
  const { bson } = message.content();
  const encoded = Buffer.allocUnsafe(BODY + bson.length);
  encoded[0] = 0;
  encoded.writeDoubleBE(message.created.getTime(), CREATED);
  encoded.set(bson, BODY);
  return encoded;
}

/** The bytes of a message as it was fetched. */
export function encodedOf(message: StoredMessage): EncodedMessage {
  return EncodedLazyMessage.encodedOf(message);
}

function readMessage(id: MessageId, encoded: EncodedMessage): Message {
  const { d, k, h } = bodyOf(encoded);
  // Spreads would be a good part of what a message costs.
  const message: Mutable<Message> = { id, data: d, created: createdOf(encoded) };
  if (k !== undefined) message.key = k;
  if (h !== undefined) message.headers = h;
  return message;
}

/** False if what stands around the data is damaged: then nothing can be said of the message, nor can it be put anywhere. */
export function isIntact(encoded: EncodedMessage): boolean {
  if (encoded.length <= BODY || (encoded[0]! & ~(DEDUPED | REDRIVEN | REPLAYED)) !== 0) return false;
  const created = encoded.readDoubleBE(CREATED);
  return Math.abs(created) <= LATEST && Number.isInteger(created);
}

export function createdOf(encoded: EncodedMessage): Date {
  return new Date(encoded.readDoubleBE(CREATED));
}

export function isDeduped(encoded: EncodedMessage): boolean {
  return (encoded[0]! & DEDUPED) !== 0;
}

export function isRedriven(encoded: EncodedMessage): boolean {
  return (encoded[0]! & REDRIVEN) !== 0;
}

/** The message of a dead letter as it goes back into the buffer. */
export function asRedriven(encoded: EncodedMessage): EncodedMessage {
  return withFlags(encoded, REDRIVEN);
}

/**
 * The copy of a kept message as it comes into the buffer.
 *
 * @param original number of the kept message; the copy names it wherever it goes, also as a dead letter
 */
export function asReplayed(encoded: EncodedMessage, original: number): EncodedMessage {
  const length = encoded.length - BODY;
  if (length < EMPTY_BSON || encoded.readInt32LE(BODY) !== length) return withFlags(encoded, REPLAYED | REDRIVEN);
  const end = encoded.length - 1;
  const copy = Buffer.allocUnsafe(encoded.length + ORIGINAL.length + 8);
  encoded.copy(copy);
  copy[0] = (copy[0]! & ~DEDUPED) | REPLAYED | REDRIVEN;
  // One more element before the zero that ends a BSON document. What is in it need not be decoded, and may be undecodable.
  ORIGINAL.copy(copy, end);
  copy.writeDoubleLE(original, end + ORIGINAL.length);
  copy[copy.length - 1] = 0;
  copy.writeInt32LE(copy.length - BODY, BODY);
  return copy;
}

/** Number of the kept message that this is a copy of; undefined if it is none, or one that an earlier version has made. */
export function originalOf(encoded: EncodedMessage): number | undefined {
  const at = encoded.length - 1 - 8 - ORIGINAL.length;
  if (
    !isReplayed(encoded) ||
    at < BODY ||
    encoded.compare(ORIGINAL, 0, ORIGINAL.length, at, at + ORIGINAL.length) !== 0
  )
    return undefined;
  return encoded.readDoubleLE(at + ORIGINAL.length);
}

/** A copy has no dedupe id. */
function withFlags(encoded: EncodedMessage, flags: number): EncodedMessage {
  const copy = Buffer.from(encoded);
  copy[0] = (copy[0]! & ~DEDUPED) | flags;
  return copy;
}

/** The message is kept under another id: it need not be kept once more. */
export function isReplayed(encoded: EncodedMessage): boolean {
  return (encoded[0]! & REPLAYED) !== 0;
}

export function dedupeIdOf(encoded: EncodedMessage): string | undefined {
  if (!isDeduped(encoded)) return undefined;
  try {
    return bodyOf(encoded).u;
  } catch {
    // Damaged: the message has to leave all the same, and what it was called is not known.
    return undefined;
  }
}

/** Any plain value as bytes, for what is not a message: checkpoints and the like. */
export function encodeValue(value: unknown): Buffer {
  return Buffer.from(BSON.serialize({ v: value }));
}

export function decodeValue(bytes: Buffer): unknown {
  return decoder.document<{ v?: unknown }>(bytes, 'bigint').v;
}

function bodyOf(encoded: EncodedMessage): Body {
  return decoder.document<Body>(encoded.subarray(BODY), 'bigint');
}

function serialize(body: Body, stream: string): Uint8Array {
  try {
    // As MongoDB's driver does: `undefined` in data is stored as null, not left out.
    return BSON.serialize(body, { ignoreUndefined: false });
  } catch (error) {
    // The serializer's work space is a little larger than the largest document; what runs over it is too large.
    if (error instanceof RangeError && !messageOf(error).includes('call stack'))
      throw tooLarge(stream, undefined, error);
    throw new AppendError(
      ErrorCode.NotStorable,
      `A message for stream "${stream}" can't be stored: ${messageOf(error)}. Append plain data that BSON can hold`,
      'no',
      { cause: error, details: { stream } },
    );
  }
}

function tooLarge(stream: string, bytes?: number, cause?: unknown): AppendError {
  return new AppendError(
    ErrorCode.MessageTooLarge,
    `stream '${stream}': ${tooLargeText(MAX_ENCODED_BYTES, bytes)}`,
    'no',
    { cause, details: { stream, bytes, allowed: MAX_ENCODED_BYTES } },
  );
}
