import type { ConsumerConfig } from 'kafkajs';
import type { StringValue } from 'ms';
import {
  checkBoolean,
  checkDuration,
  checkInteger,
  checkKeys,
  checkName,
  invalidOption,
} from '../../internal/checks.js';
import { checkKafka, type KafkaOpener, type KafkaRef } from './kafka-client.js';
import type { KafkaRecord } from './kafka-record.js';
import type { RecordFormat } from './record-format.js';

/** What becomes of a record whose value is not what `format` says. The function gives the data; undefined leaves it out. */
export type MalformedPolicy<T = unknown> = 'keep' | 'skip' | ((record: KafkaRecord, error: unknown) => T | undefined);

/** @typeParam T the stream's messages */
export interface KafkaSourceOptions<T = unknown> {
  /** A client of kafkajs, or the configuration that one is made of. */
  readonly kafka: KafkaRef;
  /** Names, or patterns that names match. */
  readonly topics: string | RegExp | readonly (string | RegExp)[];
  /**
   * Kafka keeps the offsets under this name, and shares the partitions among all who use it. Sources of different topics need
   * different ones, and so do applications whose streams are in different databases. @default `minibatch.<stream>`
   */
  readonly groupId?: string;
  /** True: what is in the topics at the first start comes first. False: only what comes after it. @default true */
  readonly fromBeginning?: boolean;
  /** @default 'json' */
  readonly format?: RecordFormat<T>;
  /**
   * - `'keep'`: its value is kept as string, or as bytes if it is no UTF-8
   * - `'skip'`: it is left out, which is counted and logged
   *
   * @default 'keep'
   */
  readonly malformed?: MalformedPolicy<T>;
  /**
   * A record that the store can't take: larger than its limit, or nested too deep.
   *
   * - `'skip'`: it is left out, which is counted and logged with topic, partition and offset. Its offset is committed; it
   *   stays in Kafka for as long as the topic keeps it
   * - `'fail'`: the source fails, and is started again with backoff until the record has gone or the store takes it
   *
   * @default 'skip'
   */
  readonly unstorable?: 'skip' | 'fail';
  /**
   * A second record with the same id is acknowledged and ignored; undefined for none.
   * @default `topic:partition:offset`, so that what is delivered again after a crash is ignored
   */
  readonly dedupeId?: (record: KafkaRecord) => string | undefined;
  /** Most records of one append. @default 1000 */
  readonly batch?: number;
  /** Partitions whose records are appended at the same time. @default 1 */
  readonly concurrency?: number;
  /** An append that takes longer fails the source, so that another member may get its partitions. @default '5 minutes' */
  readonly maxAppendTime?: number | StringValue;
  /** How often topics are looked for that match a pattern since. @default '1 minute' */
  readonly topicRefresh?: number | StringValue;
  /**
   * Passed on to kafkajs. Other than there, `maxWaitTimeInMs` is 500 (a source is to stop within a second), `sessionTimeout` is
   * 15,000, topics are not created (`allowAutoTopicCreation`), and a consumer that crashed is always started again by the stream's own backoff.
   */
  readonly consumer?: Omit<ConsumerConfig, 'groupId'>;
}

/** All options are there; durations are milliseconds. */
export interface ResolvedKafkaSource {
  readonly where: string;
  readonly open: KafkaOpener;
  readonly topics: readonly (string | RegExp)[];
  readonly groupId: string | undefined;
  readonly fromBeginning: boolean;
  readonly format: RecordFormat;
  readonly malformed: MalformedPolicy;
  readonly unstorable: 'skip' | 'fail';
  readonly dedupeId: (record: KafkaRecord) => string | undefined;
  readonly batch: number;
  readonly concurrency: number;
  readonly maxAppendTime: number;
  readonly topicRefresh: number;
  readonly consumer: Omit<ConsumerConfig, 'groupId'> & { readonly heartbeatInterval: number };
}

/**
 * Half of kafkajs's. A member that went without a word is waited for by those who come, so also by itself when it starts again
 * after the broker was away for long.
 */
const SESSION_TIMEOUT = 15_000;

const KEYS = [
  'kafka',
  'topics',
  'groupId',
  'fromBeginning',
  'format',
  'malformed',
  'unstorable',
  'dedupeId',
  'batch',
  'concurrency',
  'maxAppendTime',
  'topicRefresh',
  'consumer',
] as const satisfies readonly (keyof KafkaSourceOptions)[];

