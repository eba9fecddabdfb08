import { Injectable } from '@nestjs/common';
import { Redis } from 'ioredis';
import { ErrorCode, StatusService, Streaming, StreamService, type Window } from 'nestjs-minibatch';
import { bullmq } from 'nestjs-minibatch/bullmq';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { startRedis } from '../../scripts/servers/redis/redis.mjs';
import { boot, closeApps } from '../support/executor-apps.js';

const LOCK = 1_000;
let redis: Awaited<ReturnType<typeof startRedis>>;
let admin: Redis;
let tests = 0;

beforeAll(async () => {
  redis = await startRedis();
  admin = new Redis(redis.url);
  admin.on('error', () => undefined);
});
afterAll(async () => {
  admin?.disconnect();
  await redis?.stop();
});
afterEach(closeApps);

describe('bullmq with a Redis whose connection stands', () => {
  it.each([
    [
      'frozen',
      async () => {
        process.kill(redis.pid ?? 0, 'SIGSTOP');
      },
      async () => {
        process.kill(redis.pid ?? 0, 'SIGCONT');
      },
      'Redis does not answer',
      // Then nobody can see it; a try takes as long as a lock lasts.
      async () => [],
    ],
    [
      'full',
      async () => void (await admin.config('SET', 'maxmemory', '1')),
      async () => void (await admin.config('SET', 'maxmemory', '0')),
      'Redis is full',
      async () => admin.keys('*:lock'),
    ],
  ])('counts nothing against the windows that are out while it is %s', async (_, begin, end, why, locks) => {
    const prefix = `test${(tests += 1)}`;
    @Injectable()
    class Orders {
      static begun = 0;
      static hangs = true;

      @Streaming('orders', { size: 1, workers: 2, retry: { attempts: 1, backoff: 50, maxBackoff: 200 } })
      async take({ signal }: Window) {
        Orders.begun += 1;
        if (Orders.hangs) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
      }
    }
    const executor = () => bullmq({ connection: redis.url, prefix, lock: LOCK, concurrency: 2 });
    for (let workers = 0; workers < 2; workers += 1) await boot({ role: 'worker', executor: executor() }, [Orders]);
    const app = await boot({ executor: executor() }, [Orders]);
    const local = async () => (await app.get(StatusService).snapshot()).streams[0]?.consumers[0]?.local;
    await app.get(StreamService).appendMany('orders', [1, 2]);
    await vi.waitFor(() => expect(Orders.begun).toBe(2), 20_000);
    await begin();
    try {
      await vi.waitFor(async () => {
        expect(await local()).toMatchObject({
          activity: 'blocked',
          blockedExecutor: { code: ErrorCode.ExecutorUnavailable, error: expect.stringContaining(why) as string },
        });
        // The workers have lost their jobs in the meantime.
        expect((await local())?.blockedExecutor?.attempts).toBeGreaterThan(4);
        expect(await locks()).toEqual([]);
      }, 30_000);
    } finally {
      await end();
    }
    Orders.hangs = false;
    await vi.waitFor(async () => expect(await local()).toMatchObject({ committedMessages: 2 }), 30_000);
    expect(await local()).toMatchObject({ failures: 0, deadLettered: 0, lostWorkers: 0 });
  });
});
