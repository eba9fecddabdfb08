import { mongo } from 'mongoose';
import { BsonDecoder, type Int64 } from '../bson-decoder.js';
import { RawValue } from './raw-value.js';

const { onDemand } = mongo.BSON;
const decoder = new BsonDecoder(mongo.BSON);

type Elements = ReturnType<typeof onDemand.parseToElements>;

/** A field of a raw document and its position. */
export type RawField = Elements extends Iterable<infer E> ? E : never;

const MESSAGE_FIELDS = [
  '_id',
  'created',
  'data',
  'done',
  'waits',
  'partition',
  'key',
  'headers',
  'dedupeKey',
  'bigints',
  'keep',
  'redriven',
  'replayOf',
  'cleared',
] as const;
type MessageField = (typeof MESSAGE_FIELDS)[number];

/** Those that the document has. */
export type MessageFields = { [name in MessageField]?: RawField };

const NONE: readonly MessageField[] = [];
const NAMES_BY_LENGTH: MessageField[][] = [];
for (const name of MESSAGE_FIELDS) (NAMES_BY_LENGTH[name.length] ??= []).push(name);

/** A document as the server sent it. Fields are decoded when they are asked for. */
export class RawDocument {
  private readonly fields: Elements;
  private known: MessageFields | undefined;

  constructor(readonly bytes: Buffer) {
    this.fields = onDemand.parseToElements(bytes);
  }

  /** Undefined if there is no such field. */
  get(name: string): unknown {
    const field = this.find(name);
    return field && decodeField(this.bytes, field);
  }

  /** As its bytes; undefined if there is no such field. */
  raw(name: string): RawValue | undefined {
    const field = this.find(name);
    if (!field) return undefined;
    const [type, , , at, length] = field;
    return new RawValue(type, this.bytes.subarray(at, at + length));
  }

  /** What the reads of the buffer look at in each document, found in one pass. */
  get messageFields(): MessageFields {
    return (this.known ??= this.findMessageFields());
  }

  private findMessageFields(): MessageFields {
    const found: MessageFields = {};
    for (const field of this.fields) {
      for (const name of NAMES_BY_LENGTH[field[2]] ?? NONE) {
        if (!isNamed(this.bytes, field, name)) continue;
        found[name] ??= field;
        break;
      }
    }
    return found;
  }

  /** `name`: ASCII. */
  find(name: string): RawField | undefined {
    for (const field of this.fields) if (isNamed(this.bytes, field, name)) return field;
    return undefined;
  }
}

function isNamed(bytes: Buffer, [, at, length]: RawField, name: string): boolean {
  if (length !== name.length) return false;
  for (let i = 0; i < length; i += 1) if (bytes[at + i] !== name.charCodeAt(i)) return false;
  return true;
}

/** The value of the field. `bytes`: its document. */
export function decodeField(bytes: Buffer, [type, , , at]: RawField, int64: Int64 = 'auto'): unknown {
  return decoder.value(bytes, type, at, int64);
}

/** How an int64 in the data of a message is decoded. The document is a message or a dead letter. */
export function int64Of(document: RawDocument): Int64 {
  return document.find('bigints') ? 'bigint' : 'auto';
}

/** Ignores the options of the application's connection, which must not change how data are decoded. */
export function decode<D extends object = Record<string, unknown>>(bytes: Buffer, int64: Int64 = 'auto'): D {
  return decoder.document<D>(bytes, int64);
}
