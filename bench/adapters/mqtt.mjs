/**
 * MQTT into a stream and out of it, against the bare client: mqtt.js that stores messages in lmdb before they are acknowledged, next to it
 * one that only acknowledges; and mqtt.js that publishes as many at a time as we do.
 *
 *   node bench/adapters/mqtt.mjs                         # after npm run build; a broker of its own
 *   node bench/adapters/mqtt.mjs --messages 20000 --rounds 5 --bytes 200 --protocol 5
 *
 * Out of a stream: from the first window to the last acknowledgement.
 */
import 'reflect-metadata';
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { connect, connectAsync } from 'mqtt';
import { memoryStore } from 'nestjs-minibatch';
import { openStream } from 'nestjs-minibatch/client';
import { lmdbStore } from 'nestjs-minibatch/lmdb';
import { MqttSink, MqttSource } from 'nestjs-minibatch/mqtt';
import { startMosquitto } from '../../scripts/servers/mosquitto/mosquitto.mjs';
import { openBareLmdb } from './lib/bare-lmdb.mjs';
import { drainSeconds } from './lib/full-stream.mjs';
import { printTable } from './lib/table.mjs';

const { values: options } = parseArgs({
  options: {
    messages: { type: 'string', default: '20000' },
    rounds: { type: 'string', default: '5' },
    bytes: { type: 'string', default: '200' },
    protocol: { type: 'string', default: '5' },
    window: { type: 'string', default: '1000' },
  },
});
const MESSAGES = Number(options.messages);
const ROUNDS = Number(options.rounds);
const WINDOW = Number(options.window);
/** What takes a sync for each gets fewer. */
const STORED_ONE_BY_ONE = MESSAGES / 10;
const protocolVersion = Number(options.protocol);
const rows = Array.from({ length: MESSAGES }, (_, n) => {
  const { length } = JSON.stringify({ n, text: '' });
  return { n, text: 'x'.repeat(Math.max(0, Number(options.bytes) - length)) };
});

// What brokers in production are set to: with the default of 20 all that is measured is the way there and back.
const server = await startMosquitto({ config: ['max_inflight_messages 1000'] });
const folder = await mkdtemp(join(tmpdir(), 'minibatch-bench-'));
console.log(
  `${server.label}, MQTT ${protocolVersion === 5 ? '5' : '3.1.1'}, ${MESSAGES} messages of ${options.bytes} bytes, ${ROUNDS} rounds\n`,
);

let names = 0;
const connection = { protocolVersion, reconnectPeriod: 0 };
const session = { ...connection, clean: false };
if (protocolVersion === 5) session.properties = { sessionExpiryInterval: 3600, receiveMaximum: 1000 };

/** Messages wait in the session of `clientId` when the clock starts. */
async function fill(clientId, topic, count = MESSAGES) {
  const subscriber = await connectAsync(server.url, { ...session, clientId });
  await subscriber.subscribeAsync(topic, { qos: 1 });
  await subscriber.endAsync();
  const publisher = await connectAsync(server.url, connection);
  for (let from = 0; from < count; from += WINDOW) {
    const block = rows.slice(from, Math.min(count, from + WINDOW));
    await Promise.all(block.map((row) => publisher.publishAsync(topic, JSON.stringify(row), { qos: 1 })));
  }
  await publisher.endAsync();
}

async function bareIn() {
  const [clientId, topic] = [`bare-${(names += 1)}`, `in/${names}`];
  await fill(clientId, topic);
  const began = performance.now();
  const client = connect(server.url, { ...session, clientId });
  let seen = 0;
  await new Promise((resolve) => {
    client.on('message', () => {
      seen += 1;
      if (seen === MESSAGES) resolve();
    });
  });
  const seconds = (performance.now() - began) / 1000;
  await client.endAsync();
  return MESSAGES / seconds;
}

/**
 * Stores in lmdb and acknowledges then. mqtt.js handles no packet before the one at hand is acknowledged, so as it is each message has
 * a sync of its own. `together`: it is told not to acknowledge and continues; the acknowledgements of what one transaction has stored
 * are written to its socket.
 */
