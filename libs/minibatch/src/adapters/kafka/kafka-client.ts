import type { Log } from '../../common/log.js';
import { redact } from '../../errors/redact.js';
import type { Kafka, KafkaConfig, LogEntry, logCreator } from 'kafkajs';
import { invalidOption } from '../../common/checks.js';
import { loadPackage } from '../../common/missing-package.js';

/** A client that is there, or what one is made of. */
export type KafkaRef = Kafka | KafkaConfig;

/**
 * Makes the client when it is first needed, and returns the same one from then on.
 *
 * @param log where kafkajs logs. Without one it logs nothing: whatever a sink fails with is in the error of its `put`
 */
export type KafkaOpener = (log?: Log) => Promise<Kafka>;

/** @throws MinibatchError `InvalidOptions` if it is neither a client nor a configuration */
export function checkKafka(where: string, given: unknown): KafkaOpener {
  if (isClient(given)) return () => Promise.resolve(given);
  if (!isConfig(given)) {
    throw invalidOption(where, 'kafka', given, "a Kafka client of kafkajs, or its configuration: { brokers: ['…'] }");
  }
  let client: Promise<Kafka> | undefined;
  return (log) => (client ??= createClient(given, log));
}

async function createClient(config: KafkaConfig, log: Log | undefined): Promise<Kafka> {
  const kafkajs = await importKafkajs();
  return new kafkajs.Kafka({
    clientId: 'minibatch',
    ...(log && { logCreator: logsOf(log) }),
    logLevel: log ? kafkajs.logLevel.WARN : kafkajs.logLevel.NOTHING,
    ...config,
  });
}

type Kafkajs = typeof import('kafkajs');

/** @throws MinibatchError `MissingPackage` */
export async function importKafkajs(): Promise<Kafkajs> {
  const load = () => import('kafkajs') as Promise<Kafkajs & { default?: Kafkajs }>;
  const loaded = await loadPackage('A Kafka source or sink', 'kafkajs', load);
  // A CommonJS package: all its exports are under `default`, whichever of their names the loader finds.
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

/** kafkajs's levels are 1 error, 2 warn, 4 info, 5 debug. */
function logsOf(log: Log): logCreator {
  return () =>
    ({ namespace, level, log: { message, ...more } }: LogEntry) => {
      const error: unknown = more['error'];
      const line = redact(`kafkajs ${namespace}: ${message}${typeof error === 'string' ? `: ${error}` : ''}`);
      if (level <= 1) log.error(line);
      else if (level === 2) log.warn(line);
      else log.log(line);
    };
}
