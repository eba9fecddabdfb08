/** The process that bench/many-streams.mjs measures. Prints one line of JSON. */
import 'reflect-metadata';
import { Logger, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { MinibatchModule, MinibatchRunner, StreamService, Streaming } from 'nestjs-minibatch';
import { meter } from './mongo-meter.mjs';
import { messages } from './messages.mjs';
import { pause, until } from './pause.mjs';
import { median } from './stats.mjs';

/** Messages of a window; as many go to each busy stream at a time. */
const SIZE = 10;
const BYTES = 200;
/** Between two rounds of messages; milliseconds. */
const ROUND = 1_000;
const PATIENT = { every: 20, most: 600_000 };

Logger.overrideLogger(['warn', 'error']);

const STORES = {
  async lmdb(path) {
    const { lmdbStore } = await import('nestjs-minibatch/lmdb');
    return { options: { store: lmdbStore({ path }) }, count: countCalls };
  },
  mongo: overMongo,
  'replica-set': overMongo,
  async postgres(connectionString) {
    const { postgresStore } = await import('nestjs-minibatch/postgres');
    // The store's own pool would be of the package's pg, whose statements nobody counts here.
    const { openPool, statementMeter } = await import('./postgres.mjs');
    return { options: { store: postgresStore({ pool: openPool(connectionString) }) }, count: statementMeter };
  },
};

async function overMongo(uri) {
  const { MongooseModule } = await import('@nestjs/mongoose');
  const { openMongo } = await import('./mongo.mjs');
  const { connection, name } = await openMongo({ uri }, 'streams');
  await connection.close();
  return {
    imports: [MongooseModule.forRoot(uri, { dbName: name, monitorCommands: true })],
    options: {},
    count: (app) => meter(app.get('DatabaseConnection').getClient()),
  };
}

/** Calls of the store that name a stream or several. */
function countCalls(app) {
  const store = app.get('MINIBATCH_STREAM_STORE');
  const calls = { total: 0 };
  for (let type = Object.getPrototypeOf(store); type !== Object.prototype; type = Object.getPrototypeOf(type)) {
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(type))) {
      if (typeof value !== 'function' || name === 'constructor' || Object.hasOwn(store, name)) continue;
      store[name] = (...args) => {
        calls.total += 1;
        return value.apply(store, args);
      };
    }
  }
  return calls;
}

function consumerOf(names, handled) {
  class Consumer {}
  for (const [index, name] of names.entries()) {
    const method = `handle${index}`;
    Consumer.prototype[method] = (window) => handled(window);
    const descriptor = Object.getOwnPropertyDescriptor(Consumer.prototype, method);
    Streaming(name, { size: SIZE })(Consumer.prototype, method, descriptor);
  }
  return Consumer;
}

export async function run({ run: name, address, streams, busy, settle, seconds }) {
  const count = Number(streams);
  const names = Array.from({ length: count }, (_, n) => `stream-${n}`);
  const latencies = [];
  let handled = 0;
  const { imports = [], options, count: counter } = await STORES[name](address);
  const app = await applicationOf(names, imports, options, ({ data }) => {
    handled += data.length;
    latencies.push(performance.now() - data.at(-1).at);
  });
  const engine = app.get('MINIBATCH_ENGINE');
  const calls = counter(app);
  const { look, since } = meterOf(calls);

  const memoryBefore = memory();
  const beginning = look();
  await app.get(MinibatchRunner).start();
  await until(() => engine.status().every(({ activity }) => activity === 'waiting'), PATIENT);
  const start = (performance.now() - beginning.at) / 1000;
  const startCommands = calls.total - beginning.calls;
  const { user, system } = process.cpuUsage(beginning.cpu);
  await engine.settled?.();
  const kilobytes = (memory() - memoryBefore) / 1024 / count;

  await pause(Number(settle) * 1000);
  const timers = process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
  let before = look();
  await pause(Number(seconds) * 1000);
  const idle = since(before);

  const service = app.get(StreamService);
  const targets = names.slice(0, Number(busy)).map((stream) => service.stream(stream));
  before = look();
  const appended = await appendRounds(targets, Number(seconds));
  await until(() => handled >= appended, PATIENT);
  const working = since(before);

  const stopping = performance.now();
  await app.close();
  const stop = (performance.now() - stopping) / 1000;
  const figures = {
    streams: count,
    start: round(start),
    startCommands,
    startCpu: round((user + system) / 1e6),
    kilobytesPerStream: round(kilobytes),
    timers,
    idleCommandsPerSecond: idle.commands,
    idleCpuPercent: idle.cpu,
    busyCommandsPerSecond: working.commands,
    busyCpuPercent: working.cpu,
    latencyMs: round(median(latencies)),
    stop: round(stop),
  };
  console.log(JSON.stringify(figures));
  // A driver may hold the process for a while.
  process.exit(0);
}

function applicationOf(names, imports, options, take) {
  class App {}
  Module({
    imports: [...imports, MinibatchModule.forRoot({ autoStart: false, ...options })],
    providers: [consumerOf(names, take)],
  })(App);
  return NestFactory.createApplicationContext(App, { logger: ['warn', 'error'] });
}

/** What was spent since a moment: commands a second, and percent of a processor. */
function meterOf(calls) {
  const look = () => ({ calls: calls.total, cpu: process.cpuUsage(), at: performance.now() });
  const since = (before) => {
    const took = (performance.now() - before.at) / 1000;
    const { user, system } = process.cpuUsage(before.cpu);
    return { commands: round((calls.total - before.calls) / took), cpu: round((100 * (user + system)) / 1e6 / took) };
  };
  return { look, since };
}

/** Appends to each of the streams once a round, for as many rounds. Resolves with the number of messages. */
async function appendRounds(targets, rounds) {
  let appended = 0;
  for (let n = 0; n < rounds; n += 1) {
    const next = pause(ROUND);
    await Promise.all(
      targets.map((target) =>
        target.appendMany(messages(0, SIZE, BYTES).map((message) => ({ ...message, at: performance.now() }))),
      ),
    );
    appended += targets.length * SIZE;
    await next;
  }
  return appended;
}

function memory() {
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

const round = (value) => Number(value.toPrecision(3));
