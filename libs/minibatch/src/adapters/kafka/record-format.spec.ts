import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { KafkaRecord } from './kafka-record.js';
import { decode, plainValue, type RecordFormat } from './record-format.js';

const recordWith = (value: string | Buffer | null): KafkaRecord => ({
  id: 't:0:0',
  cluster: 'c',
  topic: 't',
  partition: 0,
  offset: '0',
  timestamp: new Date(0),
  key: undefined,
  keyBytes: null,
  headers: {},
  headerBytes: {},
  value: typeof value === 'string' ? Buffer.from(value) : value,
});
const bad = Buffer.from([0x7b, 0xff]);

const malformed = (message: RegExp, cause?: new () => Error) => ({
  malformed: expect.objectContaining({
    message: expect.stringMatching(message) as string,
    ...(cause && { cause: expect.any(cause) as Error }),
  }) as Error,
});

describe('decoding a value', () => {
  it.each<[RecordFormat, string | Buffer | null, unknown]>([
    ['json', '{"a":[1]}', { data: { a: [1] } }],
    ['json', ' 1 ', { data: 1 }],
    ['json', null, { data: null }],
    ['json', '', malformed(/^it is not JSON: /, SyntaxError)],
    ['json', '\uFEFF{}', malformed(/^it is not JSON: /, SyntaxError)],
    ['json', bad, malformed(/^it is not UTF-8$/)],
    ['json', '{"id":9007199254740993}', { data: { id: 9007199254740993n } }],
    ['json', '1e400', malformed(/^it is not JSON: 1e400 is too large for a number/, SyntaxError)],
    ['string', 'é', { data: 'é' }],
    ['string', '', { data: '' }],
    ['string', null, { data: null }],
    ['string', bad, malformed(/^it is not UTF-8$/)],
    ['bytes', bad, { data: bad }],
    ['bytes', null, { data: null }],
    [({ value }) => value?.length, 'abc', { data: 3 }],
    [() => Promise.reject(new Error('no schema')), 'a', malformed(/^format threw: no schema$/, Error)],
  ])('%# %s', async (format, value, expected) => {
    expect(await decode(format, recordWith(value), 'bigint')).toEqual(expected);
  });

  it('keeps what is malformed as text, or as bytes', () => {
    expect(plainValue(recordWith('{'))).toBe('{');
    expect(plainValue(recordWith(bad))).toEqual(bad);
    expect(plainValue(recordWith(null))).toBeNull();
  });

  it('never throws, whatever the bytes are', async () => {
    const bytes = fc.oneof(
      fc.uint8Array(),
      fc.json().map((text) => new Uint8Array(Buffer.from(text))),
      fc
        .constantFrom('['.repeat(10_000), '{"a":1e999', '-9'.repeat(20))
        .map((text) => new Uint8Array(Buffer.from(text))),
    );
    await fc.assert(
      fc.asyncProperty(bytes, fc.constantFrom('json', 'string', 'bytes'), async (value, format) => {
        const decoded = await decode(format, recordWith(Buffer.from(value)), 'bigint');
        expect('data' in decoded || decoded.malformed instanceof Error).toBe(true);
      }),
    );
  });
});
