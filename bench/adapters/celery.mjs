/**
 * How fast Celery's events get into a stream, compared with the bare client that reads the same bodies, stores them in lmdb, once even if
 * they are redelivered, and then acknowledges them; next to it, one that only acknowledges. Redis knows no acknowledgements.
 *
 *   npm run --silent build && node bench/adapters/celery.mjs
 *   node bench/adapters/celery.mjs --messages 20000 --rounds 5 --each 1
 *
 * `--each`: events in a body; workers send up to 24 together. `--broker redis`: that one alone. Into memory and into LMDB; interleaved rounds, medians.
 */
import 'reflect-metadata';
import { fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Logger } from '@nestjs/common';
import amqp from 'amqplib';
import { Redis } from 'ioredis';
import { memoryStore } from 'nestjs-minibatch';
import { CeleryEventSource } from 'nestjs-minibatch/celery';
import { openStream } from 'nestjs-minibatch/client';
import { lmdbStore } from 'nestjs-minibatch/lmdb';
import { startRabbitmq } from '../../scripts/servers/rabbitmq/rabbitmq.mjs';
import { startRedis } from '../../scripts/servers/redis/redis.mjs';
import { openBareLmdb } from './lib/bare-lmdb.mjs';
import { celeryBodies } from './lib/celery-bodies.mjs';
import { printTable } from './lib/table.mjs';

const { values } = parseArgs({
  options: {
    messages: { type: 'string', default: '20000' },
    rounds: { type: 'string', default: '5' },
    each: { type: 'string', default: '1' },
    broker: { type: 'string', default: '' },
  },
});
const MESSAGES = Number(values.messages);
const ROUNDS = Number(values.rounds);
const EACH = Number(values.each);
Logger.overrideLogger(['error']);

const rabbitmq = await startRabbitmq();
const redis = await startRedis();
const connection = await amqp.connect(rabbitmq.url);
const observer = new Redis(redis.url);
// A process of their own, as in life: what it takes to send is nobody's share.
const workers = fork(new URL('./celery-publisher.mjs', import.meta.url), [redis.url, values.messages, values.each]);
const folder = await mkdtemp(join(tmpdir(), 'minibatch-bench-'));

/** A queue that is full before the clock starts. */
async function fullQueue() {
  const queue = `bench-${randomUUID()}`;
  const channel = await connection.createConfirmChannel();
  await channel.assertExchange('celeryev', 'topic', { durable: true });
  await channel.assertQueue(queue, { durable: true });
  for (const body of celeryBodies(MESSAGES, EACH))
    channel.sendToQueue(queue, Buffer.from(body), { contentType: 'application/json' });
  await channel.waitForConfirms();
  await channel.close();
  return queue;
}

/** The id by which an event that is redelivered, or reaches a second process, is recognised. */
const eventKey = ({ uuid, type, clock, timestamp }) => Buffer.from(`${uuid}:${type}:${clock}:${timestamp}`);

/** Acknowledges at once, or when `bare` has stored the events; as many on their way as ours has. */
async function bareRabbitmq(bare) {
  const queue = await fullQueue();
  const channel = await connection.createChannel();
  await channel.prefetch(500);
  const began = performance.now();
  let count = 0;
  await new Promise((resolve) => {
    const counted = (events) => {
      count += events;
      if (count === MESSAGES) resolve();
    };
    const add = bare?.gathering((messages) => {
      channel.ack(messages.at(-1).message, true);
      for (const { events } of messages) counted(events);
    }, eventKey);
    void channel.consume(queue, (message) => {
      if (message === null) return; // the queue was deleted
      const events = JSON.parse(message.content.toString());
      if (add) return add(events, { message, events: events.length });
      channel.ack(message);
      counted(events.length);
    });
  });
  const seconds = (performance.now() - began) / 1000;
  await channel.deleteQueue(queue);
  await channel.close();
  return seconds;
}

