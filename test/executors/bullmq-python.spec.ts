import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { memoryStore, MinibatchModule, StatusService, Streaming, StreamService } from 'nestjs-minibatch';
import { bullmq } from 'nestjs-minibatch/bullmq';
import { expect, it, vi } from 'vitest';
import { pythonWith } from '../../scripts/servers/python/venv.mjs';
import { startRedis } from '../../scripts/servers/redis/redis.mjs';
import { repository } from '../support/workspace.js';

it('a worker in Python handles windows, rejects messages, and fails as a method does', async () => {
  const [redis, { python, env }] = [await startRedis(), await pythonWith('bullmq')];
  const variables = { ...process.env, ...env, REDIS_URL: redis.url, LOCK: '5000' };
  const worker = spawn(python, [repository('examples/bullmq/worker.py')], { env: variables, stdio: 'inherit' });
  const ended = once(worker, 'close');
  const taken: unknown[] = [];
  @Injectable()
  class Orders {
    @Streaming('orders', {
      size: 2,
      retry: { attempts: 2, backoff: 10, maxBackoff: 50 },
      sink: { put: (result: unknown) => void taken.push(result) },
    })
    sum() {}
  }
  class AppModule {}
  const executor = bullmq({ connection: redis.url, lock: '5s' });
  Module({ imports: [MinibatchModule.forRoot({ store: memoryStore(), executor })], providers: [Orders] })(AppModule);
  const app = await NestFactory.createApplicationContext(AppModule, { logger: false, abortOnError: false });
  try {
    const [at, later] = [new Date('2024-05-06T07:08:09.123Z'), new Date('2024-05-06T07:08:10Z')];
    const orders = app.get(StreamService).stream('orders');
    await orders.appendMany([
      { amount: 2n ** 60n, at },
      { amount: 5n, at: later },
      { amount: -1, at },
      { amount: 7, at },
      { amount: 13, at },
      { amount: 1, at },
    ]);
    const local = async () => (await app.get(StatusService).snapshot()).streams[0]?.consumers[0]?.local;
    await vi.waitFor(async () => expect(await local()).toMatchObject({ committedMessages: 6 }), 120_000);
    expect(taken).toEqual([
      { total: 2n ** 60n + 5n, last: later },
      { total: 7n, last: at },
      { total: 1n, last: at },
    ]);
    const letters: unknown[] = [];
    for await (const { data, error } of orders.deadLetters())
      letters.push([(data as { amount: number }).amount, error]);
    expect(letters).toEqual([
      [-1, 'negative amount'],
      [13, '13 brings bad luck'],
    ]);
  } finally {
    await app.close();
    worker.kill('SIGTERM');
    await ended;
    await redis.stop();
  }
}, 180_000);
