import type { Redis } from 'ioredis';
import { isA, messageOf } from '../../errors/error-text.js';
import { every } from '../../common/clock.js';
import type { RedisBroker } from './broker-url.js';
import type { ResolvedCeleryOptions } from './celery-source.options.js';
import { decodeEnvelope } from './event-body.js';
import { FailureReason } from '../failure-reason.js';
import type { BrokerConnection, ConnectionListener } from './event-feed.js';
import type { FeedContext } from './feed-context.js';
import { loadPackage } from '../../common/missing-package.js';
import { connectionError } from './connection-errors.js';
import { counted } from '../../common/counted.js';

/**
 * A lost connection is retried at once, because what is sent meanwhile is lost. After this time the source fails, so that its state shows
 * it, and is restarted with backoff. Milliseconds.
 */
const PATIENCE = 5000;
const RECONNECT_DELAY = 100;
/** A silent connection may be dead: how often the server is asked. Milliseconds. */
const PING_INTERVAL = 10_000;
const PING_TIMEOUT = 5000;
const CONNECT_TIMEOUT = 10_000;

type Options = Pick<ResolvedCeleryOptions, 'where' | 'exchange' | 'keyPrefix' | 'families' | 'tls'>;

/** Listens to the events that Celery publishes by Redis. */
export class RedisConnection implements BrokerConnection {
  readonly durable = false;
  private client: Redis | undefined;
  private stopPings: (() => void) | undefined;
  private lastError: Error | undefined;
  private established = false;
  private closed = false;
  /** Undefined: it is not lost. */
  private lostAt: number | undefined;
  private readonly patterns: readonly string[];

  private constructor(
    private readonly broker: RedisBroker,
    private readonly options: Options,
    private readonly context: FeedContext,
    private readonly listener: ConnectionListener,
  ) {
    this.patterns = patternsOf(broker, options);
  }

  static async open(
    broker: RedisBroker,
    options: Options,
    context: FeedContext,
    listener: ConnectionListener,
    signal: AbortSignal,
  ): Promise<RedisConnection> {
    const connection = new RedisConnection(broker, options, context, listener);
    const close = () => void connection.close();
    signal.addEventListener('abort', close, { once: true });
    try {
      await connection.begin();
      return connection;
    } catch (error) {
      close();
      throw error;
    } finally {
      // From now on its owner closes it.
      signal.removeEventListener('abort', close);
    }
  }

  async close(): Promise<void> {
    this.closed = true;
    this.stopPings?.();
    this.client?.disconnect();
  }

  private async begin(): Promise<void> {
    const { where } = this.options;
    const { Redis } = await loadPackage(where, 'ioredis', () => import('ioredis'));
    const client = this.listenTo(new Redis(this.clientOptions()));
    this.client = client;
    try {
      await client.connect();
      await client.psubscribe(...this.patterns);
    } catch (error) {
      // 'Connection is closed' is all that the client says of a refusal.
      throw this.failureOf(this.lastError ?? error);
    }
    this.established = true;
    this.stopPings = every(this.context.clock, PING_INTERVAL, () => void this.ping(client));
  }

  private clientOptions() {
    const { broker, options } = this;
    return {
      host: broker.host,
      port: broker.port ?? 6379,
      ...(broker.username === undefined ? {} : { username: broker.username }),
      ...(broker.password === undefined ? {} : { password: broker.password }),
      ...(broker.tls ? { tls: { rejectUnauthorized: broker.verify, ...options.tls } } : {}),
      // Servers before 6 know no other.
      protocol: 2,
      connectionName: 'nestjs-minibatch',
      lazyConnect: true,
      connectTimeout: CONNECT_TIMEOUT,
      // It asks for things that users of a shared server may not ask for.
      enableReadyCheck: false,
      autoResubscribe: false,
      enableOfflineQueue: false,
      retryStrategy: () => (this.hasPatience() ? RECONNECT_DELAY : null),
    } as const;
  }

  private listenTo(client: Redis): Redis {
    client.on('error', (error: Error) => (this.lastError = error));
    client.on('close', () => this.lost());
    client.on('end', () => this.fail(this.lastError));
    client.on('ready', () => void this.returned(client));
    client.on('pmessage', (_pattern: string, _channel: string, text: string) => {
      this.listener.receive(decodeEnvelope(text), text.length);
    });
    return client;
  }

  private lost(): void {
    if (!this.established || this.closed || this.lostAt !== undefined) return;
    this.lostAt = this.context.clock.monotonic();
    const { counters, log } = this.context;
    counters.interruptions += 1;
    log?.warn(
      `${this.options.where}: the connection to ${this.broker.label} is lost (${counted(counters.interruptions, 'time')} so far); events that are sent until it is restored are lost`,
    );
  }

  private async returned(client: Redis): Promise<void> {
    if (!this.established) return;
    try {
      await client.psubscribe(...this.patterns);
      this.lostAt = undefined;
      this.context.log?.log(`${this.options.where}: the connection to ${this.broker.label} is restored`);
    } catch (error) {
      if (client.status === 'ready') this.fail(error);
    }
  }

  private hasPatience(): boolean {
    // The client asks before it tells.
    this.lost();
    return this.established && !this.closed && this.context.clock.monotonic() - (this.lostAt ?? 0) < PATIENCE;
  }

  private async ping(client: Redis): Promise<void> {
    if (client.status !== 'ready') return;
    let cancel = (): void => undefined;
    const silent = new Promise<boolean>((resolve) => {
      cancel = this.context.clock.schedule(PING_TIMEOUT, () => resolve(true));
    });
    // An error is an answer too; the client reports a lost connection itself.
    const answer = client.ping().then(
      () => false,
      () => false,
    );
    if (await Promise.race([answer, silent])) client.disconnect(true);
    cancel();
  }

  private fail(error: unknown): void {
    if (!this.established || this.closed) return;
    void this.close();
    this.listener.fail(this.failureOf(error));
  }

  private failureOf(error: unknown): Error {
    const { where } = this.options;
    const { label } = this.broker;
    if (isRefusal(error)) {
      const message = `Redis at ${label} refuses access; check user and password in url, and that the user may psubscribe to ${this.patterns.join(', ')}`;
      return connectionError(where, FailureReason.Unauthorized, message, error);
    }
    const what = this.established ? 'the connection was lost' : 'there is no connection';
    const message = `${what} to Redis at ${label}; check that it runs and that the address is right`;
    const reason = this.established ? FailureReason.Lost : FailureReason.Unreachable;
    return connectionError(where, reason, message, error);
  }
}

/** The server answered, and the answer was no. */
function isRefusal(error: unknown): boolean {
  return isA(error, Error) && /WRONGPASS|NOAUTH|NOPERM|invalid password|Client sent AUTH/i.test(messageOf(error));
}

/** Channels are named `/<database>.<exchange>/<routing key>`. */
function patternsOf({ database }: RedisBroker, { keyPrefix, exchange, families }: Options): string[] {
  const head = `${keyPrefix}/${database}.${exchange}/`.replace(/[\\*?[\]^]/g, '\\$&');
  return families === undefined ? [`${head}*`] : families.map((family) => `${head}${family}.*`);
}
