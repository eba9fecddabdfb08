import fc from 'fast-check';
import type { IHeaders, KafkaMessage } from 'kafkajs';
import { describe, expect, it } from 'vitest';
import { identityOf, messageHeaders, recordOf } from './kafka-record.js';

const message = (parts: Partial<KafkaMessage>): KafkaMessage =>
  ({ key: null, value: null, timestamp: '1700000000000', attributes: 0, offset: '7', ...parts }) as KafkaMessage;

const recordAt = (record: KafkaMessage, partition = 0) => recordOf({ cluster: 'c', topic: 't', partition }, record);

describe('a record', () => {
  it('is named by topic, partition and offset, whatever the offset’s size', () => {
    const record = recordOf(
      { cluster: 'c', topic: 'flights', partition: 3 },
      message({ offset: '9223372036854775807' }),
    );
    expect(record).toEqual({
      id: 'flights:3:9223372036854775807',
      cluster: 'c',
      topic: 'flights',
      partition: 3,
      offset: '9223372036854775807',
      timestamp: new Date(1_700_000_000_000),
      key: undefined,
      keyBytes: null,
      headers: {},
      headerBytes: {},
      value: null,
    });
  });

  it.each([
    [Buffer.from('Zürich'), 'Zürich'],
    [Buffer.from('a\tb\nc'), 'a\tb\nc'],
    [Buffer.alloc(0), ''],
    [Buffer.from([0xff, 0x00]), 'base64:/wA='],
    [Buffer.from([0, 0, 0, 1]), 'base64:AAAAAQ=='],
    [Buffer.from([0, 0, 0, 128]), 'base64:AAAAgA=='],
    [Buffer.from('base64:AAAAgA=='), 'base64:YmFzZTY0OkFBQUFnQT09'],
    [Buffer.from('AAAAgA=='), 'AAAAgA=='],
  ])('has its key as text where it is one, and as it came: %o', (key, text) => {
    expect(recordAt(message({ key }))).toMatchObject({ key: text, keyBytes: key });
  });

  it('has another text for each key', () => {
    const seen = new Map<string | undefined, string>();
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 12 }), (bytes) => {
        const { key } = recordAt(message({ key: Buffer.from(bytes) }));
        const before = seen.get(key);
        seen.set(key, String(bytes));
        expect(before ?? String(bytes)).toBe(String(bytes));
      }),
    );
  });

  it('has its headers as text and as they came: several of a name, null, hostile names', () => {
    // As kafkajs decodes names that every object has.
    const headers = Object.fromEntries<unknown>([
      ['a', Buffer.from('x')],
      ['__proto__', [Object.prototype, Buffer.from('p')]],
      ['constructor', [Object, Buffer.from('c')]],
      ['many', [Buffer.from('1, 2'), null, Buffer.from([0])]],
      ['none', null],
      ['n\0ul', Buffer.from('n')],
      ['own', 'text'],
    ]) as IHeaders;
    const record = recordAt(message({ headers }));
    expect(Object.entries(record.headers)).toEqual([
      ['a', 'x'],
      ['__proto__', 'p'],
      ['constructor', 'c'],
      ['many', '["1, 2",null,"base64:AA=="]'],
      ['base64:bgB1bA==', 'n'],
      ['own', 'text'],
    ]);
    expect(record.headerBytes['many']).toEqual([Buffer.from('1, 2'), null, Buffer.from([0])]);
    expect(record.headerBytes['none']).toEqual([null]);
    expect(record.headerBytes['constructor']).toEqual([Buffer.from('c')]);
  });

  it('is another one in another cluster, at another time, or with other contents', () => {
    const record = { key: Buffer.from('k'), value: Buffer.from('v') };
    const ids = [
      recordOf({ cluster: 'c', topic: 't', partition: 0 }, message(record)),
      recordOf({ cluster: 'd', topic: 't', partition: 0 }, message(record)),
      recordOf({ cluster: 'c', topic: 't', partition: 0 }, message({ ...record, timestamp: '1700000000001' })),
      recordOf({ cluster: 'c', topic: 't', partition: 0 }, message({ ...record, value: Buffer.from('w') })),
      recordOf({ cluster: 'c', topic: 't', partition: 0 }, message({ ...record, key: Buffer.from('l') })),
      recordOf({ cluster: 'c', topic: 't', partition: 0 }, message({ ...record, value: null })),
    ].map(identityOf);
    expect(new Set(ids).size).toBe(ids.length);
    expect(identityOf(recordOf({ cluster: 'c', topic: 't', partition: 0 }, message({ ...record })))).toBe(ids[0]);
  });

  it('gives the message headers that say where it comes from, which nobody can forge', () => {
    const headers = messageHeaders(recordAt(message({ headers: { 'kafka-topic': 'forged', own: 'x' } }), 1));
    expect(headers).toEqual({
      own: 'x',
      'kafka-topic': 't',
      'kafka-partition': '1',
      'kafka-offset': '7',
      'kafka-timestamp': '1700000000000',
    });
  });
});
