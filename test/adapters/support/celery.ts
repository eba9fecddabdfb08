import { randomUUID } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import type { TestingModule } from '@nestjs/testing';
import amqp, { type ChannelModel } from 'amqplib';
import { Redis } from 'ioredis';
import {
  type Message,
  memoryStore,
  MinibatchModule,
  type SourceStatus,
  StatusService,
  type StoreDefinition,
  Streaming,
  StreamSource,
  type Window,
} from 'nestjs-minibatch';
import {
  type CeleryEvent,
  CeleryEventSource,
  type CeleryEventSourceOptions,
  type CeleryTaskEvent,
} from 'nestjs-minibatch/celery';
import { wrapStore } from 'nestjs-minibatch/testing';
import { afterAll, beforeAll, vi } from 'vitest';
import type { Encrypted } from '../../../scripts/servers/certificates.mjs';
import { startRabbitmq } from '../../../scripts/servers/rabbitmq/rabbitmq.mjs';
import { startRedis } from '../../../scripts/servers/redis/redis.mjs';
import { later, Log, SOON, start } from '../../e2e/support/applications.js';

export interface BrokerServer extends Encrypted {
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  kill9(): Promise<void>;
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/** What sends events, as workers do. */
export interface Publisher {
  /** One body, of one event or of a list; resolves when the broker has it. */
  publish(body: unknown, key?: string): Promise<void>;
  /** Something that is no body of Celery's. */
  publishRaw(text: string, contentType?: string): Promise<void>;
  close(): Promise<void>;
}

export interface BrokerKind {
  readonly name: 'redis' | 'rabbitmq';
  start(): Promise<BrokerServer>;
  publisher(url: string): Promise<Publisher>;
}

export const REDIS: BrokerKind = {
  name: 'redis',
  start: () => startRedis({ tls: true }),
  publisher: async (url) => {
    const client = new Redis(url, { lazyConnect: true, retryStrategy: () => null });
    client.on('error', () => undefined);
    await client.connect();
    const envelope = (body: string, contentType: string, key = 'task.multi') =>
      JSON.stringify({
        body: Buffer.from(body).toString('base64'),
        'content-encoding': 'utf-8',
        'content-type': contentType,
        headers: { hostname: 'test' },
        properties: {
          delivery_mode: 1,
          delivery_info: { exchange: 'celeryev', routing_key: key },
          priority: 0,
          body_encoding: 'base64',
          delivery_tag: randomUUID(),
        },
      });
    return {
      publish: async (body, key = 'task.multi') => {
        await client.publish(`/0.celeryev/${key}`, envelope(JSON.stringify(body), 'application/json', key));
      },
      publishRaw: async (text, contentType) => {
        const message = contentType === undefined ? text : envelope(text, contentType);
        await client.publish('/0.celeryev/task.multi', message);
      },
      close: async () => client.disconnect(),
    };
  },
};

export const RABBITMQ: BrokerKind = {
  name: 'rabbitmq',
  start: () => startRabbitmq({ tls: true }),
  publisher: async (url) => {
    const connection = await connectAmqp(url);
    const channel = await connection.createConfirmChannel();
    channel.on('error', () => undefined);
    await channel.assertExchange('celeryev', 'topic', { durable: true });
    const send = (text: string, key: string, contentType?: string) =>
      new Promise<void>((resolve, reject) => {
        const options = { contentType, contentEncoding: 'utf-8', deliveryMode: 1 };
        channel.publish('celeryev', key, Buffer.from(text), options, (error) =>
          error ? reject(error instanceof Error ? error : new Error(String(error))) : resolve(),
        );
      });
    return {
      publish: (body, key = 'task.multi') => send(JSON.stringify(body), key, 'application/json'),
      publishRaw: (text, contentType) => send(text, 'task.multi', contentType),
      close: async () => {
        // One that is closed already throws; one whose server was killed while it said good-bye never answers.
        const closed = (async () => connection.close())().catch(() => undefined);
        await Promise.race([closed, wait(1000)]);
      },
    };
  },
};

/** A connection whose end is no error of the test. */
export async function connectAmqp(url: string): Promise<ChannelModel> {
  // A server that is killed may leave a client behind that waits for an answer.
  const connection = await amqp.connect(`${url}?heartbeat=2`, { timeout: 5000 });
  connection.on('error', () => undefined);
  return connection;
}

export interface FollowOptions {
  /** @default in memory */
  readonly store?: StoreDefinition;
  readonly log?: Log;
  /** @default true */
  readonly listening?: boolean;
}

/** An application that is fed by a CeleryEventSource. */
export interface Follower<T> {
  readonly app: TestingModule;
  readonly source: CeleryEventSource<T>;
  /** In the order in which the consumer saw them. */
  readonly messages: readonly Message<T>[];
  readonly data: readonly T[];
  readonly log: Log;
  status(): Promise<SourceStatus>;
}

/** Boots it; `closeAll` closes it. */
export async function follow<T = CeleryTaskEvent>(
  options: CeleryEventSourceOptions,
  { store = memoryStore(), log = new Log() }: FollowOptions = {},
): Promise<Follower<T>> {
  const messages: Message<T>[] = [];

  @StreamSource('tasks', { name: 'feed' })
  class TaskFeed extends CeleryEventSource<T> {
    constructor() {
      super(options);
    }
  }

  class Consumer {
    @Streaming('tasks', { size: 1000, interval: 20 })
    take(window: Window<T>): void {
      messages.push(...window.messages);
    }
  }

  const retry = { backoff: 50, maxBackoff: 200 };
  const metadata = { imports: [MinibatchModule.forRoot({ store, retry })], providers: [TaskFeed, Consumer] };
  const app = await start(metadata, log);
  return {
    app,
    source: app.get(TaskFeed),
    messages,
    get data() {
      return messages.map(({ data }) => data);
    },
    log,
    status: async () => {
      const snapshot = await app.get(StatusService, { strict: false }).snapshot();
      const status = snapshot.streams.find(({ name }) => name === 'tasks')?.sources[0];
      if (!status) throw new Error('no source');
      return status as unknown as SourceStatus;
    },
  };
}

/** Waits until what is published arrives. */
export async function listening(follower: Follower<unknown>, publisher: Publisher): Promise<void> {
  const before = follower.source.counters.received;
  await vi.waitUntil(async () => {
    await publisher.publish([event('task-started', { uuid: 'nobody' })]).catch(() => undefined);
    return follower.source.counters.received > before;
  }, SOON);
}

let clock = 0;

/** An event as workers send it. */
export function event(type: string, fields: Readonly<Record<string, unknown>> = {}): CeleryEvent {
  clock += 1;
  return {
    hostname: 'test@localhost',
    utcoffset: 0,
    pid: 1,
    clock,
    timestamp: Date.now() / 1000,
    type,
    uuid: randomUUID(),
    ...fields,
  };
}

export function succeeded(uuid: string, fields: Readonly<Record<string, unknown>> = {}): CeleryEvent {
  return event('task-succeeded', { uuid, result: "'done'", runtime: 0.5, ...fields });
}

/** `count` ids that sort as they are numbered. */
export function ids(count: number, prefix = 'task'): string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}-${String(index).padStart(6, '0')}`);
}

/** A publisher that is closed by `closeAll`. */
export async function usePublisher(kind: BrokerKind, url: string): Promise<Publisher> {
  const publisher = await kind.publisher(url);
  later(() => publisher.close());
  return publisher;
}

/** Starts a server of each kind for the tests of a file, and stops them behind the last. */
export function useServers(...kinds: readonly BrokerKind[]) {
  const servers = new Map<BrokerKind, BrokerServer>();
  beforeAll(async () => {
    for (const kind of kinds) servers.set(kind, await kind.start());
  });
  afterAll(async () => {
    for (const server of servers.values()) await server.stop();
  });
  const serverOf = (kind: BrokerKind): BrokerServer => {
    const server = servers.get(kind);
    if (!server) throw new Error(`${kind.name} is not running`);
    return server;
  };
  return { serverOf, urlOf: (kind: BrokerKind) => serverOf(kind).url };
}

/** Events of many tasks, as workers send them: several in a body. */
export function bodiesOf(tasks: readonly string[], each = 10): object[][] {
  const bodies: object[][] = [];
  for (let from = 0; from < tasks.length; from += each) {
    bodies.push(tasks.slice(from, from + each).map((id) => succeeded(id)));
  }
  return bodies;
}

/** A memory store whose appends fail for as long as it is told to. */
export function failingStore(): { readonly store: StoreDefinition; failing: boolean; readonly failed: number } {
  const state = { failing: false, failed: 0 };
  const memory = memoryStore();
  const store: StoreDefinition = {
    kind: 'memory',
    useFactory: async () =>
      wrapStore(await memory.useFactory(), async (call) => {
        if (call.method !== 'append' || !state.failing) return call.proceed();
        state.failed += 1;
        throw new Error('the disk is full');
      }),
  };
  return Object.assign(state, { store });
}

/** Messages in a queue that nobody consumes; what its last consumer did not acknowledge is among them. */
export async function depthOf(url: string, queue: string): Promise<number> {
  const connection = await connectAmqp(url);
  try {
    const channel = await connection.createChannel();
    const { messageCount } = await channel.checkQueue(queue);
    return messageCount;
  } finally {
    await connection.close();
  }
}
