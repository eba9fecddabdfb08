/**
 * What a sequential append costs beyond the bare driver: one message after the other, each awaited, both in one process, on one client
 * and one server, in turns of a few messages. Whatever else the machine does hits both alike, so the ratio is steady where that of two
 * separate runs is not.
 *
 *   npm run bench:sequential                          # a server of its own
 *   npm run bench:sequential -- --replica-set         # a replica set of its own
 *   MONGODB_URI=… npm run bench:sequential            # yours (the database minibatch_bench_sequential is dropped)
 *   npm run bench:sequential -- --messages 20000 --warm-up 10000 --turn 50 --bytes 200
 *
 * Both write the same document with the same write concern. Prints the rate (median over the turns), this process's CPU time and garbage
 * for each message, and the ratios (median over pairs of turns).
 */
import { parseArgs } from 'node:util';
import { MongooseModule } from '@nestjs/mongoose';
import { startMongo, startReplicaSet } from '../scripts/servers/mongo/mongo.mjs';
import { bootOurs } from './lib/nest-app.mjs';
import { messages } from './lib/messages.mjs';
import { openMongo } from './lib/mongo.mjs';
import { median } from './lib/stats.mjs';

const { values: options } = parseArgs({
  options: {
    messages: { type: 'string', default: '10000' },
    'warm-up': { type: 'string', default: '4000' },
    turn: { type: 'string', default: '50' },
    bytes: { type: 'string', default: '200' },
    'replica-set': { type: 'boolean', default: false },
  },
});
const TURN = Number(options.turn);
const STREAM = 'bench';

const server = await (options['replica-set'] ? startReplicaSet({}) : startMongo({}));
const { connection, name } = await openMongo(server, 'sequential');
await connection.close();
const { app, streams, close } = await bootOurs({
  imports: [MongooseModule.forRoot(server.uri, { dbName: name })],
  streams: [STREAM],
});
const stream = streams.stream(STREAM);
const db = app.get('DatabaseConnection').db;
const buffer = db.collection('buffer', { writeConcern: { w: 'majority', wtimeoutMS: 30_000 } });

const subjects = [
  {
    label: 'bare insertOne',
    turns: [],
    append: (data) => buffer.insertOne({ stream: 'bare', created: new Date(), data, processed: false }),
  },
  { label: 'stream.append', turns: [], append: (data) => stream.append(data) },
];

async function turn({ append }, data) {
  const cpu = process.cpuUsage();
  const heap = process.memoryUsage().heapUsed;
  const began = performance.now();
  for (const message of data) await append(message);
  const seconds = (performance.now() - began) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  return {
    rate: data.length / seconds,
    cpu: (user + system) / data.length,
    heap: (process.memoryUsage().heapUsed - heap) / data.length,
  };
}

async function run(count, note) {
  for (let from = 0; from < count; from += TURN) {
    const data = messages(from, from + TURN, Number(options.bytes));
    // Who begins takes turns as well.
    const order = (from / TURN) % 2 === 0 ? subjects : subjects.toReversed();
    for (const subject of order) {
      const figures = await turn(subject, data);
      if (note) subject.turns.push(figures);
    }
  }
}

try {
  await run(Number(options['warm-up']), false);
  await run(Number(options.messages), true);
  const stored = await buffer.countDocuments({ stream: STREAM });
  const [bare, ours] = subjects;
  const over = (of) => median(ours.turns.map((figures, index) => of(figures) / of(bare.turns[index])));
  for (const { label, turns } of subjects) {
    console.log(
      `${label.padEnd(16)} ${median(turns.map(({ rate }) => rate)).toFixed(0)} messages/s, ` +
        `${median(turns.map(({ cpu }) => cpu)).toFixed(0)} µs of CPU and ${median(turns.map(({ heap }) => heap)).toFixed(0)} bytes of heap a message`,
    );
  }
  console.log(
    `ratio of rates ${over(({ rate }) => rate).toFixed(2)}, of CPU ${over(({ cpu }) => cpu).toFixed(2)}; ${stored} stored`,
  );
} finally {
  await close();
  await server.stop();
}
