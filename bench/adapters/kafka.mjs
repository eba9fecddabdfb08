/**
 * How close source and sink come to the bare client on the same broker, in the same run.
 *
 *   node bench/adapters/kafka.mjs
 *   node bench/adapters/kafka.mjs --messages 20000 --rounds 5 --bytes 200 --partitions 3 --way into
 *
 * Into a stream: from the join of the group to the last record, by a bare `eachBatch` that stores, one that only counts or parses, and
 * by KafkaSource; for comparison, what the store alone takes for the same messages. Out of a stream: from the first window to the last
 * acknowledgement, against bare sends of as many messages as a window has, one after the other.
 */
import 'reflect-metadata';
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Logger, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Kafka, logLevel, Partitioners } from 'kafkajs';
import { memoryStore, MinibatchModule, StreamService } from 'nestjs-minibatch';
import { KafkaSink, KafkaSource } from 'nestjs-minibatch/kafka';
import { lmdbStore } from 'nestjs-minibatch/lmdb';
import { startKafka } from '../../scripts/servers/kafka/kafka.mjs';
import { createTopics } from '../../scripts/servers/kafka/topics.mjs';
import { warmUpShare } from '../lib/warm-up.mjs';
import { openBareLmdb } from './lib/bare-lmdb.mjs';
import { drainSeconds } from './lib/full-stream.mjs';
import { printTable } from './lib/table.mjs';

const { values: options } = parseArgs({
  options: {
    messages: { type: 'string', default: '20000' },
    rounds: { type: 'string', default: '5' },
    bytes: { type: 'string', default: '200' },
    partitions: { type: 'string', default: '1' },
    way: { type: 'string' },
  },
});
const MESSAGES = Number(options.messages);
const ROUNDS = Number(options.rounds);
const numPartitions = Number(options.partitions);
const PAYLOAD = 'x'.repeat(Number(options.bytes));
const rows = Array.from({ length: MESSAGES }, (_, n) => ({ n, text: PAYLOAD }));

Logger.overrideLogger(['warn', 'error']);
const server = await startKafka();
const kafka = new Kafka({ brokers: [server.broker], logLevel: logLevel.ERROR });
const admin = kafka.admin();
await admin.connect();
console.log(
  `${server.label}, ${MESSAGES} messages of ${PAYLOAD.length} bytes, ${numPartitions} partitions, ${ROUNDS} rounds\n`,
);

async function topic() {
  const name = `bench-${randomUUID()}`;
  await createTopics(admin, [{ topic: name, numPartitions }]);
  return name;
}

async function producing(work) {
  const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner });
  await producer.connect();
  try {
    return await work(producer);
  } finally {
    await producer.disconnect();
  }
}

const filled = await topic();
await producing(async (producer) => {
  for (let from = 0; from < MESSAGES; from += 1000) {
    const messages = rows.slice(from, from + 1000).map((row) => ({ value: JSON.stringify(row) }));
    await producer.send({ topic: filled, messages });
  }
});

/** A client that says when its consumer has joined. */
function watched(joined) {
  const client = new Kafka({ brokers: [server.broker], logLevel: logLevel.ERROR });
  const plain = new Kafka({ brokers: [server.broker], logLevel: logLevel.ERROR });
  client.consumer = (config) => {
    const made = plain.consumer(config);
    made.on(made.events.GROUP_JOIN, joined);
    return made;
  };
  return client;
}

async function subscribed(joined) {
  const consumer = watched(joined).consumer({ groupId: randomUUID(), maxWaitTimeInMs: 100 });
  await consumer.connect();
  await consumer.subscribe({ topics: [filled], fromBeginning: true });
  return consumer;
}

function clock() {
  let began;
  let done;
  const over = new Promise((resolve) => (done = resolve));
  return {
    begin: () => (began ??= performance.now()),
    end: () => done((performance.now() - began) / 1000),
    over,
  };
}

const bareConsumer = (look) => async () => {
  const { begin, end, over } = clock();
  const consumer = await subscribed(begin);
  let count = 0;
  await consumer.run({
    eachBatch: async ({ batch }) => {
      count += batch.messages.length;
      for (const { value } of batch.messages) look(value);
      if (count === MESSAGES) end();
    },
  });
  const seconds = await over;
  await consumer.disconnect();
  return seconds;
};

/** What it takes to have the same: on disk, once even if it is redelivered, with where it comes from; and only then committed. */
const bareConsumerThatStores = async () => {
  const bare = await openBareLmdb();
  const { begin, end, over } = clock();
  const consumer = await subscribed(begin);
  let count = 0;
  await consumer.run({
    autoCommit: false,
    eachBatch: async ({ batch: { topic: from, partition, messages } }) => {
      const records = messages.map(({ offset, timestamp, value }) => {
        return { from, partition, offset, timestamp, row: JSON.parse(value.toString()) };
      });
      await bare.store(records, (record) => Buffer.from(`${from}:${partition}:${record.offset.padStart(20, '0')}`));
      const offset = String(BigInt(messages.at(-1).offset) + 1n);
      await consumer.commitOffsets([{ topic: from, partition, offset }]);
      count += messages.length;
      if (count === MESSAGES) end();
    },
  });
  const seconds = await over;
  await consumer.disconnect();
  await bare.close();
  return seconds;
};