async function oursRabbitmq(store) {
  const queue = await fullQueue();
  const began = performance.now();
  const { source, close } = await feeding(store, { url: rabbitmq.url, queue });
  await appended(source, MESSAGES);
  const seconds = (performance.now() - began) / 1000;
  await close();
  const channel = await connection.createChannel();
  await channel.deleteQueue(queue);
  await channel.close();
  return seconds;
}

async function feeding(store, options) {
  const stream = await openStream(store, `tasks-${randomUUID()}`);
  const source = new CeleryEventSource(options);
  stream.attach(source);
  return { source, close: () => stream.disconnect() };
}

async function appended(source, count) {
  while (source.counters.appended < count) await new Promise((resolve) => setTimeout(resolve, 1));
}

/** Resolves when the workers have made their events. */
async function prepared() {
  workers.send('prepare');
  await once(workers, 'message');
}

async function bareRedis(bare) {
  await listeners(0);
  const client = new Redis(redis.url);
  let [count, done] = [0, () => {}];
  const counted = (events) => {
    count += events;
    if (count % MESSAGES === 0) done();
  };
  const add = bare?.gathering((lists) => lists.forEach(counted), eventKey);
  client.on('pmessage', (_pattern, _channel, text) => {
    const events = JSON.parse(Buffer.from(JSON.parse(text).body, 'base64').toString());
    if (add) add(events, events.length);
    else counted(events.length);
  });
  await client.psubscribe('/0.celeryev/*');
  const seconds = await secondOfTwo(() => new Promise((resolve) => (done = resolve)));
  client.disconnect();
  return seconds;
}

/** The first warms up, in the connection and the application that are timed; see ../lib/warm-up.mjs. */
async function secondOfTwo(all) {
  let seconds;
  for (let pass = 0; pass < 2; pass += 1) {
    await prepared();
    const over = all();
    const began = performance.now();
    workers.send('publish');
    await over;
    seconds = (performance.now() - began) / 1000;
  }
  return seconds;
}

/** Until that many listen: the one before is gone, or the next one is there. */
async function listeners(count) {
  while ((await observer.pubsub('NUMPAT')) !== count) await new Promise((resolve) => setTimeout(resolve, 1));
}

async function oursRedis(store) {
  await listeners(0);
  const { source, close } = await feeding(store, { url: redis.url });
  await listeners(1);
  let passed = 0;
  const seconds = await secondOfTwo(() => appended(source, (passed += MESSAGES)));
  await close();
  return seconds;
}

const lmdb = () => lmdbStore({ path: join(folder, randomUUID()) });
const storing = async (run) => {
  const bare = await openBareLmdb();
  const seconds = await run(bare);
  await bare.close();
  return seconds;
};
const tables = [
  [
    ['RabbitMQ: bare client that stores in lmdb and acks', () => storing(bareRabbitmq)],
    ['RabbitMQ: bare consume + ack', () => bareRabbitmq()],
    ['RabbitMQ: ours, into LMDB', () => oursRabbitmq(lmdb())],
    ['RabbitMQ: ours, into memory', () => oursRabbitmq(memoryStore())],
  ],
  [
    ['Redis: bare client that stores in lmdb', () => storing(bareRedis)],
    ['Redis: bare psubscribe', () => bareRedis()],
    ['Redis: ours, into LMDB', () => oursRedis(lmdb())],
    ['Redis: ours, into memory', () => oursRedis(memoryStore())],
  ],
];
console.log(`${MESSAGES} events, ${EACH} in a body, ${ROUNDS} rounds\n`);
try {
  for (const subjects of tables.filter(([[name]]) => name.toLowerCase().startsWith(values.broker))) {
    const rated = subjects.map(([name, run]) => [name, async () => MESSAGES / (await run())]);
    await printTable(rated, { rounds: ROUNDS });
  }
} finally {
  workers.disconnect();
  observer.disconnect();
  await connection.close();
  await redis.stop();
  await rabbitmq.stop();
  await rm(folder, { recursive: true, force: true });
}
