// Finds or installs all that the tests start, before they do: what is fetched once a machine would else take its time out of a test's.
//
//   npm run prepare:servers
//
// One line for each; MongoDB says by itself which it is. The exit code is 0 only if nothing is missing.
import { needPrograms } from './programs.mjs';
import { prepareKafka } from './kafka/kafka.mjs';
import { prepareReplicaSet } from './mongo/mongo.mjs';
import { pythonWith } from './python/venv.mjs';

const first = ([path]) => path;

/** @type {readonly (readonly [string, () => Promise<string>])[]} */
const WANTED = [
  ['MQTT', () => needPrograms(['mosquitto', 'mosquitto_passwd', 'openssl'], ['mosquitto', 'openssl']).then(first)],
  ['Redis', () => needPrograms(['redis-server'], ['redis-server']).then(first)],
  ['RabbitMQ', () => needPrograms(['rabbitmq-server', 'erl', 'epmd'], ['rabbitmq-server']).then(first)],
  ['Kafka', prepareKafka],
  ['MongoDB as a replica set', prepareReplicaSet],
  ['Celery', () => pythonWith('celery').then(({ label }) => label)],
  ['minibatch for Python', () => pythonWith('minibatch').then(({ label }) => label)],
  ['omegaml for Python', () => pythonWith('omegaml').then(({ label }) => label)],
];

for (const [name, prepare] of WANTED) {
  const begin = performance.now();
  try {
    const what = await prepare();
    console.log(`  ${name}: ${what} (${((performance.now() - begin) / 1000).toFixed(1)} s)`);
  } catch (error) {
    console.log(`  ${name}: ${error.message}`);
    process.exitCode = 1;
  }
}
