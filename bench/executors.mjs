/**
 * What the executors `bullmq` and `threads` cost and how they scale, with a Redis and workers of its own: node bench/executors.mjs [windows]
 * Prints the figures as lines of JSON. `npm run build` comes first. Only ratios and processor time say something about a busy machine.
 */
import 'reflect-metadata';
import { fork } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { isMainThread } from 'node:worker_threads';
import { Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Queue, QueueEvents } from 'bullmq';
import { memoryStore, MinibatchModule, Streaming } from 'nestjs-minibatch';
import { bullmq } from 'nestjs-minibatch/bullmq';
import { runMinibatchWorker, threads } from 'nestjs-minibatch/threads';
import { startRedis } from '../scripts/servers/redis/redis.mjs';
import { jobDataOf, jobIdOf } from '../libs/minibatch/dist/executors/bullmq/job-codec.js';
import { taskFor } from '../libs/minibatch/dist/testing/executor-contract/tasks.js';

/** On a busy machine a shorter one is lost by workers that are alive. Milliseconds. */
const LOCK = 10_000;
/** Where a worker is killed. */
const SHORT_LOCK = 2_000;
/** Windows of each measurement; fewer on a busy machine. */
const COUNT = Number(process.argv[2] ?? 2_000);
/** Windows that wait at the same time: what they hold is not to be collected while others are measured. */
const SLICE = 200;
/** How long a method of `compute` keeps its processor, in rounds of a sum: some 10 ms. */
const ROUNDS = 10_000_000;
const { REDIS_URL, CONCURRENCY, WORKER_LOCK } = process.env;
let windows = 0;

if (!isMainThread) await runMinibatchWorker(workerModule({}));
else if (REDIS_URL) await work();
else {
  await measureBullmq();
  await measureThreads();
}

function workerModule(options) {
  class Jobs {
    nothing() {}
    sleep() {
      return new Promise((resolve) => setTimeout(resolve, 50));
    }
    compute() {
      let sum = 0;
      for (let n = 0; n < ROUNDS; n += 1) sum = (sum + n * n) % 1_000_003;
      return sum;
    }
  }
  for (const group of ['nothing', 'sleep', 'compute']) {
    const descriptor = Object.getOwnPropertyDescriptor(Jobs.prototype, group);
    Streaming('executor-contract', { size: 1, group })(Jobs.prototype, group, descriptor);
  }
  Injectable()(Jobs);
  class AppModule {}
  Module({
    imports: [MinibatchModule.forRoot({ store: memoryStore(), role: 'worker', ...options })],
    providers: [Jobs],
  })(AppModule);
  return AppModule;
}

async function work() {
  const executor = bullmq({ connection: REDIS_URL, lock: Number(WORKER_LOCK), concurrency: Number(CONCURRENCY) });
  await NestFactory.createApplicationContext(workerModule({ executor }), { logger: ['error'] });
  // If the other process fails, this one is not to stay.
  process.on('disconnect', () => process.exit());
  process.send('ready');
}

