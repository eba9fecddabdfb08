// Finds or installs all that the tests start, before they do: what is fetched once a machine would else take its time out of a test's.
//
//   npm run prepare:servers
//
// One line for each. The exit code is 0 unless an installation breaks, or something is missing in CI.
import { missingServer } from './missing.mjs';
import { needTool } from './programs.mjs';
import { CONTAINER } from './tools.mjs';
import { prepareKafka } from './kafka/kafka.mjs';
import { prepareMongo, prepareReplicaSet } from './mongo/mongo.mjs';
import { pythonWith } from './python/venv.mjs';

/** What is missing makes CI fail; elsewhere its tests are left out. */
const isCi = process.env.CI === 'true';

/** @param {Parameters<typeof needTool>[0]} tool @param {string} server */
const program = async (tool, server) => (await needTool(tool, server))[0];

/** @type {readonly (readonly [string, () => Promise<string>])[]} */
const WANTED = [
  ['TLS', () => program('openssl', 'TLS')],
  ['MQTT', () => program('mosquitto', 'MQTT')],
  ['Redis', () => program('redis', 'Redis')],
  ['RabbitMQ', () => program('rabbitmq', 'RabbitMQ')],
  ['Kafka', prepareKafka],
  ['MongoDB', prepareMongo],
  ['MongoDB as a replica set', prepareReplicaSet],
  ['Celery', () => pythonWith('celery').then(({ label }) => label)],
  ['BullMQ for Python', () => pythonWith('bullmq').then(({ label }) => label)],
  ['minibatch for Python', () => pythonWith('minibatch').then(({ label }) => label)],
  ['omegaml for Python', () => pythonWith('omegaml').then(({ label }) => label)],
];

let isComplete = true;
for (const [name, prepare] of WANTED) {
  const begin = performance.now();
  try {
    const what = await prepare();
    console.log(`  ${name}: ${what} (${((performance.now() - begin) / 1000).toFixed(1)} s)`);
  } catch (error) {
    const missing = missingServer(error);
    console.log(missing ? `  ${name}: MISSING, its tests are left out; ${missing.how}` : `  ${name}: ${error.message}`);
    if (missing && error.cause) console.log(indented(error.cause.message));
    if (missing) isComplete = false;
    if (!missing || isCi) process.exitCode = 1;
  }
}
if (!isComplete) console.log(`  All of them, in a container: ${CONTAINER}`);

/** @param {string} text */
function indented(text) {
  return text.trimEnd().replace(/^/gm, '    ');
}
