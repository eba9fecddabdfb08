/**
 * How fast Celery's events get into a stream, compared with the bare client that reads the same bodies, stores them in lmdb and then
 * acknowledges them; beside it, one that only acknowledges. Redis knows no acknowledgements.
 *
 *   npm run --silent build && node bench/adapters/celery.mjs
 *   node bench/adapters/celery.mjs --messages 20000 --rounds 5 --each 1
 *
 * `--each`: events in a body; workers send up to 24 together. Into memory and into LMDB; interleaved rounds, medians.
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
    });
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
  const seconds = await feed(store, { url: rabbitmq.url, queue }, async () => {});
  const channel = await connection.createChannel();
  await channel.deleteQueue(queue);
  await channel.close();
  return seconds;
}

async function feed(store, options, publish) {
  const stream = await openStream(store, `tasks-${randomUUID()}`);
  const source = new CeleryEventSource(options);
  let began = performance.now();
  stream.attach(source);
  await publish(source, () => (began = performance.now()));
  while (source.counters.appended < MESSAGES) await new Promise((resolve) => setTimeout(resolve, 1));
  const seconds = (performance.now() - began) / 1000;
  await stream.disconnect();
  return seconds;
}

/** Resolves when the workers have made their events. */
async function prepared() {
  workers.send('prepare');
  await once(workers, 'message');
}

async function bareRedis(bare) {
  await listeners(0);
  const client = new Redis(redis.url);
  let count = 0;
  let done = () => {};
  const all = new Promise((resolve) => (done = resolve));
  const counted = (events) => {
    count += events;
    if (count === MESSAGES) done();
  };
  const add = bare?.gathering((lists) => lists.forEach(counted));
  client.on('pmessage', (_pattern, _channel, text) => {
    const events = JSON.parse(Buffer.from(JSON.parse(text).body, 'base64').toString());
    if (add) add(events, events.length);
    else counted(events.length);
  });
  await client.psubscribe('/0.celeryev/*');
  await prepared();
  const began = performance.now();
  workers.send('publish');
  await all;
  const seconds = (performance.now() - began) / 1000;
  client.disconnect();
  return seconds;
}

/** Until so many listen: the one before is gone, or the next one is there. */
async function listeners(count) {
  while ((await observer.pubsub('NUMPAT')) !== count) await new Promise((resolve) => setTimeout(resolve, 1));
}

async function oursRedis(store) {
  await listeners(0);
  return feed(store, { url: redis.url }, async (_, begin) => {
    await listeners(1);
    await prepared();
    begin();
    workers.send('publish');
  });
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
  for (const subjects of tables) {
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
