import { describe, expect, it } from 'vitest';
import { decodeBody, decodeEnvelope } from './event-body.js';
import { eventId } from './task-message.js';

const EVENT = { type: 'task-succeeded', uuid: 'a', clock: 1, timestamp: 2, hostname: 'w', pid: 3 };
const envelope = (body: string, more: object = {}) =>
  JSON.stringify({ body, 'content-type': 'application/json', properties: { body_encoding: 'base64' }, ...more });
const base64 = (text: string) => Buffer.from(text).toString('base64');

describe('a body', () => {
  it('holds one event or a list of them', () => {
    expect(decodeBody(JSON.stringify(EVENT), 'application/json')).toEqual({ events: [EVENT], malformed: [] });
    expect(decodeBody(JSON.stringify([EVENT, EVENT]), undefined).events).toHaveLength(2);
    expect(decodeBody('[]', 'application/json')).toEqual({ events: [], malformed: [] });
  });

  it('is told apart from its good neighbours in a list', () => {
    const { events, malformed } = decodeBody(
      JSON.stringify([null, EVENT, [EVENT], { type: 'task-failed' }]),
      undefined,
    );
    expect(events).toEqual([EVENT]);
    expect(malformed).toHaveLength(3);
  });

  it('loses only the field to what Python calls a number and JSON does not', () => {
    const text = `[{"type":"task-succeeded","uuid":"a","runtime":NaN,"eta":-Infinity,"n":1e400},${JSON.stringify(EVENT)}]`;
    expect(decodeBody(Buffer.from(text), 'application/json')).toEqual({
      events: [{ type: 'task-succeeded', uuid: 'a', runtime: null, eta: null, n: null }, EVENT],
      malformed: [],
    });
  });

  it('that is not UTF-8 is refused, not repaired', () => {
    const bytes = Buffer.concat([
      Buffer.from('{"type":"worker-online","hostname":"'),
      Buffer.from([0xff]),
      Buffer.from('"}'),
    ]);
    expect(decodeBody(bytes, undefined)).toEqual({
      events: [],
      malformed: [{ body: bytes, reason: 'it is not UTF-8' }],
    });
  });

  it('needs a uuid only if it is about a task', () => {
    expect(decodeBody('{"type":"worker-online"}', undefined).events).toHaveLength(1);
    expect(decodeBody('{"type":"worker-online","uuid":1}', undefined).events).toHaveLength(0);
  });

  it.each([
    ['x', 'application/json', /not JSON/],
    ['{}', 'application/x-yaml', /content type is 'application\/x-yaml'.*event_serializer/],
    ['"text"', 'application/json', /not an event/],
  ])('that is none is refused: %s of %s', (text, type, reason) => {
    expect(decodeBody(text, type)).toEqual({
      events: [],
      malformed: [{ body: text, reason: expect.stringMatching(reason) }],
    });
  });
});

describe('an envelope', () => {
  it('holds the body in base64, or as it is', () => {
    const text = JSON.stringify({ ...EVENT, result: 'ünï' });
    expect(decodeEnvelope(envelope(base64(text))).events).toEqual([{ ...EVENT, result: 'ünï' }]);
    expect(decodeEnvelope(envelope(text, { properties: {} })).events).toHaveLength(1);
    expect(decodeEnvelope(envelope(text, { properties: undefined })).events).toHaveLength(1);
  });

  it.each(['', '[]', '{}', '{"body":{}}', 'null', envelope('%%%')])('that is none is refused: %s', (text) => {
    expect(decodeEnvelope(text)).toMatchObject({ events: [], malformed: [{ reason: expect.any(String) }] });
  });
});

describe('the id of an event', () => {
  it('is the same only for the same event', () => {
    expect(eventId(EVENT)).toBe('celery:a:task-succeeded:1:2');
    expect(eventId({ ...EVENT })).toBe(eventId(EVENT));
    for (const other of [{ clock: 2 }, { timestamp: 3 }, { type: 'task-failed' }, { uuid: 'b' }]) {
      expect(eventId({ ...EVENT, ...other })).not.toBe(eventId(EVENT));
    }
    const beat = { type: 'worker-heartbeat', hostname: 'w', pid: 1, clock: 1, timestamp: 2 };
    expect(eventId(beat)).not.toBe(eventId({ ...beat, hostname: 'v' }));
  });
});
