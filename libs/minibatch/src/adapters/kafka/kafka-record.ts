import { isUtf8 } from 'node:buffer';
import type { IHeaders, KafkaMessage } from 'kafkajs';

/** A message of Kafka, as own functions get it. */
export interface KafkaRecord {
  /** `topic:partition:offset`: no other record of the cluster has it. */
  readonly id: string;
  readonly topic: string;
  readonly partition: number;
  /** A 64-bit integer. */
  readonly offset: string;
  /** The producer's or the broker's, as the topic is configured. */
  readonly timestamp: Date;
  /** UTF-8, else the bytes in base64; undefined for none. */
  readonly key: string | undefined;
  /** Those of the producer; values as the key's, several of one name joined by `', '`. */
  readonly headers: Readonly<Record<string, string>>;
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

export function recordOf(topic: string, partition: number, message: KafkaMessage): KafkaRecord {
  const { offset, timestamp, key, value, headers } = message;
  return {
    id: `${topic}:${partition}:${offset}`,
    topic,
    partition,
    offset,
    timestamp: new Date(Number(timestamp)),
    key: key === null ? undefined : textOf(key),
    headers: headersOf(headers),
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

const NO_HEADERS: Readonly<Record<string, string>> = Object.freeze({});

function headersOf(headers: IHeaders | undefined): Readonly<Record<string, string>> {
  const entries: [string, string][] = [];
  for (const name in headers) {
    const value = headers[name];
    if (value === undefined || value === null) continue;
    entries.push([name, Array.isArray(value) ? value.map(textOf).join(', ') : textOf(value)]);
  }
  // By entries: a header may have the name `__proto__`.
  return entries.length === 0 ? NO_HEADERS : Object.fromEntries(entries);
}

function textOf(bytes: Buffer | string): string {
  if (typeof bytes === 'string') return bytes;
  return bytes.toString(isUtf8(bytes) ? 'utf8' : 'base64');
}