async function bareStoringIn(together) {
  const count = together ? MESSAGES : STORED_ONE_BY_ONE;
  const [clientId, topic] = [`storing-${(names += 1)}`, `in/${names}`];
  await fill(clientId, topic, count);
  const bare = await openBareLmdb();
  const began = performance.now();
  const client = connect(server.url, { ...session, clientId });
  let seen = 0;
  await new Promise((resolve) => {
    const counted = (stored) => {
      seen += stored;
      if (seen === count) resolve();
    };
    const add = bare.gathering((ids) => {
      client.stream.write(Buffer.concat(ids.map((id) => Buffer.from([0x40, 2, id >> 8, id & 0xff]))));
      counted(ids.length);
    });
    client.handleMessage = ({ payload, messageId }, callback) => {
      const data = JSON.parse(payload.toString());
      if (together) {
        add([data], messageId);
        callback(new Error('acknowledged later'));
      } else {
        void bare.store([data]).then(() => {
          callback();
          counted(1);
        });
      }
    };
  });
  const seconds = (performance.now() - began) / 1000;
  await client.endAsync();
  await bare.close();
  return count / seconds;
}

async function oursIn(store) {
  const [clientId, topic] = [`ours-${(names += 1)}`, `in/${names}`];
  await fill(clientId, topic);
  const stream = await openStream(store, 'bench');
  const source = new MqttSource({ url: server.url, clientId, topics: topic, protocolVersion });
  const began = performance.now();
  const attached = stream.attach(source);
  while (attached.status.appended < MESSAGES) await new Promise((resolve) => setTimeout(resolve, 1));
  const seconds = (performance.now() - began) / 1000;
  await attached.detach();
  await stream.disconnect();
  return MESSAGES / seconds;
}

/** `named`: with an id as a user property, as ours do. */
async function bareOut(named) {
  const client = await connectAsync(server.url, connection);
  const began = performance.now();
  for (let from = 0; from < MESSAGES; from += WINDOW) {
    const block = rows.slice(from, from + WINDOW);
    const window = randomUUID();
    const optionsOf = (index) => ({
      qos: 1,
      ...(named && { properties: { userProperties: { 'minibatch-id': `${window}:${index}` } } }),
    });
    await Promise.all(block.map((row, index) => client.publishAsync('out', JSON.stringify(row), optionsOf(index))));
  }
  const seconds = (performance.now() - began) / 1000;
  await client.endAsync();
  return MESSAGES / seconds;
}

const sinkOf = (named) =>
  new MqttSink({ url: server.url, topic: 'out', protocolVersion, ...(named ? {} : { idProperty: false }) });

async function putOut(named) {
  const sink = sinkOf(named);
  const { signal } = new AbortController();
  // The connection is there, as that of the bare client is.
  await sink.put('first', { id: 'first', signal });
  const began = performance.now();
  for (let from = 0; from < MESSAGES; from += WINDOW) {
    await sink.put(rows.slice(from, from + WINDOW), { id: `w${from}`, signal });
  }
  const seconds = (performance.now() - began) / 1000;
  await sink.close();
  return MESSAGES / seconds;
}

async function oursOut(store, named) {
  const sink = sinkOf(named);
  await sink.put('first', { id: 'first', signal: new AbortController().signal });
  const seconds = await drainSeconds(store, sink, rows, { size: WINDOW });
  await sink.close();
  return MESSAGES / seconds;
}

const lmdb = () => lmdbStore({ path: join(folder, randomUUID()) });
const tables = [
  [
    ['into: bare client that stores in lmdb and acks', () => bareStoringIn(true)],
    ['into: the same, one by one as mqtt.js acks', () => bareStoringIn(false)],
    ['into: bare client that only acks', bareIn],
    ['into: MqttSource, memory', () => oursIn(memoryStore())],
    ['into: MqttSource, LMDB', () => oursIn(lmdb())],
  ],
  ...(protocolVersion === 5 ? [true, false] : [false]).map((named) => [
    [`out of: bare client, ${WINDOW} at a time, ${named ? 'with' : 'no'} id`, () => bareOut(named)],
    [`out of: MqttSink.put of ${WINDOW}, without a stream`, () => putOut(named)],
    [`out of: MqttSink, windows of ${WINDOW}, from memory`, () => oursOut(memoryStore(), named)],
    [`out of: MqttSink, windows of ${WINDOW}, from LMDB`, () => oursOut(lmdb(), named)],
  ]),
];
try {
  for (const subjects of tables) await printTable(subjects, { rounds: ROUNDS });
} finally {
  await server.stop();
  await rm(folder, { recursive: true, force: true });
}
