// Runs one of the examples: npm run example kafka
//
// The server is the one that the environment names, one that listens on this machine, or the one of the tests, which is started and ended
// with the example. Ctrl-C ends it.
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createTopics } from './servers/kafka/topics.mjs';

const WORKSPACE = new URL('..', import.meta.url);

/**
 * @typedef {object} Example
 * @property {string} file
 * @property {string} tells what there is to see
 * @property {string} [variable] of the environment; names the server
 * @property {number} [port] where the server listens if it is installed
 * @property {(port: number) => string} [address]
 * @property {() => Promise<{ address: string, stop(): Promise<void> }>} [start] a server of the tests
 * @property {string} [docker] starts one, where nothing else does
 * @property {(address: string) => Promise<() => Promise<void>>} [feed] gives the example something to do; the answer ends it
 */

/** @type {Record<string, Example>} */
const EXAMPLES = {
  kafka: {
    file: 'kafka/main.ts',
    tells: "flights come by the topic 'flights', reports go to the topic 'reports'",
    variable: 'KAFKA_BROKERS',
    port: 9092,
    address: (port) => `localhost:${port}`,
    start: async () => {
      const { startKafka } = await import('./servers/kafka/kafka.mjs');
      const server = await startKafka();
      return { address: server.broker, stop: () => server.stop() };
    },
    docker: 'docker run -p 9092:9092 apache/kafka',
    feed: feedKafka,
  },
  mqtt: {
    file: 'mqtt/main.ts',
    tells: "readings come by 'sensors/+/temperature', averages go to 'averages/temperature'",
    variable: 'MQTT_URL',
    port: 1883,
    address: (port) => `mqtt://127.0.0.1:${port}`,
    start: async () => {
      const { startMosquitto } = await import('./servers/mosquitto/mosquitto.mjs');
      const server = await startMosquitto();
      return { address: server.url, stop: () => server.stop() };
    },
    docker: 'docker run -p 1883:1883 eclipse-mosquitto mosquitto -c /mosquitto-no-auth.conf',
    feed: feedMqtt,
  },
  celery: {
    file: 'celery/main.mjs',
    tells: 'tells every ten seconds how tasks end; start workers with `celery -A app worker -E`',
    variable: 'CELERY_BROKER_URL',
    port: 6379,
    address: (port) => `redis://127.0.0.1:${port}/0`,
    start: async () => {
      const { startRedis } = await import('./servers/redis/redis.mjs');
      const server = await startRedis();
      return { address: server.url, stop: () => server.stop() };
    },
    docker: 'docker run -p 6379:6379 redis',
  },
  omegaml: {
    file: 'omegaml/main.mjs',
    tells:
      "sums of the dataset 'numbers' go to the dataset 'sums'; fill it from Python: om.datasets.put([{'n': 1}], 'numbers', as_raw=True)",
    variable: 'MONGODB_URI',
    port: 27017,
    address: (port) => `mongodb://127.0.0.1:${port}/omega`,
    start: async () => {
      const { startMongo } = await import('./servers/mongo/mongo.mjs');
      const server = await startMongo();
      return { address: `${server.uri.replace(/\/$/, '')}/omega`, stop: () => server.stop() };
    },
    docker: 'docker run -p 27017:27017 mongo',
  },
  pipelines: {
    file: 'pipelines/main.ts',
    tells: 'filters 20,000 flights, and names the airports of those that were late',
  },
  microservices: {
    file: 'microservices/main.mjs',
    tells: 'two applications in one process: rows come in, reports go to the other one by TCP',
  },
};

const name = process.argv[2] ?? '';
const example = EXAMPLES[name];
if (!example) {
  console.error(`npm run example <name>, where name is one of: ${Object.keys(EXAMPLES).join(', ')}`);
  process.exit(2);
}
process.exitCode = await run(example);