/** What the store alone makes of the same messages, with the same ids and headers. */
const store = (kind) => () =>
  withStore(kind, async (definition) => {
    const app = await boot(definition);
    const stream = app.get(StreamService).stream('bench');
    const headers = (n) => ({
      'kafka-topic': filled,
      'kafka-partition': '0',
      'kafka-offset': String(n),
      'kafka-timestamp': '1700000000000',
    });
    const each = ({ n }) => ({ dedupeId: `${filled}:0:${n}`, headers: headers(n) });
    await stream.append(rows[0]);
    const began = performance.now();
    for (let from = 0; from < MESSAGES; from += 1000) await stream.appendMany(rows.slice(from, from + 1000), { each });
    const seconds = (performance.now() - began) / 1000;
    await app.close();
    return seconds;
  });

async function withStore(kind, work) {
  const path = await mkdtemp(join(tmpdir(), 'minibatch-bench-'));
  try {
    return await work(kind === 'LMDB' ? lmdbStore({ path }) : memoryStore());
  } finally {
    await rm(path, { recursive: true, force: true });
  }
}

async function boot(definition) {
  class App {}
  Module({ imports: [MinibatchModule.forRoot({ store: definition, autoStart: false })] })(App);
  return NestFactory.createApplicationContext(App, { logger: ['warn', 'error'] });
}

const source = (kind) => () =>
  withStore(kind, async (definition) => {
    const { begin, end, over } = clock();
    const app = await boot(definition);
    const stream = app.get(StreamService).stream('bench');
    const feed = new KafkaSource({
      kafka: watched(begin),
      topics: filled,
      groupId: randomUUID(),
      consumer: { maxWaitTimeInMs: 100 },
    });
    const attached = stream.attach(feed);
    const look = setInterval(() => attached.status.appended === MESSAGES && end(), 1);
    const seconds = await over;
    clearInterval(look);
    const { buffered } = await stream.stats();
    if (buffered !== MESSAGES) throw new Error(`${buffered} in the stream`);
    await app.close();
    return seconds;
  });

const bareProducer = (size, headers) => async () => {
  const target = await topic();
  return producing(async (producer) => {
    const began = performance.now();
    for (let from = 0; from < MESSAGES; from += size) {
      const messages = rows
        .slice(from, from + size)
        .map((row, index) => ({ value: JSON.stringify(row), headers: headers?.(from, index) }));
      await producer.send({ topic: target, messages });
    }
    return (performance.now() - began) / 1000;
  });
};

const ourHeader = (window, index) => ({ 'minibatch-id': `bench/default/0/1/${window}:${index}` });

const barePut = (size) => async () => {
  const out = new KafkaSink({ kafka, topic: await topic() });
  const { signal } = new AbortController();
  await out.put(rows[0], { id: 'first', signal });
  const began = performance.now();
  for (let from = 0; from < MESSAGES; from += size) {
    await out.put(rows.slice(from, from + size), { id: `bench/default/0/1/${from}`, signal });
  }
  const seconds = (performance.now() - began) / 1000;
  await out.close();
  return seconds;
};

const sink = (kind, size, workers) => () =>
  withStore(kind, async (definition) => {
    const target = await topic();
    const out = new KafkaSink({ kafka, topic: target });
    const seconds = await drainSeconds(definition, out, rows, { size, workers });
    await out.close();
    const [{ high }] = await admin.fetchTopicOffsets(target);
    if (numPartitions === 1 && Number(high) !== MESSAGES + warmUpShare(MESSAGES, size))
      throw new Error(`${high} in the topic`);
    return seconds;
  });

/** The first of each table is what the others are held against. */
const into = [
  ['bare consumer that stores in lmdb and commits', bareConsumerThatStores],
  ['bare consumer that parses JSON', bareConsumer((value) => JSON.parse(value.toString()))],
  ['bare consumer that counts', bareConsumer(() => undefined)],
  ...['memory', 'LMDB'].flatMap((kind) => [
    [`appendMany into ${kind}, without Kafka`, store(kind)],
    [`KafkaSource into ${kind}`, source(kind)],
  ]),
];
const out = [1000, 100].map((size) => [
  [`bare sends of ${size}`, bareProducer(size)],
  [`bare sends of ${size} with our header`, bareProducer(size, ourHeader)],
  [`KafkaSink.put of ${size}, without a stream`, barePut(size)],
  [`KafkaSink, windows of ${size}, from memory`, sink('memory', size, 1)],
  [`KafkaSink, windows of ${size}, from LMDB`, sink('LMDB', size, 1)],
  [`KafkaSink, windows of ${size}, from LMDB, 3 workers`, sink('LMDB', size, 3)],
]);
const tables = [...(options.way === 'out' ? [] : [into]), ...(options.way === 'into' ? [] : out)];

const rated = (subjects) => subjects.map(([name, run]) => [name, async () => MESSAGES / (await run())]);
try {
  for (const subjects of tables) await printTable(rated(subjects), { rounds: ROUNDS });
} finally {
  await admin.disconnect();
  await server.stop();
}
