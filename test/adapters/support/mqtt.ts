import { randomUUID } from 'node:crypto';
import { connectAsync, type IClientOptions, type MqttClient } from 'mqtt';
import {
  type AttachedSource,
  type Message,
  memoryStore,
  MinibatchModule,
  type Source,
  Streaming,
  StreamService,
  Window,
} from 'nestjs-minibatch';
import { MqttSource, type MqttSourceOptions } from 'nestjs-minibatch/mqtt';
import { afterAll, beforeAll, expect, vi } from 'vitest';
import {
  type MosquittoOptions,
  type MosquittoServer,
  startMosquitto,
} from '../../../scripts/servers/mosquitto/mosquitto.mjs';
import { later, Log, SOON, start } from '../../e2e/support/applications.js';

/** A broker may be restarted, and two cores are shared with other tests. */
export const LONG = { timeout: 60_000, interval: 20 } as const;

/** Names that no other test uses. */
export function unique(prefix: string): string {
  return `${prefix}-${randomUUID().slice(0, 8)}`;
}

/** A client of the test's own; `closeAll` ends it. */
export async function connectTo(url: string, options: IClientOptions = {}): Promise<MqttClient> {
  const client = await connectAsync(url, { protocolVersion: 5, reconnectPeriod: 100, ...options });
  later(() => client.endAsync(true));
  return client;
}

class Collector {
  readonly messages: Message[] = [];

  @Streaming('readings', { size: 1000, interval: 50 })
  collect(window: Window): void {
    this.messages.push(...window.messages);
  }
}

/** An application with a stream in memory, whose messages are collected as its consumer gets them. */
export async function application(log = new Log()) {
  const imports = [MinibatchModule.forRoot({ store: memoryStore() })];
  const app = await start({ imports, providers: [Collector] }, log);
  const { messages } = app.get(Collector);
  const stream = app.get(StreamService).stream('readings');
  return {
    app,
    log,
    messages,
    data: () => messages.map(({ data }) => data),
    /** Starts it; what fails is retried soon. */
    attach: (source: Source, name = unique('source')): AttachedSource =>
      stream.attach(source, { name, retry: { backoff: 20, maxBackoff: 200 } }),
    /** Resolves when that many messages have come. */
    arrived: (count: number) =>
      vi.waitFor(() => {
        if (messages.length < count) throw new Error(`${messages.length} of ${count} messages have come`);
      }, LONG),
  };
}

/**
 * Publishes messages 0 to n - 1 in blocks, across restarts of the broker, until the broker has all of them for sure: its state
 * is on disk when something is acknowledged that was sent later (see mosquitto.d.mts). What is not sure when the connection
 * breaks is published again.
 */
export async function publishAll(
  broker: MosquittoServer,
  topic: string,
  messages: readonly string[],
  progress: (sure: number) => void = () => undefined,
): Promise<void> {
  const BLOCK = 500;
  let sure = 0;
  while (sure < messages.length) {
    const client = await connectAsync(broker.url, { protocolVersion: 5, reconnectPeriod: 0 }).catch(() => undefined);
    if (client === undefined) {
      await vi.waitFor(() => {
        if (broker.pid === undefined) throw new Error('the broker is down');
      }, LONG);
      continue;
    }
    const broken = new Promise<'broken'>((resolve) => client.once('close', () => resolve('broken')));
    try {
      for (let from = sure; from <= messages.length; from += BLOCK) {
        // The last round has a message that nobody counts: it says that those before it are on disk.
        const block = from < messages.length ? messages.slice(from, from + BLOCK) : undefined;
        const published = block
          ? Promise.all(block.map((message) => client.publishAsync(topic, message, { qos: 1 })))
          : client.publishAsync('fence', '', { qos: 1 });
        if ((await Promise.race([published, broken])) === 'broken') break;
        sure = from;
        progress(sure);
        if (block === undefined) return;
      }
    } finally {
      client.end(true);
    }
  }
}

/** A broker for the tests of a file, stopped behind the last. */
export function useBroker(options?: MosquittoOptions): () => MosquittoServer {
  let broker: MosquittoServer;
  beforeAll(async () => {
    broker = await startMosquitto(options);
    console.log(`MQTT broker for tests: ${broker.label}`);
  });
  afterAll(() => broker.stop());
  return () => broker;
}

type AnyOptions = Partial<MqttSourceOptions>;

export interface BrokerSources {
  sourceOf(options: AnyOptions): MqttSource;
  /** A session that the broker keeps: what is published from now on is for it. */
  session<O extends AnyOptions>(options: O): Promise<O & { readonly clientId: string }>;
}

/** Sources of a broker by one version of the protocol. */
export function sourcesOf(broker: () => MosquittoServer, protocolVersion: 4 | 5): BrokerSources {
  const sourceOf = (options: AnyOptions) =>
    new MqttSource({
      url: broker().url,
      clientId: unique('client'),
      topics: 'unused',
      protocolVersion,
      ...options,
    } as MqttSourceOptions);

  async function session<O extends AnyOptions>(options: O) {
    const clientId = unique('client');
    const stop = new AbortController();
    const subscribed = new Promise<void>((resolve) => {
      const target = {
        name: 'nothing',
        append: () => Promise.reject(new Error('nothing is to come')),
        // The topics are stored when the broker has granted them.
        appendMany: async () => resolve(),
        position: () => Promise.resolve(undefined),
      };
      const feed = sourceOf({ clientId, ...options }).stream(target, stop.signal);
      later(async () => feed);
    });
    await subscribed;
    stop.abort();
    return { clientId, ...options };
  }

  return { sourceOf, session };
}

/** Resolves when it has failed. */
export async function failing(attached: AttachedSource): Promise<AttachedSource> {
  await vi.waitFor(() => expect(attached.status.failures).toBeGreaterThan(0), SOON);
  return attached;
}