/** Processes that run windows of the executor, and their end. */
function workersOn(redis) {
  const children = [];
  const start = async (concurrency, lock = LOCK) => {
    const env = { ...process.env, REDIS_URL: redis.url, CONCURRENCY: String(concurrency), WORKER_LOCK: String(lock) };
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

function task(executor, group, size) {
  const messages = Array.from({ length: size }, (_, n) => ({ data: { n, city: 'Berlin', delay: 12.5, late: true } }));
  return taskFor(executor, group, { record: { id: `w${(windows += 1)}` }, messages, wantsResult: false });
}

/** Milliseconds of processor that the main thread has taken, without those of worker threads; on Linux. */
async function mainThread() {
  const [nanoseconds] = (await readFile(`/proc/self/task/${process.pid}/schedstat`, 'utf8')).split(' ');
  return Number(nanoseconds) / 1e6;
}

/**
 * Makes `count` things, and keeps `out` of them out until all are through.
 *
 * @returns seconds, and milliseconds of this process's main thread for each; both without the making
 */
async function run({ make, each, count, out }) {
  let [seconds, cpu] = [0, 0];
  for (let left = count; left > 0; left -= SLICE) {
    const made = Array.from({ length: Math.min(left, SLICE) }, make);
    const [began, before] = [performance.now(), await mainThread()];
    const lane = async () => {
      for (let next = made.pop(); next; next = made.pop()) await each(next);
    };
    await Promise.all(Array.from({ length: out }, lane));
    cpu += (await mainThread()) - before;
    seconds += (performance.now() - began) / 1_000;
  }
  return { seconds, cpu: cpu / count };
}

/** What BullMQ alone takes for jobs that hold the same, as its documentation shows it: an `add`, and `waitUntilFinished`. */
async function bareJobs(redis) {
  const connection = { url: redis.url, enableAutoPipelining: true, maxRetriesPerRequest: null };
  const name = 'minibatch.executor-contract.nothing';
  const [queue, events] = [new Queue(name, { connection }), new QueueEvents(name, { connection })];
  queue.setMaxListeners(0);
  await Promise.all([queue.waitUntilReady(), events.waitUntilReady()]);
  const keep = { age: 600, count: 10_000 };
  return {
    make: (size) => {
      const given = task({ name: 'bare' }, 'nothing', size);
      return [jobDataOf(given), { jobId: jobIdOf(given), removeOnComplete: keep, removeOnFail: keep }];
    },
    each: async ([data, options]) => (await queue.add('window', data, options)).waitUntilFinished(events),
    close: () => Promise.all([queue.close(), events.close()]),
  };
}

async function measureBullmq() {
  const redis = await startRedis({ fsync: 'everysec' });
  const executor = bullmq({ connection: redis.url, lock: LOCK });
  const workers = workersOn(redis);
  await throughput(redis, executor, workers);
  await scaling(executor, workers);
  await executor.close(1_000);
  await recovery(redis, workers);
  await redis.stop();
}

async function throughput(redis, executor, { start, end }) {
  await start(50);
  const each = (given) => executor.run(given);
  const ours = (size, count, out) => run({ make: () => task(executor, 'nothing', size), each, count, out });
  await ours(10, 100, 50);
  const small = await ours(1, COUNT, 100);
  figure('windowsPerSecond', COUNT / small.seconds);
  const bare = await bareJobs(redis);
  const cpu = { ours: [], bare: [] };
  // By turns, so that both have the same neighbours.
  for (let turn = 0; turn < 4; turn += 1) {
    cpu.ours.push((await ours(100, COUNT / 2, 50)).cpu);
    cpu.bare.push((await run({ ...bare, make: () => bare.make(100), count: COUNT / 2, out: 50 })).cpu);
  }
  await bare.close();
  figure('emitterMsPerWindowOf100', Math.min(...cpu.ours), 3);
  figure('bareBullmqMsPerJobOf100', Math.min(...cpu.bare), 3);
  const thousand = await ours(1_000, COUNT / 5, 20);
  figure('messagesPerSecondAtWindowsOf1000', (COUNT * 200) / thousand.seconds);
  await end();
}

async function scaling(executor, { start, end }) {
  const each = (given) => executor.run(given);
  const make = () => task(executor, 'sleep', 10);
  const rate = async (workers) => {
    for (let n = 0; n < workers; n += 1) await start(4);
    await run({ make, each, count: 4 * workers, out: 12 });
    const count = (COUNT / 20) * workers;
    const { seconds } = await run({ make, each, count, out: 36 });
    await end();
    return count / seconds;
  };
  const one = await rate(1);
  figure('threeWorkersToOne', (await rate(3)) / one, 2);
}

async function recovery(redis, { start, end }) {
  const executor = bullmq({ connection: redis.url, lock: SHORT_LOCK });
  const [victim] = [await start(1, SHORT_LOCK), await start(1, SHORT_LOCK)];
  const runs = Array.from({ length: 2 }, () => {
    const given = task(executor, 'sleep', 1);
    return { begun: given.begin(), over: executor.run(given) };
  });
  await Promise.all(runs.map(({ begun }) => begun));
  victim.kill('SIGKILL');
  const began = performance.now();
  await Promise.allSettled(runs.map(({ over }) => over));
  figure('recoveryInLocks', (performance.now() - began) / SHORT_LOCK, 2);
  await executor.close(1_000);
  await end();
}

async function measureThreads() {
  // A thread that boots does not.
  const keepsAlive = setInterval(() => undefined, 60_000);
  const measured = async (count, group, size, windowsOfIt) => {
    const executor = threads({ worker: new URL(import.meta.url), threads: count });
    await executor.open([]);
    const each = (given) => executor.run(given);
    const make = () => task(executor, group, size);
    await run({ make, each, count: windowsOfIt / 4, out: 8 * count });
    const figures = await run({ make, each, count: windowsOfIt, out: 8 * count });
    await executor.close(1_000);
    return figures;
  };
  const nothing = await measured(1, 'nothing', 100, COUNT * 2);
  figure('threadsMsPerWindowOf100', nothing.cpu, 3);
  const count = Math.max(4, COUNT / 10);
  const one = await measured(1, 'compute', 1, count);
  const two = await measured(2, 'compute', 1, count);
  figure('twoThreadsToOne', one.seconds / two.seconds, 2);
  clearInterval(keepsAlive);
}
