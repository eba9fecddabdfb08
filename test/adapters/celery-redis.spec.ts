import { Redis } from 'ioredis';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { startRedis } from '../../scripts/servers/redis/redis.mjs';
import { closeAll, later, SOON } from '../e2e/support/applications.js';
import {
  bodiesOf,
  failingStore,
  follow,
  ids,
  listening,
  REDIS,
  succeeded,
  usePublisher,
  useServers,
} from './support/celery.js';

afterEach(closeAll);

const { urlOf } = useServers(REDIS);

describe('CeleryEventSource on redis', { timeout: 90_000 }, () => {
  it('reconnects when the server is killed and restarted', async () => {
    const server = await startRedis();
    later(() => server.stop());
    const before = await REDIS.publisher(server.url);
    const follower = await follow({ url: server.url });
    await listening(follower, before);
    await before.publish([succeeded('before')]);
    await vi.waitUntil(() => follower.messages.length === 1, SOON);
    await before.close();
    await server.kill9();
    await vi.waitUntil(() => follower.source.counters.interruptions === 1, SOON);
    await server.restart();
    const after = await usePublisher(REDIS, server.url);
    await listening(follower, after);
    await after.publish([succeeded('after')]);
    await vi.waitUntil(() => follower.messages.length === 2, SOON);
    expect(await follower.status()).toMatchObject({ failures: 0 });
    expect(follower.log.lines).toContainEqual(expect.stringMatching(/warn: .*is lost \(1 time so far\)/));
  });

  it('reports that a server stays away, and reconnects after that, too', async () => {
    const server = await startRedis();
    later(() => server.stop());
    const before = await REDIS.publisher(server.url);
    const follower = await follow({ url: server.url });
    await listening(follower, before);
    await before.close();
    await server.kill9();
    await vi.waitFor(async () => {
      const { lastError } = await follower.status();
      expect(lastError).toMatchObject({ message: expect.stringContaining('the connection was lost to Redis') });
    }, SOON);
    await server.restart();
    await listening(follower, await usePublisher(REDIS, server.url));
  });

  it('drops events beyond maxPending, counts them and logs that', async () => {
    const publisher = await usePublisher(REDIS, urlOf(REDIS));
    const away = failingStore();
    const follower = await follow({ url: urlOf(REDIS), maxPending: 100 }, { store: away.store });
    await listening(follower, publisher);
    away.failing = true;
    const tasks = ids(1000);
    for (const body of bodiesOf(tasks)) await publisher.publish(body);
    await vi.waitUntil(() => follower.source.counters.dropped >= 800, SOON);
    away.failing = false;
    const accounted = () => follower.messages.length + follower.source.counters.dropped;
    await vi.waitUntil(() => accounted() === tasks.length, SOON);
    expect(follower.log.lines).toContainEqual(
      expect.stringMatching(/error: .*events are dropped \(\d+ so far\): the stream is behind by 100 events or more/),
    );
  });

  it('reads from another exchange, database and key prefix', async () => {
    const publisher = await usePublisher(REDIS, urlOf(REDIS));
    const follower = await follow({ url: urlOf(REDIS).replace(/0$/, '3'), exchange: 'my[events]', keyPrefix: 'app*:' });
    const redis = new Redis(urlOf(REDIS));
    later(async () => redis.disconnect());
    const body = Buffer.from(JSON.stringify([succeeded('elsewhere')])).toString('base64');
    const envelope = JSON.stringify({
      body,
      'content-type': 'application/json',
      properties: { body_encoding: 'base64' },
    });
    await vi.waitUntil(async () => {
      await publisher.publish([succeeded('here')]);
      return (await redis.publish('app*:/3.my[events]/task.multi', envelope)) > 0;
    }, SOON);
    await vi.waitUntil(() => follower.messages.length > 0, SOON);
    expect(follower.data.map(({ task_id }) => task_id)).toEqual(['elsewhere']);
  });
});
