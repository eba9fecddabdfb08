/**
 * How close the module comes to the floor: a bare loop of find + deleteMany of 1000 on the same server, in the same run.
 *
 *   npm run bench:floor                  # a server of its own
 *   MONGODB_URI=… npm run bench:floor    # yours (databases minibatch_bench_* are dropped)
 *   npm run bench:floor -- --messages 20000 --rounds 5 --size 100
 *
 * Prints messages/s (median, min–max), the ratio to the floor of the same round, and database commands per 1,000 messages,
 * everything included: leases, looks, getMores.
 */
import 'reflect-metadata';
import { parseArgs } from 'node:util';
import { Logger, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { MongooseModule } from '@nestjs/mongoose';
import mongoose from 'mongoose';
import { MinibatchModule, MinibatchRunner, Streaming } from 'nestjs-minibatch';
import { startMongo } from '../scripts/servers/mongo/mongo.mjs';

const { values: options } = parseArgs({
  options: {
    messages: { type: 'string', default: '20000' },
    rounds: { type: 'string', default: '5' },
    size: { type: 'string', default: '100' },
    bytes: { type: 'string', default: '200' },
    'read-ahead': { type: 'string' },
  },
});
const MESSAGES = Number(options.messages);
const ROUNDS = Number(options.rounds);
const SIZE = Number(options.size);
const PAYLOAD = 'x'.repeat(Number(options.bytes));
const STREAM = 'bench';
const BLOCK = 1000;

Logger.overrideLogger(['warn', 'error']);
const server = await startMongo({});
console.log(`${server.kind}, ${MESSAGES} messages of ${PAYLOAD.length} bytes, ${ROUNDS} rounds, windows of ${SIZE}\n`);

function counting(connection) {
  const counts = new Map();
  connection.getClient().on('commandStarted', ({ commandName }) => {
    counts.set(commandName, (counts.get(commandName) ?? 0) + 1);
  });
  return counts;
}

async function connect(name) {
  const connection = mongoose.createConnection(server.uri, {
    dbName: `minibatch_bench_${name}`,
    monitorCommands: true,
  });
  await connection.asPromise();
  await connection.dropDatabase();
  return connection;
}

/** Same documents for every subject, made before the clock starts. */
async function fill(connection) {
  const buffer = connection.collection('buffer');
  await buffer.createIndex({ stream: 1, processed: 1, _id: 1 }, { name: 'minibatch_fetch' });
  for (let from = 0; from < MESSAGES; from += BLOCK) {
    const documents = Array.from({ length: Math.min(BLOCK, MESSAGES - from) }, (_, index) => ({
      stream: STREAM,
      created: new Date(),
      data: { n: from + index, text: PAYLOAD },
      processed: false,
    }));
    await buffer.insertMany(documents);
  }
}

async function bare() {
  const connection = await connect('floor');
  await fill(connection);
  const counts = counting(connection);
  const buffer = connection.collection('buffer');
  let handled = 0;
  const began = performance.now();
  for (;;) {
    const documents = await buffer
      .find({ stream: STREAM, processed: false }, { sort: { _id: 1 }, limit: BLOCK, batchSize: BLOCK + 1 })
      .toArray();
    if (documents.length === 0) break;
    handled += documents.length;
    await buffer.deleteMany({ _id: { $in: documents.map(({ _id }) => _id) } });
  }
  const seconds = (performance.now() - began) / 1000;
  await connection.dropDatabase();
  await connection.close();
  return { handled, seconds, counts };
}

function appWith(groups, uri, dbName, onWindow) {
  const providers = groups.map((group) => {
    const Consumer = class {
      handle(window) {
        onWindow(group, window);
      }
    };
    Object.defineProperty(Consumer, 'name', { value: `Consumer_${group}` });
    const descriptor = Object.getOwnPropertyDescriptor(Consumer.prototype, 'handle');
    Streaming(STREAM, { size: SIZE, group })(Consumer.prototype, 'handle', descriptor);
    return Consumer;
  });
  class App {}
  Module({
    imports: [
      MongooseModule.forRoot(uri, { dbName, monitorCommands: true }),
      MinibatchModule.forRoot({
        autoStart: false,
        ...(options['read-ahead'] ? { readAhead: Number(options['read-ahead']) } : {}),
      }),
    ],
    providers,
  })(App);
  return App;
}

async function ours(groups) {
  const name = `ours_${groups.length}`;
  const setup = await connect(name);
  await fill(setup);
  const seen = new Map(groups.map((group) => [group, new Set()]));
  let repeated = 0;
  const app = await NestFactory.createApplicationContext(
    appWith(groups, server.uri, `minibatch_bench_${name}`, (group, window) => {
      for (const { n } of window.data) {
        if (seen.get(group).has(n)) repeated += 1;
        seen.get(group).add(n);
      }
    }),
    { logger: ['warn', 'error'] },
  );
  const runner = app.get(MinibatchRunner);
  const engine = app.get('MINIBATCH_ENGINE');
  const counts = counting(app.get('DatabaseConnection'));
  const began = performance.now();
  await runner.start();
  const done = () => engine.status().every((s) => s.committedMessages >= MESSAGES && s.inFlight === 0);
  while (!done()) await new Promise((resolve) => setTimeout(resolve, 1));
  const seconds = (performance.now() - began) / 1000;
  const left = await setup.collection('buffer').countDocuments();
  const handled = Math.min(...[...seen.values()].map((set) => set.size));
  await app.close();
  await setup.dropDatabase();
  await setup.close();
  return { handled, seconds, counts: new Map(counts), repeated, left };
}

const subjects = [
  ['bare find + deleteMany of 1000', bare],
  [`ours, windows of ${SIZE}`, () => ours(['default'])],
  [`ours, windows of ${SIZE}, two groups`, () => ours(['a', 'b'])],
];
const results = new Map(subjects.map(([name]) => [name, []]));
try {
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [name, run] of subjects) {
      const result = await run();
      if (result.handled !== MESSAGES || result.repeated || result.left) {
        throw new Error(`${name}: handled ${result.handled}, repeated ${result.repeated}, left ${result.left}`);
      }
      results.get(name).push(result);
      process.stderr.write(`\rround ${round + 1}/${ROUNDS} ${name.padEnd(50)}`);
    }
  }
  process.stderr.write(`\r${' '.repeat(80)}\r`);
} finally {
  await server.stop();
}

const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];
const floor = results.get(subjects[0][0]);
console.log(
  'subject'.padEnd(38),
  'messages/s'.padStart(24),
  'ratio'.padStart(7),
  'commands/1000'.padStart(14),
  ' by kind',
);
for (const [name, runs] of results) {
  const rates = runs.map(({ seconds }) => MESSAGES / seconds);
  const ratios = runs.map(({ seconds }, index) => floor[index].seconds / seconds);
  const last = runs.at(-1).counts;
  const commands = [...last.values()].reduce((a, b) => a + b, 0) / (MESSAGES / 1000);
  const spread = `${median(rates).toFixed(0)} (${Math.min(...rates).toFixed(0)}–${Math.max(...rates).toFixed(0)})`;
  console.log(
    name.padEnd(38),
    spread.padStart(24),
    median(ratios).toFixed(2).padStart(7),
    commands.toFixed(1).padStart(14),
    '',
    [...last].map(([kind, count]) => `${kind} ${count}`).join(', '),
  );
}