const CONSUMER_KEYS = [
  'partitionAssigners',
  'metadataMaxAge',
  'sessionTimeout',
  'rebalanceTimeout',
  'heartbeatInterval',
  'maxBytesPerPartition',
  'minBytes',
  'maxBytes',
  'maxWaitTimeInMs',
  'retry',
  'allowAutoTopicCreation',
  'maxInFlightRequests',
  'readUncommitted',
  'rackId',
] as const satisfies readonly (keyof ConsumerConfig)[];

/** Validates the options and fills in the defaults. @throws MinibatchError `InvalidOptions` */
export function resolveKafkaSource<T>(where: string, options: KafkaSourceOptions<T> | undefined): ResolvedKafkaSource {
  if (options === undefined) {
    throw invalidOption(where, 'options', options, "what a constructor gives: call super({ kafka, topics: '…' })");
  }
  checkKeys(where, options, KEYS);
  const { groupId, dedupeId } = options;
  if (dedupeId !== undefined && typeof dedupeId !== 'function') {
    throw invalidOption(where, 'dedupeId', dedupeId, 'a function of the record');
  }
  const duration = (option: 'maxAppendTime' | 'topicRefresh', fallback: number) =>
    checkDuration(where, option, options[option] ?? fallback, { min: 100 });
  return {
    where,
    open: checkKafka(where, options.kafka),
    topics: checkTopics(where, options.topics),
    groupId: groupId === undefined ? undefined : checkName(where, 'groupId', groupId),
    fromBeginning: checkBoolean(where, 'fromBeginning', options.fromBeginning ?? true),
    format: checkChoice<RecordFormat>(where, 'format', options.format ?? 'json', ['json', 'string', 'bytes']),
    malformed: checkChoice<MalformedPolicy>(where, 'malformed', options.malformed ?? 'keep', ['keep', 'skip']),
    unstorable: checkUnstorable(where, options.unstorable ?? 'skip'),
    dedupeId: dedupeId ?? ((record) => record.id),
    batch: checkInteger(where, 'batch', options.batch ?? 1000, 1),
    concurrency: checkInteger(where, 'concurrency', options.concurrency ?? 1, 1),
    maxAppendTime: duration('maxAppendTime', 300_000),
    topicRefresh: duration('topicRefresh', 60_000),
    consumer: checkConsumer(where, options.consumer ?? {}),
  };
}

function checkTopics(where: string, given: unknown): readonly (string | RegExp)[] {
  const topics: readonly unknown[] = Array.isArray(given) ? given : [given];
  const isTopic = (topic: unknown): topic is string | RegExp =>
    topic instanceof RegExp || (typeof topic === 'string' && topic !== '');
  if (topics.length > 0 && topics.every(isTopic)) return topics;
  throw invalidOption(where, 'topics', given, 'a name, a regular expression, or a list of them');
}

/** A word of the list, or a function. */
function checkChoice<V>(where: string, option: string, given: V, words: readonly V[]): V {
  if (typeof given === 'function' || words.includes(given)) return given;
  throw invalidOption(where, option, given, `${words.map((word) => `'${String(word)}'`).join(', ')}, or a function`);
}

function checkUnstorable(where: string, given: unknown): 'skip' | 'fail' {
  if (given === 'skip' || given === 'fail') return given;
  throw invalidOption(where, 'unstorable', given, "'skip', 'fail'");
}

function checkConsumer(where: string, given: Omit<ConsumerConfig, 'groupId'>): ResolvedKafkaSource['consumer'] {
  checkKeys(`${where}: consumer`, given, CONSUMER_KEYS);
  const { sessionTimeout = SESSION_TIMEOUT } = given;
  // kafkajs refuses an interval that is not below the session's.
  const heartbeatInterval = Math.min(3000, Math.floor(sessionTimeout / 3));
  return {
    maxWaitTimeInMs: 500,
    sessionTimeout,
    allowAutoTopicCreation: false,
    heartbeatInterval,
    ...given,
    // One who starts it again is enough, and ours is seen in the status.
    retry: { ...given.retry, restartOnFailure: () => Promise.resolve(false) },
  };
}
