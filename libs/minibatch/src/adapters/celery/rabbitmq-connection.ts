import { randomUUID } from 'node:crypto';
import type { Channel, ChannelModel, ConsumeMessage, Options as AmqpOptions } from 'amqplib';
import { foreignCodeOf } from '../../errors/error-text.js';
import { messageOf } from '../../errors/minibatch.error.js';
import type { RabbitmqBroker } from './broker-url.js';
import type { ResolvedCeleryOptions } from './celery-source.options.js';
import { decodeBody } from './event-body.js';
import { FailureReason } from '../failure-reason.js';
import type { FeedContext } from './feed-context.js';
import type { BrokerConnection, ConnectionListener } from './event-feed.js';
import { loadPackage } from '../../common/missing-package.js';
import { connectionError } from './connection-errors.js';

const CONNECT_TIMEOUT = 10_000;
/** Seconds; a connection that says nothing for two of them is dead. */
const HEARTBEAT = 20;
/** What an orderly close gets; milliseconds. */
const CLOSE_TIMEOUT = 150;

/**
 * A queue that loses nothing: a quorum queue keeps also what Celery sends as transient, and one consumer at a time sees the events
 * of a task in their order. A quorum queue drops what was given back too often, on new servers from 20 times on; a stream whose
 * database is away for long must not lose events by that.
 */
const DURABLE: AmqpOptions.AssertQueue = {
  durable: true,
  arguments: { 'x-queue-type': 'quorum', 'x-single-active-consumer': true, 'x-delivery-limit': 1_000_000_000 },
};
/** As Celery's own receivers do. */
const EXCLUSIVE: AmqpOptions.AssertQueue = { exclusive: true, autoDelete: true, durable: false };

type Options = Pick<ResolvedCeleryOptions, 'where' | 'exchange' | 'families' | 'queue' | 'prefetch' | 'tls'>;

/** Takes the events that Celery publishes by RabbitMQ from a queue. */
export class RabbitmqConnection implements BrokerConnection {
  readonly durable: boolean;
  private closed = false;
  private broken: unknown;

  private constructor(
    private readonly broker: RabbitmqBroker,
    private readonly options: Options,
    private readonly context: Pick<FeedContext, 'clock'>,
    private readonly model: ChannelModel,
    private readonly listener: ConnectionListener,
  ) {
    this.durable = options.queue !== undefined;
    model.on('error', (error: unknown) => (this.broken = error));
    model.on('close', (error: unknown) => this.fail('the connection was lost', error));
  }

  static async open(
    broker: RabbitmqBroker,
    options: Options,
    context: Pick<FeedContext, 'clock'>,
    listener: ConnectionListener,
    signal: AbortSignal,
  ): Promise<RabbitmqConnection> {
    const model = await connect(broker, options);
    const connection = new RabbitmqConnection(broker, options, context, model, listener);
    try {
      if (!signal.aborted) await connection.consume();
      return connection;
    } catch (error) {
      await connection.close();
      throw connection.failureOf(error);
    } finally {
      // It came too late to be used.
      if (signal.aborted) await connection.close();
    }
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    let cancel = (): void => undefined;
    const late = new Promise<void>((resolve) => (cancel = this.context.clock.schedule(CLOSE_TIMEOUT, resolve)));
    const ended = this.model.close().catch(() => undefined);
    await Promise.race([ended, late]);
    cancel();
    // A server that does not answer would keep the process alive.
    (this.model.connection as { stream?: { destroy?(): void } }).stream?.destroy?.();
  }

  private async consume(): Promise<void> {
    const { exchange, families, prefetch } = this.options;
    const given = await this.givenQueue();
    const channel = await this.channel();
    // As Celery declares it, so that it does not matter which side is first.
    await channel.assertExchange(exchange, 'topic', { durable: true, autoDelete: false });
    const name = this.options.queue ?? `${exchange}.minibatch.${randomUUID()}`;
    if (!given) await channel.assertQueue(name, this.durable ? DURABLE : EXCLUSIVE);
    for (const pattern of families?.map((family) => `${family}.#`) ?? ['#']) {
      await channel.bindQueue(name, exchange, pattern);
    }
    await channel.prefetch(prefetch);
    channel.on('close', () => this.fail('the channel was closed', this.broken));
    await channel.consume(name, (message) => this.take(channel, message));
  }

