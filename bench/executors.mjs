/**
 * What the executor `bullmq` costs and how it scales, with a Redis and workers of its own: node bench/executors.mjs
 * Prints the figures as lines of JSON. `npm run build` comes first. Only the ratio and the processor time say something about a busy machine.
 */
import 'reflect-metadata';
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { memoryStore, MinibatchModule, Streaming } from 'nestjs-minibatch';
import { bullmq } from 'nestjs-minibatch/bullmq';
import { startRedis } from '../scripts/servers/redis/redis.mjs';
import { taskFor } from '../libs/minibatch/dist/testing/executor-contract/tasks.js';

const LOCK = 2_000;
/** Windows of each measurement; fewer on a busy machine. */
const COUNT = Number(process.argv[2] ?? 2_000);
const { REDIS_URL, CONCURRENCY } = process.env;
if (REDIS_URL) await work();
else await measure();

async function work() {
  class Jobs {
    nothing() {}
    sleep() {
      return new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
  for (const group of ['nothing', 'sleep']) {
    const descriptor = Object.getOwnPropertyDescriptor(Jobs.prototype, group);
    Streaming('executor-contract', { size: 1, group })(Jobs.prototype, group, descriptor);
  }
  Injectable()(Jobs);
  class AppModule {}
  const executor = bullmq({ connection: REDIS_URL, lock: LOCK, concurrency: Number(CONCURRENCY) });
  Module({
    imports: [MinibatchModule.forRoot({ store: memoryStore(), role: 'worker', executor })],
    providers: [Jobs],
  })(AppModule);
  await NestFactory.createApplicationContext(AppModule, { logger: ['error'] });
  process.send('ready');
}

/** Processes that run windows of the executor, and their end. */
function workersOn(redis) {
  const children = [];
  const start = async (concurrency) => {
    const env = { ...process.env, REDIS_URL: redis.url, CONCURRENCY: String(concurrency) };
    const child = fork(fileURLToPath(import.meta.url), { env });
    children.push(child);
    await new Promise((resolve) => child.once('message', resolve));
    return child;
  };
  const end = async () => {
    for (const child of children.splice(0)) {
      if (child.signalCode) continue;
      const closed = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await closed;
    }
  };
  return { start, end };
}

function figure(name, value, digits = 0) {
  process.stdout.write(`${JSON.stringify({ [name]: Number(value.toFixed(digits)) })}\n`);
}

async function measure() {
  const redis = await startRedis({ fsync: 'everysec' });
  const executor = bullmq({ connection: redis.url, lock: LOCK });
  const { start, end } = workersOn(redis);
  let windows = 0;
  const task = (group, size) => {
    const messages = Array.from({ length: size }, (_, n) => ({ data: { n, city: 'Berlin', delay: 12.5, late: true } }));
    return taskFor(executor, group, { record: { id: `w${(windows += 1)}` }, messages, wantsResult: false });
  };
  /** Keeps `out` windows out until `count` are through. */
  const run = async (group, count, out, size) => {
    const tasks = Array.from({ length: count }, () => task(group, size));
    const [began, before] = [performance.now(), process.cpuUsage()];
    const lane = async () => {
      for (let next = tasks.pop(); next; next = tasks.pop()) await executor.run(next);
    };
    await Promise.all(Array.from({ length: out }, lane));
    const { user, system } = process.cpuUsage(before);
    return { seconds: (performance.now() - began) / 1_000, cpu: (user + system) / 1_000 / count };
  };

  await start(50);
  await run('nothing', 100, 50, 10);
  const small = await run('nothing', COUNT, 100, 1);
  figure('windowsPerSecond', COUNT / small.seconds);
  const hundred = await run('nothing', COUNT, 50, 100);
  figure('emitterMsPerWindowOf100', hundred.cpu, 3);
  const thousand = await run('nothing', COUNT / 5, 20, 1_000);
  figure('messagesPerSecondAtWindowsOf1000', (COUNT * 200) / thousand.seconds);
  await end();

  const rate = async (workers) => {
    for (let n = 0; n < workers; n += 1) await start(4);
    await run('sleep', 4 * workers, 12, 10);
    const { seconds } = await run('sleep', (COUNT / 20) * workers, 36, 10);
    await end();
    return ((COUNT / 20) * workers) / seconds;
  };
  const one = await rate(1);
  figure('threeWorkersToOne', (await rate(3)) / one, 2);

  const [victim] = [await start(1), await start(1)];
  const runs = Array.from({ length: 2 }, () => {
    const given = task('sleep', 1);
    return { begun: given.begin(), over: executor.run(given) };
  });
  await Promise.all(runs.map(({ begun }) => begun));
  victim.kill('SIGKILL');
  const began = performance.now();
  await Promise.allSettled(runs.map(({ over }) => over));
  figure('recoveryInLocks', (performance.now() - began) / LOCK, 2);
  await end();

  await executor.close(1_000);
  await redis.stop();
}
