import type { mongo } from 'mongoose';
import type { Mutable } from '../../common/mutable.js';
import type { Message } from '../../windows/message.js';
import { holdsBigint } from '../bigints.js';
import type { Int64 } from '../bson-decoder.js';
import { LazyMessage } from '../lazy-message.js';
import type { MessageContent, MessageId, NewMessage, StoredMessage } from '../stream-store.interface.js';
import { decodeField, int64Of, RawDocument, type RawField } from './raw-document.js';
import type { BufferDocument } from './schemas/buffer.schema.js';

/** Of a BSON document: its length, and the zero that ends it. */
const DOCUMENT_BYTES = 5;
/** Of an element whose name has one character: its type, and its name. */
const ELEMENT_BYTES = 3;

/** A message as it is inserted. Absent fields stay absent, so that the document looks like one of Python's. */
export function toDocument(message: NewMessage, id: mongo.ObjectId): BufferDocument {
  const { stream, created, data, bigints = holdsBigint(data), key, headers, dedupeId, partition } = message;
  const document: BufferDocument = { _id: id, stream, created, data, processed: false };
  if (bigints) document.bigints = true;
  if (key !== undefined) document.key = key;
  if (headers !== undefined) document.headers = headers;
  if (dedupeId !== undefined) document.dedupeKey = dedupeKey(stream, dedupeId);
  if (partition) document.partition = partition;
  return document;
}

export function dedupeKey(stream: string, dedupeId: string): string {
  return `${stream}\0${dedupeId}`;
}

/**
 * A message of the buffer. It copies the bytes of its document: otherwise one message that a strategy holds on to would keep a whole reply
 * in memory.
 */
export class BufferMessage extends LazyMessage {
  readonly id: MessageId;
  readonly created: Date;
  readonly bytes: number;
  /** Groups that had committed the message when it was read; absent if none had. */
  declare done?: readonly string[];
  /** Set if a group keeps the message. */
  declare keep?: boolean;
  /** Set if it is the copy of a kept message. */
  declare replayed?: boolean;
  readonly #raw: Buffer;
  readonly #time: number;
  readonly #data: RawField | undefined;
  readonly #int64: Int64;
  readonly #key: RawField | undefined;
  readonly #headers: RawField | undefined;
  readonly #groupsVersion: number | undefined;

  /** @param groupsVersion what was known of the stream's list of groups when the read was sent, see `GroupListVersions` */
  constructor(document: RawDocument, groupsVersion?: number) {
    super();
    this.#groupsVersion = groupsVersion;
    const { bytes, messageFields: fields } = document;
    const decoded = (field: RawField | undefined) => field && decodeField(bytes, field);
    this.id = (decoded(fields._id) as mongo.ObjectId).toHexString();
    this.created = decoded(fields.created) as Date;
    this.bytes = bytes.length;
    this.#raw = Buffer.from(bytes);
    this.#time = this.created.getTime();
    this.#data = fields.data;
    this.#int64 = fields.bigints ? 'bigint' : 'auto';
    this.#key = fields.key;
    this.#headers = fields.headers;
    if (fields.done) this.done = decoded(fields.done) as string[];
    if (decoded(fields.keep)) this.keep = true;
    if (fields.dedupeKey) this.deduped = true;
    if (fields.redriven) {
      this.redriven = true;
      if (fields.replayOf) this.replayed = true;
    } else if (fields.cleared) this.cleared = true;
  }

  /** A getter, so that it does not count when messages are compared. */
  get groupsVersion(): number | undefined {
    return this.#groupsVersion;
  }

  read(): Message {
    const bytes = this.#raw;
    return {
      id: this.id,
      created: new Date(this.#time),
      ...decoded(bytes, this.#int64, this.#data, this.#key, this.#headers),
    };
  }

  content(): MessageContent {
    return { bson: renamed(this.#raw, { d: this.#data, k: this.#key, h: this.#headers }), int64: this.#int64 };
  }

  static documentOf(message: StoredMessage): RawDocument {
    if (message instanceof BufferMessage) return new RawDocument(message.#raw);
    throw new TypeError(`message ${message.id} is not one that the store has given out: hand back the object itself`);
  }
}

/** A document of these fields under other names, each of one character. */
function renamed(bytes: Buffer, fields: Readonly<Record<string, RawField | undefined>>): Buffer {
  let size = DOCUMENT_BYTES;
  for (const field of Object.values(fields)) if (field) size += ELEMENT_BYTES + field[4];
  const document = Buffer.allocUnsafe(size);
  let at = document.writeInt32LE(size);
  for (const [name, field] of Object.entries(fields)) {
    if (!field) continue;
    const [type, , , from, length] = field;
    at = document.writeUInt8(type, at);
    at += document.write(`${name}\0`, at, 'latin1');
    at += bytes.copy(document, at, from, from + length);
  }
  document[at] = 0;
  return document;
}

/** The document of a message as it was fetched. */
export function documentOf(message: StoredMessage): RawDocument {
  return BufferMessage.documentOf(message);
}

type Content = Omit<Message, 'id' | 'created'>;

/** The content of the message in a document of the buffer or in a dead letter. */
export function contentOf(document: RawDocument): Content {
  const [data, key, headers] = [document.find('data'), document.find('key'), document.find('headers')];
  return decoded(document.bytes, int64Of(document), data, key, headers);
}

/** Other programs may have written the document: a key or headers that are not strings are left out, and stay in the document. */
function decoded(bytes: Buffer, int64: Int64, data?: RawField, keyField?: RawField, headersField?: RawField): Content {
  const key = keyField && decodeField(bytes, keyField);
  const headers = headersField && decodeField(bytes, headersField);
  const content: Mutable<Content> = { data: data && decodeField(bytes, data, int64) };
  if (typeof key === 'string') content.key = key;
  if (isTexts(headers)) content.headers = headers;
  return content;
}

function isTexts(headers: unknown): headers is Readonly<Record<string, string>> {
  if (typeof headers !== 'object' || headers === null || Array.isArray(headers)) return false;
  return Object.values(headers).every((value) => typeof value === 'string');
}