/** @param {Example} example */
async function run(example) {
  const data = await mkdtemp(join(tmpdir(), 'minibatch-example-'));
  const main = await compiled(example.file);
  const server = await serverOf(example);
  const env = { ...process.env, DATA: join(data, 'streams'), STREAMS_PATH: join(data, 'streams') };
  if (example.variable) env[example.variable] = server.address;
  console.log(`examples/${example.file}: ${example.tells}. Ctrl-C ends it.`);
  const child = spawn(process.execPath, [main], { stdio: 'inherit', env });
  const forward = (signal) => void child.kill(signal);
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, forward);
  const ended = new Promise((resolve) => child.once('exit', (code, signal) => resolve(signal ? 0 : (code ?? 1))));
  const stopFeed = await example.feed?.(server.address);
  const code = await ended;
  await stopFeed?.();
  await server.stop();
  await rm(data, { recursive: true, force: true });
  return code;
}

/** @param {Example} example */
async function serverOf({ variable, port, address, start, docker }) {
  const stop = async () => undefined;
  if (!variable || !start) return { address: '', stop };
  const named = process.env[variable];
  if (named) return { address: named, stop };
  if (await listens(port)) return { address: address(port), stop };
  try {
    const server = await start();
    console.log(`${variable}=${server.address} (a server of the tests; it ends with the example)`);
    return server;
  } catch (error) {
    console.error(
      `${error.message}\n\nNothing listens on port ${port}. Start a server (${docker}), or name one by ${variable}.`,
    );
    process.exit(1);
  }
}

/** @returns {Promise<boolean>} */
function listens(port) {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1', timeout: 1_000 });
    const tell = (answer) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => tell(true));
    for (const event of ['error', 'timeout']) socket.once(event, () => tell(false));
  });
}

/** What Node can run; within the workspace, so that the package resolves. */
async function compiled(file) {
  const source = fileURLToPath(new URL(`examples/${file}`, WORKSPACE));
  if (file.endsWith('.mjs')) return source;
  const { default: ts } = await import('typescript');
  const { outputText } = ts.transpileModule(await readFile(source, 'utf8'), {
    fileName: source,
    compilerOptions: {
      module: ts.ModuleKind.ESNext,
      target: ts.ScriptTarget.ES2023,
      experimentalDecorators: true,
      emitDecoratorMetadata: true,
    },
  });
  const folder = fileURLToPath(new URL('node_modules/.cache/minibatch-examples', WORKSPACE));
  await mkdir(folder, { recursive: true });
  const target = join(folder, `${file.replace(/\W/g, '-')}.mjs`);
  await writeFile(target, outputText);
  return target;
}

async function feedKafka(brokers) {
  const { Kafka, logLevel } = await import('kafkajs');
  const kafka = new Kafka({ brokers: brokers.split(','), logLevel: logLevel.NOTHING });
  const admin = kafka.admin();
  const producer = kafka.producer();
  const consumer = kafka.consumer({ groupId: 'minibatch-example-reader' });
  await admin.connect();
  await createTopics(admin, [{ topic: 'flights' }, { topic: 'reports' }]);
  await admin.disconnect();
  await consumer.connect();
  await consumer.subscribe({ topic: 'reports', fromBeginning: true });
  await consumer.run({ eachMessage: async ({ message }) => console.log(`reports: ${message.value}`) });
  await producer.connect();
  const messages = [25, 5, 40].map((delay) => ({ value: JSON.stringify({ origin: 'SAT', delay }) }));
  const send = () => producer.send({ topic: 'flights', messages }).catch((error) => console.error(error.message));
  await send();
  const timer = setInterval(() => void send(), 1_000);
  return async () => {
    clearInterval(timer);
    await Promise.allSettled([producer.disconnect(), consumer.disconnect()]);
  };
}

async function feedMqtt(url) {
  const { connectAsync } = await import('mqtt');
  const client = await connectAsync(url);
  client.on('message', (topic, payload) => console.log(`${topic}: ${payload}`));
  await client.subscribeAsync('averages/temperature', { qos: 1 });
  const send = () => {
    for (const [index, room] of ['kitchen', 'office', 'cellar'].entries()) {
      client.publish(`sensors/${room}/temperature`, JSON.stringify({ celsius: 20 + index }), { qos: 1 });
    }
  };
  send();
  const timer = setInterval(send, 250);
  return async () => {
    clearInterval(timer);
    await client.endAsync();
  };
}
