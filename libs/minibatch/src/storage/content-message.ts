import * as BSON from 'bson';
import type { Message } from '../windows/message.js';
import { BsonDecoder } from './bson-decoder.js';
import { LazyMessage } from './lazy-message.js';
import type { MessageContent, MessageId, StoredMessage } from './stream-store.interface.js';

const decoder = new BsonDecoder(BSON);

/**
 * A message that has left the buffer, and is kept as its content, in a row of a consumer's state. Stores make dead letters of it as of those
 * that they have given out.
 */
export class ContentMessage extends LazyMessage {
  readonly #content: MessageContent;

  /** @param bytes size as it was stored in the buffer */
  constructor(
    readonly id: MessageId,
    readonly created: Date,
    readonly bytes: number,
    content: MessageContent,
  ) {
    super();
    this.#content = content;
  }

  read(): Message {
    const { bson, int64 } = this.#content;
    const bytes = Buffer.from(bson.buffer, bson.byteOffset, bson.byteLength);
    return { id: this.id, created: new Date(this.created), ...readContent(decoder.document(bytes, int64)) };
  }

  content(): MessageContent {
    return this.#content;
  }
}

/** The content of a message as bytes, whatever store it comes from. @throws whatever its store throws if it can't be decoded */
export function contentOf(message: StoredMessage): MessageContent {
  if (message.content) return message.content();
  const { data, key, headers } = message.read();
  const content = { d: data, ...(key !== undefined && { k: key }), ...(headers !== undefined && { h: headers }) };
  return { bson: BSON.serialize(content, { ignoreUndefined: false }), int64: 'bigint' };
}

/** Other programs may have written the message: a key or headers that are not texts are left out. */
export function readContent({ d, k, h }: Record<string, unknown>): Omit<Message, 'id' | 'created'> {
  return { data: d, ...(typeof k === 'string' && { key: k }), ...(isTexts(h) && { headers: h }) };
}

function isTexts(headers: unknown): headers is Readonly<Record<string, string>> {
  if (typeof headers !== 'object' || headers === null || Array.isArray(headers)) return false;
  return Object.values(headers).every((value) => typeof value === 'string');
}
