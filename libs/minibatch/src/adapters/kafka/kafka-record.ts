import { crc32 } from 'node:zlib';
import type { IHeaders, KafkaMessage } from 'kafkajs';
import { textOfBytes, textOfValues } from '../source-text.js';

/** A message of Kafka, as own functions get it. */
export interface KafkaRecord {
  /** `topic:partition:offset`: where it lies. A topic that is deleted and created again has the same places again. */
  readonly id: string;
  /** The cluster's id; empty if the brokers have none. */
  readonly cluster: string;
  readonly topic: string;
  readonly partition: number;
  /** A 64-bit integer. */
  readonly offset: string;
  /** The producer's or the broker's, as the topic is configured. */
  readonly timestamp: Date;
  /**
   * The key as text: UTF-8 as it is, otherwise `base64:` and the bytes in base64, so too for control characters (a binary number) and for
   * a text that begins with `base64:`. Undefined for none.
   */
  readonly key: string | undefined;
  /** The key as it came; null for none. */
  readonly keyBytes: Buffer | null;
  /** Those of the producer. Values are texts as the key is; several of one name are a JSON array; null alone is left out. */
  readonly headers: Readonly<Record<string, string>>;
  /** All values of each header, in their order, as they came. */
  readonly headerBytes: Readonly<Record<string, readonly (Buffer | null)[]>>;
  /** Null for a tombstone. */
  readonly value: Buffer | null;
}

/** Headers that a source adds, by what they hold. They replace the producer's own of the same names. */
export const RECORD_HEADERS = {
  topic: 'kafka-topic',
  partition: 'kafka-partition',
  offset: 'kafka-offset',
  /** Milliseconds since the epoch. */
  timestamp: 'kafka-timestamp',
} as const;

/** Where records come from. */
export interface RecordOrigin {
  readonly cluster: string;
  readonly topic: string;
  readonly partition: number;
}

export function recordOf({ cluster, topic, partition }: RecordOrigin, message: KafkaMessage): KafkaRecord {
  const { offset, timestamp, key, value, headers } = message;
  const headerBytes = valuesOf(headers);
  return {
    id: `${topic}:${partition}:${offset}`,
    cluster,
    topic,
    partition,
    offset,
    timestamp: new Date(Number(timestamp)),
    key: key === null ? undefined : textOfBytes(key),
    keyBytes: key,
    headers: textsOf(headerBytes),
    headerBytes,
    value,
  };
}

/** The headers of the stream's message. */
export function messageHeaders(record: KafkaRecord): Record<string, string> {
  return {
    ...record.headers,
    [RECORD_HEADERS.topic]: record.topic,
    [RECORD_HEADERS.partition]: String(record.partition),
    [RECORD_HEADERS.offset]: record.offset,
    [RECORD_HEADERS.timestamp]: String(record.timestamp.getTime()),
  };
}

/**
 * The same for a record that is redelivered, another for any other. Clusters may have topics of one name, and a topic that was
 * deleted and created again begins with the same offsets: time and contents tell their records apart.
 */
export function identityOf({ cluster, id, timestamp, keyBytes, value }: KafkaRecord): string {
  const contents = crc32(value ?? '', crc32(keyBytes ?? ''));
  return `${cluster}:${id}:${timestamp.getTime()}:${contents.toString(16)}`;
}

type HeaderBytes = KafkaRecord['headerBytes'];

const NO_HEADERS: Readonly<Record<string, never>> = Object.freeze({});

/**
 * For a name that every object has, as `constructor`, kafkajs takes what that has as a first value. So whatever is no value of a header
 * is left out.
 */
function valuesOf(headers: IHeaders | undefined): HeaderBytes {
  const names = headers === undefined ? [] : Object.keys(headers);
  if (names.length === 0) return NO_HEADERS;
  // By entries: a header may have the name `__proto__`.
  return Object.fromEntries(
    names.map((name) => {
      const given: unknown = headers?.[name];
      return [name, (Array.isArray(given) ? (given as unknown[]) : [given]).flatMap(valueOf)];
    }),
  );
}

function valueOf(value: unknown): (Buffer | null)[] {
  if (value === null || Buffer.isBuffer(value)) return [value];
  return typeof value === 'string' ? [Buffer.from(value)] : [];
}

function textsOf(headers: HeaderBytes): Readonly<Record<string, string>> {
  if (headers === NO_HEADERS) return NO_HEADERS;
  return Object.fromEntries(
    Object.entries(headers).flatMap(([name, values]) => {
      const text = textOfValues(values.map((value) => value && textOfBytes(value)));
      // A name can have what no store takes in one.
      return text === undefined ? [] : [[textOfBytes(Buffer.from(name)), text]];
    }),
  );
}
