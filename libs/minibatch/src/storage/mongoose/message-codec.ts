import type { mongo } from 'mongoose';
import type { MessageId, NewMessage, StoredMessage } from '../stream-store.interface.js';
import { decodeField, type RawDocument, type RawField } from './raw-document.js';
import type { BufferDocument } from './schemas/buffer.schema.js';

/** A message as it is inserted. Absent fields stay absent, so that the document looks like one of Python's. */
export function toDocument(message: NewMessage, id: mongo.ObjectId): BufferDocument {
  const { stream, created, data, key, headers, dedupeId, partition } = message;
  const document: BufferDocument = { _id: id, stream, created, data, processed: false };
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
 * A message of the buffer. Its data are decoded when they are asked for: until its window runs they are bytes, which the garbage
 * collector need not look through, and the next read goes out earlier.
 */
export class LazyMessage implements StoredMessage {
  readonly id: MessageId;
  readonly created: Date;
  readonly bytes: number;
  // Mostly absent, and declared only: fields that are not there take no memory.
  declare key?: string;
  declare headers?: Readonly<Record<string, string>>;
  declare doneBy?: readonly string[];
  declare deduped?: boolean;
  declare redriven?: boolean;
  /** Until the data are decoded. */
  #raw: Buffer | undefined;
  /** The data, or their place. */
  #content: unknown;

  constructor(document: RawDocument) {
    const id = document.get('_id') as mongo.ObjectId;
    this.id = id.toHexString();
    this.created = (document.get('created') as Date | null | undefined) ?? id.getTimestamp();
    this.bytes = document.bytes.length;
    // A copy: one message that a strategy leaves behind would keep the whole reply.
    this.#raw = Buffer.from(document.bytes);
    this.#content = document.find('data');
    const key = document.get('key') as string | undefined;
    if (key !== undefined) this.key = key;
    const headers = document.get('headers') as Readonly<Record<string, string>> | undefined;
    if (headers !== undefined) this.headers = headers;
    const done = document.get('done') as string[] | undefined;
    // Where a group keeps the message, nobody may conclude from marks that it can be removed: the list says "look again".
    if (document.get('keep')) this.doneBy = [];
    else if (done !== undefined) this.doneBy = done;
    if (document.get('dedupeKey') !== undefined) this.deduped = true;
    if (document.get('redriven') !== undefined) this.redriven = true;
  }

  get data(): unknown {
    // What prints and compares objects asks the prototype, too.
    if (!(#raw in this)) return undefined;
    if (this.#raw) {
      const field = this.#content as RawField | undefined;
      this.#content = field && decodeField(this.#raw, field);
      this.#raw = undefined;
    }
    return this.#content;
  }
}
