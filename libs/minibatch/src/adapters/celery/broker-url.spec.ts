import { describe, expect, it } from 'vitest';
import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import { parseBrokerUrl } from './broker-url.js';

const parse = (url: unknown) => parseBrokerUrl('Feed', url);

describe('a broker URL', () => {
  it.each([
    ['redis://localhost', { kind: 'redis', host: 'localhost', port: undefined, database: 0, tls: false }],
    ['redis://localhost:6380/', { port: 6380, database: 0 }],
    ['redis://:p%40ss@[::1]:6380/3', { host: '::1', username: undefined, password: 'p@ss', database: 3 }],
    ['rediss://me:secret@redis/0', { tls: true, verify: true, username: 'me', password: 'secret' }],
    ['rediss://redis/0?ssl_cert_reqs=CERT_NONE', { verify: false }],
    ['rediss://redis/0?ssl_cert_reqs=required', { verify: true }],
    ['amqp://', { kind: 'rabbitmq', host: 'localhost', virtualHost: '/' }],
    ['amqp://guest:guest@mq:5672//', { host: 'mq', port: 5672, username: 'guest', virtualHost: '/', tls: false }],
    ['amqp://mq/', { virtualHost: '/' }],
    ['amqp://mq/%2F', { virtualHost: '/' }],
    ['amqps://mq/a%2Fb?heartbeat=30', { virtualHost: 'a/b', tls: true, heartbeat: 30 }],
  ])('is read as Celery does: %s', (url, broker) => {
    expect(parse(url)).toMatchObject(broker);
  });

  it.each([
    [undefined, /url is 'undefined'; allowed: a broker's URL/],
    ['', /allowed: a broker's URL/],
    ['localhost:6379', /allowed: a broker's URL/],
    ['sqs://aws', /url is 'sqs:\/\/aws'/],
    ['redis://host/name', /a number of a database/],
    ['redis://host/0?db=1', /the parameter ssl_cert_reqs/],
    ['amqp://host?heartbeat=often', /whole number of seconds/],
    ['amqp://host/%zz', /allowed: a broker's URL/],
  ])('is refused if it is nonsense: %s', (url, message) => {
    expect(() => parse(url)).toThrow(
      expect.objectContaining({ code: ErrorCode.InvalidOptions, message: expect.stringMatching(message) }),
    );
  });

  it.each(['redis://me:top#secret@host/0', 'redis://me:secret@host/name', 'amqp://me:secret@host?x=1'])(
    'never shows the password: %s',
    (url) => {
      try {
        parse(url);
      } catch (error) {
        if (!(error instanceof MinibatchError)) throw error;
        expect(error.message + JSON.stringify(error.details)).not.toContain('secret');
        return;
      }
      throw new Error('it was taken');
    },
  );

  it('has a label without user and password', () => {
    expect(parse('amqps://me:secret@mq/orders?heartbeat=5').label).toBe('amqps://mq/orders');
  });
});
