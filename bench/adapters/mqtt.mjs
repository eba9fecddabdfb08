/**
 * MQTT into a stream and out of it, against the bare client: mqtt.js that acknowledges each message by itself and does nothing
 * with it, and mqtt.js that publishes as many at a time as we do.
 *
 *   node bench/adapters/mqtt.mjs                         # after npm run build; a broker of its own, streams in memory
 *   node bench/adapters/mqtt.mjs --messages 20000 --rounds 5 --bytes 200 --protocol 5
 *
 * Rounds are interleaved. Prints messages/s (median, min–max) and the median ratio to the bare client of the same round.
 */
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
const payloads = Array.from({ length: MESSAGES }, (_, n) => {
  const text = JSON.stringify({ n, text: '' });
  return JSON.stringify({ n, text: 'x'.repeat(Math.max(0, Number(options.bytes) - text.length)) });
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
    const block = payloads.slice(from, from + WINDOW);
    await Promise.all(block.map((payload) => publisher.publishAsync(topic, payload, { qos: 1 })));
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

/** As mqtt.js lets an author do it: it handles no packet before the one at hand is acknowledged, so each has a sync of its own. */
async function bareStoringIn() {
  const [clientId, topic] = [`storing-${(names += 1)}`, `in/${names}`];
  await fill(clientId, topic, STORED_ONE_BY_ONE);
  const bare = await openBareLmdb();
  const began = performance.now();
  const client = connect(server.url, { ...session, clientId });
  let seen = 0;
  await new Promise((resolve) => {
    client.handleMessage = ({ payload }, acknowledge) => {
      void bare.store([JSON.parse(payload.toString())]).then(() => {
        acknowledge();
        seen += 1;
        if (seen === STORED_ONE_BY_ONE) resolve();
      });
    };
  });
  const seconds = (performance.now() - began) / 1000;
  await client.endAsync();
  await bare.close();
  return STORED_ONE_BY_ONE / seconds;
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

async function bareOut() {
  const client = await connectAsync(server.url, connection);
  const began = performance.now();
  for (let from = 0; from < MESSAGES; from += WINDOW) {
    const block = payloads.slice(from, from + WINDOW);
    await Promise.all(block.map((payload) => client.publishAsync('out', payload, { qos: 1 })));
  }
  const seconds = (performance.now() - began) / 1000;
  await client.endAsync();
  return MESSAGES / seconds;
}

async function oursOut() {
  const sink = new MqttSink({ url: server.url, topic: 'out', protocolVersion });
  const { signal } = new AbortController();
  // The connection is there, as that of the bare client is.
  await sink.put('first', { id: 'first', signal });
  const began = performance.now();
  for (let from = 0; from < MESSAGES; from += WINDOW) {
    await sink.put(payloads.slice(from, from + WINDOW), { id: `w${from}`, signal });
  }
  const seconds = (performance.now() - began) / 1000;
  await sink.close();
  return MESSAGES / seconds;
}

const lmdb = () => lmdbStore({ path: join(folder, randomUUID()) });
const tables = [
  [
    ['into: bare client that only acknowledges', bareIn],
    ['into: bare client that stores in lmdb before', bareStoringIn],
    ['into: MqttSource, memory', () => oursIn(memoryStore())],
    ['into: MqttSource, LMDB', () => oursIn(lmdb())],
  ],
  [
    [`out of: bare client, ${WINDOW} at a time`, bareOut],
    [`out of: MqttSink, windows of ${WINDOW}`, oursOut],
  ],
];
try {
  for (const subjects of tables) await printTable(subjects, { rounds: ROUNDS });
} finally {
  await server.stop();
  await rm(folder, { recursive: true, force: true });
}
