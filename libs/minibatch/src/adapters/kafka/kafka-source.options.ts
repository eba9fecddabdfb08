import type { ConsumerConfig } from 'kafkajs';
import type { StringValue } from 'ms';
import {
  checkBoolean,
  checkDuration,
  checkInteger,
  checkKeys,
  checkName,
  checkOptions,
  invalidOption,
} from '../../common/checks.js';
import { LARGE_INTEGERS, type LargeIntegers } from '../../common/json-reader.js';
import { checkOneOf, checkPolicy, type MalformedPolicy, type UnstorablePolicy } from '../policies.js';
import { checkKafka, type KafkaOpener, type KafkaRef } from './kafka-client.js';
import { identityOf, type KafkaRecord } from './kafka-record.js';
import type { RecordFormat } from './record-format.js';

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
  /** What a record's value is: `'json'`, `'string'`, `'bytes'`, or a function from the record to the data. @default 'json' */
  readonly format?: RecordFormat<T>;
  /**
   * - `'keep'`: its value is kept as string, or as bytes if it is not UTF-8
   * - `'skip'`: it is left out, which is counted and logged
   *
   * @default 'keep'
   */
  readonly malformed?: MalformedPolicy<KafkaRecord, T>;
  /**
   * With `format: 'json'`, integers beyond ±(2^53 − 1), which a number cannot hold exactly: `'bigint'` makes them bigints;
   * `'malformed'` makes the value malformed; `'number'` rounds them. @default 'bigint'
   */
  readonly largeIntegers?: LargeIntegers;
  /**
   * A record that the stream cannot take: too large, nested too deep, with a key or a dedupe id that cannot be stored; or one for which
   * `malformed`, `key` or `dedupeId` throws. See {@link UnstorablePolicy}. The offset of a skipped record is committed; the record stays in
   * Kafka for as long as the topic keeps it.
   *
   * @default 'skip'
   */
  readonly unstorable?: UnstorablePolicy<KafkaRecord>;
  /** The message's key. @default the record's, as text */
  readonly key?: (record: KafkaRecord) => string | undefined;
  /**
   * A second record with the same id is acknowledged and ignored, for as long as the stream remembers the first; undefined for none, false
   * for none at all: then what is redelivered after a crash or a rebalance is in the stream twice.
   *
   * @default cluster, topic, partition, offset, time and contents, so that what is redelivered is ignored, and nothing else
   */
  readonly dedupeId?: false | ((record: KafkaRecord) => string | undefined);
  /**
   * For a group that was set back on purpose: with a name that was never used before, records that are in the stream already come once more,
   * and only once. It becomes a part of the default dedupe ids. @default none
   */
  readonly replay?: string;
  /** Most records of one append. @default 1000 */
  readonly batch?: number;
  /** Partitions whose records are appended at the same time. @default 1 */
  readonly concurrency?: number;
  /** An append that takes longer fails the source, so that another member may get its partitions. Milliseconds, or a string like `'5 minutes'`. @default '5 minutes' */
  readonly maxAppendTime?: number | StringValue;
  /** How often patterns are matched against the topics again: milliseconds, or a string like `'1 minute'`. @default '1 minute' */
  readonly topicRefresh?: number | StringValue;
  /**
   * Passed on to kafkajs. Unlike there, `maxWaitTimeInMs` is 500 (a source is to stop within a second), `sessionTimeout` is
   * 15,000, topics are not created (`allowAutoTopicCreation`), and a consumer that crashed is always started again by the stream's own backoff.
   * @default those of kafkajs, except for these
   */
  readonly consumer?: Omit<ConsumerConfig, 'groupId'>;
}

/** All options are set; durations are milliseconds. */
export interface ResolvedKafkaSource {
  readonly where: string;
  readonly open: KafkaOpener;
  readonly topics: readonly (string | RegExp)[];
  readonly groupId: string | undefined;
  readonly fromBeginning: boolean;
  readonly format: RecordFormat;
  readonly malformed: MalformedPolicy<KafkaRecord>;
  readonly largeIntegers: LargeIntegers;
  readonly unstorable: UnstorablePolicy<KafkaRecord>;
  readonly key: (record: KafkaRecord) => string | undefined;
  readonly dedupeId: (record: KafkaRecord) => string | undefined;
  readonly batch: number;
  readonly concurrency: number;
  readonly maxAppendTime: number;
  readonly topicRefresh: number;
  readonly consumer: Omit<ConsumerConfig, 'groupId'> & { readonly heartbeatInterval: number };
}

/**
 * Half of kafkajs's. Members that join wait this long for one that left without notice; so does a member that restarts after the
 * broker was away for long.
 */
const SESSION_TIMEOUT = 15_000;

const KEYS = [
  'kafka',
  'topics',
  'groupId',
  'fromBeginning',
  'format',
  'malformed',
  'largeIntegers',
  'unstorable',
  'key',
  'dedupeId',
  'replay',
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
  checkOptions(where, options, KEYS, "{ kafka, topics: '…' }");
  const { groupId, key } = options;
  if (key !== undefined && typeof key !== 'function') {
    throw invalidOption(where, 'key', key, 'a function of the record');
  }
  const duration = (option: 'maxAppendTime' | 'topicRefresh', fallback: number) =>
    checkDuration(where, option, options[option] ?? fallback, { min: 100 });
  return {
    where,
    open: checkKafka(where, options.kafka),
    topics: checkTopics(where, options.topics),
    groupId: groupId === undefined ? undefined : checkName(where, 'groupId', groupId),
    fromBeginning: checkBoolean(where, 'fromBeginning', options.fromBeginning ?? true),
    format: checkPolicy<RecordFormat>(where, 'format', options.format ?? 'json', ['json', 'string', 'bytes']),
    malformed: checkPolicy<MalformedPolicy<KafkaRecord>>(where, 'malformed', options.malformed ?? 'keep', [
      'keep',
      'skip',
    ]),
    largeIntegers: checkOneOf(where, 'largeIntegers', options.largeIntegers ?? 'bigint', LARGE_INTEGERS),
    unstorable: checkPolicy<UnstorablePolicy<KafkaRecord>>(where, 'unstorable', options.unstorable ?? 'skip', [
      'skip',
      'fail',
    ]),
    key: key ?? ((record) => record.key),
    dedupeId: checkDedupeId(where, options.dedupeId, options.replay),
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

function checkDedupeId(
  where: string,
  given: KafkaSourceOptions['dedupeId'],
  replay: unknown,
): (record: KafkaRecord) => string | undefined {
  if (given !== undefined && replay !== undefined) {
    throw invalidOption(where, 'replay', replay, 'none with dedupeId: it is a part of the default dedupe ids');
  }
  if (given === false) return () => undefined;
  if (given !== undefined) {
    if (typeof given === 'function') return given;
    throw invalidOption(where, 'dedupeId', given, 'a function of the record, or false');
  }
  if (replay === undefined) return identityOf;
  const name = checkName(where, 'replay', replay);
  return (record) => `${name}:${identityOf(record)}`;
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