  /** An existing queue is used as it is, whatever its arguments are. */
  private async givenQueue(): Promise<boolean> {
    const { queue } = this.options;
    if (queue === undefined) return false;
    // The answer 'no' closes the channel.
    const channel = await this.channel();
    try {
      await channel.checkQueue(queue);
      await channel.close();
      return true;
    } catch (error) {
      if (foreignCodeOf(error) !== NOT_FOUND) throw error;
      return false;
    }
  }

  private async channel(): Promise<Channel> {
    const channel = await this.model.createChannel();
    channel.on('error', (error: unknown) => (this.broken = error));
    return channel;
  }

  private take(channel: Channel, message: ConsumeMessage | null): void {
    if (message === null) {
      this.fail('the queue was deleted', undefined);
      return;
    }
    const { content, properties } = message;
    const contentType: unknown = properties.contentType;
    const body = decodeBody(content, typeof contentType === 'string' ? contentType : undefined);
    this.listener.receive(body, content.length, () => this.acknowledge(channel, message));
  }

  /** All up to this one. */
  private acknowledge(channel: Channel, message: ConsumeMessage): void {
    try {
      channel.ack(message, true);
    } catch {
      // The channel is closed: they are redelivered, and ignored because of their dedupe ids.
    }
  }

  private fail(what: string, error: unknown): void {
    if (this.closed) return;
    void this.close();
    this.listener.fail(this.failureOf(error ?? this.broken, what));
  }

  private failureOf(error: unknown, what?: string): Error {
    const { where, queue, exchange } = this.options;
    const { label } = this.broker;
    switch (foreignCodeOf(error)) {
      case ACCESS_REFUSED: {
        const message = `RabbitMQ at ${label} refuses access; check that the user of url may configure, write and read the exchange '${exchange}' and the queue '${queue ?? `${exchange}.minibatch.…`}'`;
        return connectionError(where, FailureReason.Unauthorized, message, error);
      }
      case RESOURCE_LOCKED:
      case PRECONDITION_FAILED: {
        const message = `RabbitMQ at ${label} has an exchange '${exchange}' or a queue '${queue ?? ''}' that is not what it has to be (a durable topic exchange; a queue that is not exclusive to another connection); delete it, or use another name`;
        return connectionError(where, FailureReason.Declaration, message, error);
      }
      default: {
        if (what !== undefined)
          return connectionError(where, FailureReason.Lost, `RabbitMQ at ${label}: ${what}`, error);
        return connectionError(where, FailureReason.Unreachable, unreachable(label), error);
      }
    }
  }
}

const ACCESS_REFUSED = 403;
const NOT_FOUND = 404;
const RESOURCE_LOCKED = 405;
const PRECONDITION_FAILED = 406;

/** @throws MinibatchError `SourceFailed` */
async function connect(broker: RabbitmqBroker, { where, tls }: Options): Promise<ChannelModel> {
  const client = await loadPackage(where, 'amqplib', () => import('amqplib'));
  const { host, port, username, password, label } = broker;
  const address = {
    protocol: broker.tls ? 'amqps' : 'amqp',
    hostname: host,
    ...(port === undefined ? {} : { port }),
    ...(username === undefined && password === undefined ? {} : { username: username ?? '', password: password ?? '' }),
    // The client decodes it once more.
    vhost: encodeURIComponent(broker.virtualHost),
    heartbeat: broker.heartbeat ?? HEARTBEAT,
  };
  const socket = {
    ...(broker.tls ? tls : {}),
    timeout: CONNECT_TIMEOUT,
    clientProperties: { connection_name: `nestjs-minibatch ${where}` },
  };
  try {
    return await client.connect(address, socket);
  } catch (error) {
    if (/ACCESS.REFUSED|NOT.ALLOWED|Expected ConnectionOpenOk/i.test(messageOf(error))) {
      const message = `RabbitMQ at ${label} refuses access; check user and password in url, and that the virtual host '${broker.virtualHost}' is there`;
      throw connectionError(where, FailureReason.Unauthorized, message, error);
    }
    throw connectionError(where, FailureReason.Unreachable, unreachable(label), error);
  }
}

function unreachable(label: string): string {
  return `there is no connection to RabbitMQ at ${label}; check that it runs and that the address is right`;
}
