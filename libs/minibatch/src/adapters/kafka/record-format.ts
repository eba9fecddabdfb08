import { isUtf8 } from 'node:buffer';
import { messageOf } from '../../errors/minibatch.error.js';
import { type LargeIntegers, readJson } from '../../common/json-reader.js';
import type { KafkaRecord } from './kafka-record.js';

/**
 * What the values of a topic are.
 *
 * - `'json'`: parsed; anything but JSON is malformed
 * - `'string'`: UTF-8 text; other bytes are malformed
 * - `'bytes'`: a `Buffer`
 * - a function returns the data of the record (Avro, Protobuf, a registry of schemas); a record that it throws for is malformed.
 *   Undefined leaves the record out
 */
export type RecordFormat<T = unknown> =
  'json' | 'string' | 'bytes' | ((record: KafkaRecord) => T | undefined | Promise<T | undefined>);

export type Decoded = { readonly data: unknown } | { readonly malformed: Error };

/** A tombstone has no value that could be malformed: it is null in every format but a custom one. */
export function decode(
  format: RecordFormat,
  record: KafkaRecord,
  largeIntegers: LargeIntegers,
): Decoded | Promise<Decoded> {
  if (typeof format === 'function') return decodeByFunction(format, record);
  const { value } = record;
  if (value === null) return { data: null };
  if (format === 'bytes') return { data: value };
  if (!isUtf8(value)) return { malformed: new Error('it is not UTF-8') };
  const text = value.toString('utf8');
  if (format === 'string') return { data: text };
  try {
    return { data: readJson(text, largeIntegers) };
  } catch (error) {
    return { malformed: new Error(`it is not JSON: ${messageOf(error)}`, { cause: error }) };
  }
}

async function decodeByFunction(format: Exclude<RecordFormat, string>, record: KafkaRecord): Promise<Decoded> {
  try {
    return { data: await format(record) };
  } catch (error) {
    return { malformed: new Error(`format threw: ${messageOf(error)}`, { cause: error }) };
  }
}

/** The value as it came: text if it is UTF-8, otherwise bytes. */
export function plainValue({ value }: KafkaRecord): string | Buffer | null {
  return value !== null && isUtf8(value) ? value.toString('utf8') : value;
}
