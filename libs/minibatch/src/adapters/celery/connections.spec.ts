import { EventEmitter } from 'node:events';
import fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { hostileValue } from '../../../../../test/support/hostile-values.js';
import { SYSTEM_CLOCK } from '../../common/clock.js';
import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import { parseBrokerUrl, type RabbitmqBroker, type RedisBroker } from './broker-url.js';
import { resolveCelery } from './celery-source.options.js';
import { newCeleryCounters } from './event-counters.js';
import type { BrokerConnection } from './event-feed.js';
import { RabbitmqConnection } from './rabbitmq-connection.js';
import { RedisConnection } from './redis-connection.js';

const clients = vi.hoisted(() => ({ rabbitmq: undefined as unknown, redis: undefined as unknown }));
vi.mock('amqplib', () => ({ connect: () => Promise.resolve(clients.rabbitmq) }));
vi.mock('ioredis', () => ({
  Redis: function Redis() {
    return clients.redis;
  },
}));
afterEach(() => vi.clearAllMocks());

/** Answers every call with a promise. */
class FakeChannel extends EventEmitter {
  take: ((message: unknown) => void) | undefined;
  readonly assertExchange = () => Promise.resolve();
  readonly assertQueue = () => Promise.resolve();
  readonly bindQueue = () => Promise.resolve();
  readonly prefetch = () => Promise.resolve();
  readonly consume = (_queue: string, take: (message: unknown) => void) => {
    this.take = take;
    return Promise.resolve();
  };
}

class FakeModel extends EventEmitter {
  readonly channel = new FakeChannel();
  readonly connection = {};
  readonly createChannel = () => Promise.resolve(this.channel);
  readonly close = () => Promise.resolve();
}

class FakeRedis extends EventEmitter {
  readonly status = 'ready';
  readonly connect = () => Promise.resolve();
  readonly disconnect = () => undefined;
  readonly psubscribe: () => Promise<void>;

  constructor(private readonly refusal: () => unknown) {
    super();
    let calls = 0;
    // The first one is that of the start.
    this.psubscribe = () => ((calls += 1) === 1 ? Promise.resolve() : Promise.reject(this.refusal() as Error));
  }
}

/** What the connection fails with, if it does; it fails once. */
function listener() {
  const failures: Error[] = [];
  return { failures, receive: () => undefined, fail: (error: Error) => void failures.push(error) };
}

const NEVER = new AbortController().signal;
const contextOf = () => ({ where: 'Feed', counters: newCeleryCounters(), clock: SYSTEM_CLOCK, log: undefined });

async function expectCoded(connection: BrokerConnection, failures: readonly Error[]): Promise<void> {
  await connection.close();
  expect(failures.length).toBeLessThanOrEqual(1);
  for (const error of failures) {
    expect(error).toBeInstanceOf(MinibatchError);
    expect((error as MinibatchError).code).toBe(ErrorCode.SourceFailed);
  }
}

describe('callbacks of a connection let no throw out, whatever the client calls them with', () => {
  it('RabbitMQ', async () => {
    const options = resolveCelery('Feed', { url: 'amqp://h' });
    const broker = parseBrokerUrl('Feed', 'amqp://h') as RabbitmqBroker;
    const event = fc.tuple(fc.constantFrom('error', 'close'), fc.boolean(), hostileValue);
    await fc.assert(
      fc.asyncProperty(fc.array(event, { minLength: 1, maxLength: 5 }), async (events) => {
        const model = new FakeModel();
        clients.rabbitmq = model;
        const { failures, ...target } = listener();
        const connection = await RabbitmqConnection.open(broker, options, contextOf(), target, NEVER);
        for (const [name, ofChannel, make] of events) (ofChannel ? model.channel : model).emit(name, make());
        model.channel.take?.(null);
        expect(failures).toHaveLength(1);
        await expectCoded(connection, failures);
      }),
    );
  });

  it('Redis', async () => {
    const options = resolveCelery('Feed', { url: 'redis://h' });
    const broker = parseBrokerUrl('Feed', 'redis://h') as RedisBroker;
    const event = fc.tuple(fc.constantFrom('error', 'close', 'end', 'ready'), hostileValue);
    await fc.assert(
      fc.asyncProperty(fc.array(event, { minLength: 1, maxLength: 5 }), hostileValue, async (events, refusal) => {
        const client = new FakeRedis(refusal);
        clients.redis = client;
        const { failures, ...target } = listener();
        const connection = await RedisConnection.open(broker, options, contextOf(), target, NEVER);
        for (const [name, make] of events) {
          client.emit(name, make());
          await new Promise((resolve) => setImmediate(resolve));
        }
        await expectCoded(connection, failures);
      }),
    );
  });
});
