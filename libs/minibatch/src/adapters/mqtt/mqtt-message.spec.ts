import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { headersOf, type MqttMessage, readPayload } from './mqtt-message.js';

const NOT_JSON = expect.objectContaining({
  message: expect.stringMatching(/^it is not JSON: /) as string,
  cause: expect.any(SyntaxError) as Error,
}) as Error;

describe('readPayload', () => {
  const bytes = Buffer.from([0xff, 0xfe]);

  it('reads what is of its format', () => {
    expect(readPayload(Buffer.from('{"a":[1,null]}'), 'json', 'bigint')).toEqual({ data: { a: [1, null] } });
    expect(readPayload(Buffer.from('null'), 'json', 'bigint')).toEqual({ data: null });
    expect(readPayload(Buffer.from('ä{'), 'string', 'bigint')).toEqual({ data: 'ä{' });
    expect(readPayload(Buffer.alloc(0), 'string', 'bigint')).toEqual({ data: '' });
    expect(readPayload(bytes, 'bytes', 'bigint')).toEqual({ data: bytes });
  });

  it('gives large integers exactly, or as it is told', () => {
    const large = Buffer.from('[9007199254740993]');
    expect(readPayload(large, 'json', 'bigint')).toEqual({ data: [9007199254740993n] });
    expect(readPayload(large, 'json', 'number')).toEqual({ data: [9007199254740992] });
    expect(readPayload(large, 'json', 'malformed')).toEqual({
      data: '[9007199254740993]',
      malformed: NOT_JSON,
    });
    expect(readPayload(Buffer.from('1e400'), 'json', 'bigint')).toEqual({
      data: '1e400',
      malformed: NOT_JSON,
    });
  });

  it('keeps what is not, as text if it is one', () => {
    expect(readPayload(Buffer.from('{"a":'), 'json', 'bigint')).toEqual({
      data: '{"a":',
      malformed: NOT_JSON,
    });
    expect(readPayload(Buffer.alloc(0), 'json', 'bigint')).toEqual({ data: '', malformed: NOT_JSON });
    expect(readPayload(bytes, 'json', 'bigint')).toEqual({ data: bytes, malformed: new Error('it is not UTF-8') });
    expect(readPayload(bytes, 'string', 'bigint')).toEqual({ data: bytes, malformed: new Error('it is not UTF-8') });
  });
});

describe('a message from the wire', () => {
  it('never makes the reading throw', () => {
    const userProperties = fc.dictionary(
      fc.oneof(fc.string(), fc.constantFrom('__proto__', 'constructor', 'mqtt-topic', 'n\0ul')),
      fc.oneof(fc.string(), fc.array(fc.string())),
    );
    fc.assert(
      fc.property(fc.uint8Array(), fc.constantFrom('json', 'string', 'bytes'), userProperties, (bytes, format, own) => {
        const payload = Buffer.from(bytes);
        const { data } = readPayload(payload, format, 'bigint');
        const headers = headersOf({
          topic: 't',
          payload,
          data,
          qos: 1,
          retain: false,
          dup: false,
          properties: { userProperties: own },
        });
        expect(Object.values(headers).every((value) => typeof value === 'string')).toBe(true);
        expect(headers['mqtt-topic']).toBe('t');
      }),
    );
  });
});

describe('headersOf', () => {
  const message: MqttMessage = {
    topic: 'a/b',
    payload: Buffer.alloc(0),
    data: '',
    qos: 1,
    retain: false,
    dup: false,
    properties: {},
  };

  it('has the topic, and flags where they are set', () => {
    expect(headersOf(message)).toEqual({ 'mqtt-topic': 'a/b' });
    expect(headersOf({ ...message, retain: true, dup: true })).toEqual({
      'mqtt-topic': 'a/b',
      'mqtt-retain': 'true',
      'mqtt-dup': 'true',
    });
  });

  it('has the properties, which never pass for facts', () => {
    const userProperties = Object.fromEntries([
      ['device', 'd1'],
      ['tag', ['a', 'b']],
      ['mqtt-topic', 'forged'],
      ['mqtt-\0dup', 'true'],
      ['mqtt-content-type', 'forged'],
      ['topic', 'its own'],
      ['__proto__', 'p'],
      ['n\0ul', 'x\0y'],
    ]) as Record<string, string | string[]>;
    const properties = { userProperties, contentType: 'c', responseTopic: 'r', correlationData: Buffer.from('id') };
    const headers = headersOf({ ...message, properties });
    expect(Object.entries(headers)).toEqual([
      ['device', 'd1'],
      ['tag', '["a","b"]'],
      ['topic', 'its own'],
      ['__proto__', 'p'],
      ['nul', 'xy'],
      ['mqtt-topic', 'a/b'],
      ['mqtt-content-type', 'c'],
      ['mqtt-response-topic', 'r'],
      ['mqtt-correlation-data', 'aWQ='],
    ]);
  });
});
