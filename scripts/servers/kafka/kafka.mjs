import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { READY_TIMEOUT, startChild } from '../child.mjs';
import { freePorts } from '../free-ports.mjs';
import { exists } from '../cache.mjs';
import { javaProgram } from '../java.mjs';
import { isReady } from './probe.mjs';

const run = promisify(execFile);
const POM = fileURLToPath(new URL('pom.xml', import.meta.url));

const LABEL = 'Apache Kafka 4.4.0';
/** How often ports that were free a moment ago may turn out to be taken. */
const TRIES = 5;

/** Who may come in at the listener that asks for a password. */
const CREDENTIALS = { username: 'minibatch', password: 'secret' };

/**
 * A Kafka of one node (KRaft: broker and controller in one process) for tests and benchmarks, from Maven's jars, which are kept.
 *
 * What it acknowledged survives `kill9()`. It dies with this process.
 */
export async function startKafka(options = {}) {
  const { java, folder: jars } = await kafkaProgram();
  const temporary = options.dir ? undefined : await mkdtemp(join(tmpdir(), 'minibatch-kafka-'));
  const dir = options.dir ?? temporary;
  await mkdir(dir, { recursive: true });
  const remove = async () => {
    if (temporary) await rm(temporary, { recursive: true, force: true });
  };
  const server = { java, jars, dir, temporary, settings: options.settings ?? {} };
  let ports;
  let child;
  try {
    ({ ports, child } = await startSomewhere(server));
  } catch (error) {
    await remove();
    throw error;
  }
  const end = async (signal) => {
    child.kill(signal);
    await child.exited;
  };
  return {
    broker: `127.0.0.1:${ports.client}`,
    secure: { broker: `127.0.0.1:${ports.secure}`, ...CREDENTIALS },
    label: LABEL,
    get pid() {
      return child.pid;
    },
    kill9: () => end('SIGKILL'),
    restart: async () => {
      await end('SIGTERM');
      child = await start(server, ports);
    },
    stop: async () => {
      // What it would take seconds to put in order is thrown away.
      await end(temporary ? 'SIGKILL' : 'SIGTERM');
      await remove();
    },
  };
}

/** Fetches its jars, once a machine. */
export async function prepareKafka() {
  await kafkaProgram();
  return LABEL;
}

async function kafkaProgram() {
  const version = createHash('sha256')
    .update(await readFile(POM))
    .digest('hex');
  return javaProgram({ server: 'Kafka', name: `kafka-test-server-${version.slice(0, 12)}`, pom: POM });
}

async function startSomewhere(server) {
  for (let left = TRIES; ; left -= 1) {
    const [client, controller, secure] = await freePorts(3);
    const ports = { client, controller, secure };
    try {
      return { ports, child: await start(server, ports) };
    } catch (error) {
      if (left <= 1 || !/in use|Failed to bind/i.test(error.message)) throw error;
      // The controller's address is written into the data.
      await rm(join(server.dir, 'data'), { recursive: true, force: true });
    }
  }
}

async function start({ java, jars, dir, temporary, settings }, ports) {
  const file = join(dir, 'server.properties');
  const all = { ...properties(dir, ports), ...settings };
  const lines = Object.entries(all).map(([name, value]) => `${name}=${value}`);
  await writeFile(file, `${lines.join('\n')}\n`);
  const flags = [
    '-XX:TieredStopAtLevel=1',
    '-XX:+UseSerialGC',
    '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn',
    '-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info',
    '-cp',
    join(jars, '*'),
  ];
  if (!(await exists(join(dir, 'data', 'meta.properties')))) {
    const id = randomBytes(16).toString('base64url').replace(/^-/, 'A');
    const format = ['format', '--standalone', '-t', id, '-c', file];
    await run(java, ['-Xmx128m', ...flags, 'kafka.tools.StorageTool', ...format]);
  }
  const args = ['-Xmx256m', ...flags, 'kafka.Kafka', file];
  const child = await startChild(java, args, { ready: /Kafka Server started/, temporary });
  // From "started" to a broker that answers for its groups.
  const deadline = Date.now() + READY_TIMEOUT;
  while (!(await isReady(ports.client))) {
    if (Date.now() > deadline) {
      child.kill('SIGKILL');
      throw new Error(`Kafka is not ready after ${READY_TIMEOUT} ms`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return child;
}

function properties(dir, { client, controller, secure }) {
  const { username, password } = CREDENTIALS;
  return {
    'process.roles': 'broker,controller',
    'node.id': 1,
    listeners: `CLIENT://127.0.0.1:${client},SECURE://127.0.0.1:${secure},CTRL://127.0.0.1:${controller}`,
    'advertised.listeners': `CLIENT://127.0.0.1:${client},SECURE://127.0.0.1:${secure}`,
    'listener.security.protocol.map': 'CLIENT:PLAINTEXT,SECURE:SASL_PLAINTEXT,CTRL:PLAINTEXT',
    'inter.broker.listener.name': 'CLIENT',
    'controller.listener.names': 'CTRL',
    'controller.quorum.bootstrap.servers': `127.0.0.1:${controller}`,
    'sasl.enabled.mechanisms': 'PLAIN',
    'listener.name.secure.plain.sasl.jaas.config': `org.apache.kafka.common.security.plain.PlainLoginModule required user_${username}="${password}";`,
    'log.dirs': join(dir, 'data'),
    // Small: it shares two cores with what is tested.
    'num.network.threads': 2,
    'num.io.threads': 2,
    'background.threads': 2,
    'log.cleaner.dedupe.buffer.size': 8388608,
    'offsets.topic.replication.factor': 1,
    'offsets.topic.num.partitions': 1,
    'transaction.state.log.replication.factor': 1,
    'transaction.state.log.min.isr': 1,
    'transaction.state.log.num.partitions': 1,
    'share.coordinator.state.topic.replication.factor': 1,
    'share.coordinator.state.topic.min.isr': 1,
    // Groups form at once, and a member that was killed is missed soon.
    'group.initial.rebalance.delay.ms': 0,
    'group.min.session.timeout.ms': 500,
    // A broker that was killed may come back without waiting for its old session to end.
    'broker.session.timeout.ms': 2000,
    'broker.heartbeat.interval.ms': 500,
  };
}
