import { Logger } from '@nestjs/common';
import { redact } from '../../errors/redact.js';
import type { Kafka, KafkaConfig, LogEntry, logCreator } from 'kafkajs';
import { invalidOption } from '../../common/checks.js';
import { loadPackage } from '../../common/missing-package.js';

/** A client that is there, or what one is made of. */
export type KafkaRef = Kafka | KafkaConfig;

/** Makes the client when it is first needed; the same one ever after. */
export type KafkaOpener = () => Promise<Kafka>;

/** @throws MinibatchError `InvalidOptions` if it is neither a client nor a configuration */
export function checkKafka(where: string, given: unknown): KafkaOpener {
  if (isClient(given)) return () => Promise.resolve(given);
  if (!isConfig(given)) {
    throw invalidOption(where, 'kafka', given, "a Kafka client of kafkajs, or its configuration: { brokers: ['…'] }");
  }
  let client: Promise<Kafka> | undefined;
  return () => (client ??= createClient(given));
}

async function createClient(config: KafkaConfig): Promise<Kafka> {
  const kafkajs = await importKafkajs();
  return new kafkajs.Kafka({
    clientId: 'minibatch',
    logCreator: nestLogs,
    logLevel: kafkajs.logLevel.WARN,
    ...config,
  });
}

type Kafkajs = typeof import('kafkajs');

/** @throws MinibatchError `MissingPackage` */
export async function importKafkajs(): Promise<Kafkajs> {
  const load = () => import('kafkajs') as Promise<Kafkajs & { default?: Kafkajs }>;
  const loaded = await loadPackage('A Kafka source or sink', 'kafkajs', load);
  // A CommonJS package: what it exports is all under `default`, whatever the loader finds of its names.
  return loaded.default ?? loaded;
}

/** By its shape: an application may have another copy of kafkajs. */
function isClient(given: unknown): given is Kafka {
  return (
    typeof given === 'object' &&
    given !== null &&
    ['consumer', 'producer', 'admin'].every((name) => typeof Reflect.get(given, name) === 'function')
  );
}

function isConfig(given: unknown): given is KafkaConfig {
  if (typeof given !== 'object' || given === null || !('brokers' in given)) return false;
  const { brokers } = given;
  if (typeof brokers === 'function') return true;
  return Array.isArray(brokers) && brokers.length > 0 && brokers.every((broker) => typeof broker === 'string');
}

/** kafkajs's own log goes where the application's goes. Its levels are 1 error, 2 warn, 4 info, 5 debug. */
const nestLogs: logCreator = () => {
  const logger = new Logger('Kafka');
  return ({ namespace, level, log }: LogEntry) => {
    const { message } = log;
    const error: unknown = log['error'];
    const line = redact(`${namespace}: ${message}${typeof error === 'string' ? `: ${error}` : ''}`);
    if (level <= 1) logger.error(line);
    else if (level === 2) logger.warn(line);
    else if (level === 4) logger.log(line);
    else logger.debug(line);
  };
};
