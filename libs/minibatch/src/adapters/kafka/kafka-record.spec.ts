import type { KafkaMessage } from 'kafkajs';
import { describe, expect, it } from 'vitest';
import { messageHeaders, recordOf } from './kafka-record.js';

const message = (parts: Partial<KafkaMessage>): KafkaMessage =>
  ({ key: null, value: null, timestamp: '1700000000000', attributes: 0, offset: '7', ...parts }) as KafkaMessage;

describe('a record', () => {
  it('is named by topic, partition and offset, whatever the offset’s size', () => {
    const record = recordOf('flights', 3, message({ offset: '9223372036854775807' }));
    expect(record).toEqual({
      id: 'flights:3:9223372036854775807',
      topic: 'flights',
      partition: 3,
      offset: '9223372036854775807',
      timestamp: new Date(1_700_000_000_000),
      key: undefined,
      headers: {},
      value: null,
    });
  });

  it('has its key as text, or in base64 if it is none', () => {
    const keyOf = (key: Buffer) => recordOf('t', 0, message({ key })).key;
    expect(keyOf(Buffer.from('Zürich'))).toBe('Zürich');
    expect(keyOf(Buffer.from([0xff, 0x00]))).toBe('/wA=');
    expect(keyOf(Buffer.alloc(0))).toBe('');
  });

  it('has its headers as text: several of a name joined, hostile names kept, absent values left out', () => {
    const headers = JSON.parse('{"a":"x","__proto__":"p"}') as Record<string, string>;
    const record = recordOf(
      't',
      0,
      message({ headers: { ...headers, ['__proto__']: 'p', many: ['1', Buffer.from('2')], none: undefined } }),
    );
    expect(Object.entries(record.headers)).toEqual([
      ['a', 'x'],
      ['__proto__', 'p'],
      ['many', '1, 2'],
    ]);
  });

  it('gives the message headers that say where it comes from, which nobody can forge', () => {
    const headers = messageHeaders(recordOf('t', 1, message({ headers: { 'kafka-topic': 'forged', own: 'x' } })));
    expect(headers).toEqual({
      own: 'x',
      'kafka-topic': 't',
      'kafka-partition': '1',
      'kafka-offset': '7',
      'kafka-timestamp': '1700000000000',
    });
  });
});
