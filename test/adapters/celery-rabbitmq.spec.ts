import { randomUUID } from 'node:crypto';
import { ErrorCode, MinibatchError, type SourceTarget, StreamService } from 'nestjs-minibatch';
import { CeleryEventSource, FailureReason } from 'nestjs-minibatch/celery';
import { lmdbStore } from 'nestjs-minibatch/lmdb';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { startRabbitmq } from '../../scripts/servers/rabbitmq/rabbitmq.mjs';
import { closeAll, later, SOON } from '../e2e/support/applications.js';
import { temporaryFolder } from '../support/workspace.js';
import {
  bodiesOf,
  type BrokerServer,
  connectAmqp,
  depthOf,
  failingStore,
  follow,
  ids,
  listening,
  type Publisher,
  RABBITMQ,
  succeeded,
  usePublisher,
  useServers,
} from './support/celery.js';

afterEach(closeAll);

const { urlOf } = useServers(RABBITMQ);

describe('CeleryEventSource on rabbitmq', { timeout: 240_000 }, () => {
  const queueName = () => `minibatch-${randomUUID()}`;

  it('with a queue loses nothing while the application is away', async () => {
    const url = urlOf(RABBITMQ);
    const queue = queueName();
    const folder = await temporaryFolder();
    later(() => folder.dispose());
    const store = () => lmdbStore({ path: folder.path });
    const publisher = await usePublisher(RABBITMQ, url);
    const tasks = ids(3000);
    const bodies = bodiesOf(tasks);

    const first = await follow({ url, queue, prefetch: 20 }, { store: store() });
    await listening(first, publisher);
    for (const body of bodies.slice(0, 100)) await publisher.publish(body);
    // In the middle of it.
    await vi.waitUntil(() => first.messages.length > 0, SOON);
    await first.app.close();
    for (const body of bodies.slice(100, 200)) await publisher.publish(body);

    const second = await follow({ url, queue }, { store: store() });
    for (const body of bodies.slice(200)) await publisher.publish(body);
    const seen = () => [...first.data, ...second.data].map(({ task_id }) => task_id);
    await vi.waitUntil(() => new Set(seen()).size === tasks.length, SOON);
    expect(seen().toSorted()).toEqual(tasks);
    await second.app.close();
    expect(await depthOf(url, queue)).toBe(0);
  });

  it('with a queue loses nothing that the broker has, when it is killed and restarted in the middle of 20,000', async () => {
    const server = await startRabbitmq();
    later(() => server.stop());
    const queue = queueName();
    const maker = await follow({ url: server.url, queue });
    await listening(maker, await usePublisher(RABBITMQ, server.url));
    await maker.app.close();
    // RabbitMQ 3.10.8 forgets a quorum queue that is new when it is killed; not one from before its last proper stop.
    await server.restart();
    const follower = await follow({ url: server.url, queue });
    // What is published before the queue is there goes nowhere.
    const probe = await RABBITMQ.publisher(server.url);
    await listening(follower, probe);
    await probe.close();
    const tasks = ids(20_000);
    let restarted = Promise.resolve();
    const published = publishStubbornly(server, bodiesOf(tasks), () => restarted);
    await vi.waitUntil(() => follower.messages.length > 4000, SOON);
    restarted = (async () => {
      await server.kill9();
      expect(follower.messages.length).toBeLessThan(tasks.length);
      await server.restart();
    })();
    await restarted;
    await published;
    await vi.waitUntil(() => follower.messages.length >= tasks.length, { timeout: 60_000, interval: 50 });
    expect(follower.data.map(({ task_id }) => task_id).toSorted()).toEqual(tasks);
    expect((await follower.status()).failures).toBeGreaterThan(0);
  });

  it('takes no more from the broker than prefetch allows', async () => {
    const url = urlOf(RABBITMQ);
    const queue = queueName();
    const publisher = await usePublisher(RABBITMQ, url);
    const away = failingStore();
    const follower = await follow({ url, queue, prefetch: 7 }, { store: away.store });
    await listening(follower, publisher);
    away.failing = true;
    const before = follower.source.counters.received;
    for (const body of bodiesOf(ids(500))) await publisher.publish(body);
    await vi.waitUntil(() => away.failed > 2, SOON);
    // Seven bodies of ten, and what was on its way to find out that it listens.
    expect(follower.source.counters.received - before).toBeLessThan(80);
    away.failing = false;
    await vi.waitUntil(() => follower.messages.length === 500, SOON);
  });

  it('uses an existing queue as it is, and restarts when it is deleted', async () => {
    const url = urlOf(RABBITMQ);
    const queue = queueName();
    const connection = await connectAmqp(url);
    later(() => connection.close());
    const channel = await connection.createChannel();
    await channel.assertQueue(queue, { durable: true, arguments: { 'x-max-length': 1000 } });
    const publisher = await usePublisher(RABBITMQ, url);
    const follower = await follow({ url, queue });
    await listening(follower, publisher);
    expect((await follower.status()).failures).toBe(0);
    await channel.deleteQueue(queue);
    await vi.waitFor(
      async () => expect((await follower.status()).lastError?.message).toContain('the queue was deleted'),
      SOON,
    );
    await listening(follower, publisher);
  });

  it('reports with a code that an exchange or a queue is not what it has to be', async () => {
    const url = urlOf(RABBITMQ);
    const connection = await connectAmqp(url);
    later(() => connection.close());
    const channel = await connection.createChannel();
    const [exchange, queue] = [queueName(), queueName()];
    await channel.assertExchange(exchange, 'fanout', { durable: false, autoDelete: true });
    await channel.assertQueue(queue, { exclusive: true });
    for (const options of [{ exchange }, { queue }]) {
      const source = new CeleryEventSource({ url, ...options });
      await expect(
        source.stream({ name: 's' } as SourceTarget<never>, new AbortController().signal),
      ).rejects.toMatchObject({
        code: ErrorCode.SourceFailed,
        details: { reason: FailureReason.Declaration },
      });
    }
  });

  it('reports with a code that there is no such virtual host', async () => {
    const source = new CeleryEventSource({ url: `${urlOf(RABBITMQ)}/nowhere` });
    const streaming = source.stream({ name: 's' } as SourceTarget<never>, new AbortController().signal);
    await expect(streaming).rejects.toBeInstanceOf(MinibatchError);
    await expect(streaming).rejects.toMatchObject({
      details: { reason: FailureReason.Unauthorized },
      message: expect.stringContaining("'nowhere'"),
    });
  });

  it('understands the virtual host as Celery writes it', async () => {
    const publisher = await usePublisher(RABBITMQ, urlOf(RABBITMQ));
    for (const path of ['/', '//', '/%2F']) {
      const follower = await follow({ url: `${urlOf(RABBITMQ)}${path}` });
      await listening(follower, publisher);
    }
  });

  it('reports a closed stream', async () => {
    const publisher = await usePublisher(RABBITMQ, urlOf(RABBITMQ));
    const follower = await follow({ url: urlOf(RABBITMQ) });
    await listening(follower, publisher);
    await follower.app.get(StreamService, { strict: false }).stream('tasks').close();
    await vi.waitFor(async () => {
      await publisher.publish([succeeded('late')]);
      expect((await follower.status()).lastError).toMatchObject({ code: ErrorCode.StreamClosed });
    }, SOON);
  });
});

/** Publishes until the broker has confirmed all, across a restart of it that `restarted` waits for. */
async function publishStubbornly(
  server: BrokerServer,
  bodies: readonly object[][],
  restarted: () => Promise<void>,
): Promise<void> {
  const left = new Set(bodies);
  while (left.size > 0) {
    await restarted();
    const publisher = await publisherOnceThere(server);
    const publish = async (body: object[]) => {
      await publisher.publish(body);
      left.delete(body);
    };
    try {
      for (const group of groupsOf([...left], 50)) await Promise.all(group.map(publish));
    } catch {
      // The server is gone: the rest once more, when it is back.
    }
    await publisher.close();
  }
}

async function publisherOnceThere(server: BrokerServer): Promise<Publisher> {
  return await vi.waitUntil(() => RABBITMQ.publisher(server.url).catch(() => undefined), SOON);
}

function groupsOf<T>(list: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(list.length / size) }, (_, index) =>
    list.slice(index * size, (index + 1) * size),
  );
}
