import type { ProducerConfig } from 'kafkajs';
import { checkBoolean, checkInteger, checkKeys, checkName, checkOptions, invalidOption } from '../../common/checks.js';
import type { Window } from '../../windows/window.js';
import { checkKafka, type KafkaOpener, type KafkaRef } from './kafka-client.js';

/** Sent as it is; null for a tombstone. */
export type KafkaValue = string | Uint8Array | null;

/** @typeParam R one result; a handler returns it or an array of it */
export interface KafkaSinkOptions<R = unknown> {
  /** A client of kafkajs, or the configuration that one is made of. */
  readonly kafka: KafkaRef;
  /** The topic, which must exist unless `producer` has `allowAutoTopicCreation`. */
  readonly topic: string;
  /** Records with the same key go to the same partition, in their order. @default none: spread over the partitions */
  readonly key?: (result: R, window: Window) => string | Uint8Array | null | undefined;
  /** Headers of a record, in addition to the window's id. @default none */
  readonly headers?: (result: R, window: Window) => Readonly<Record<string, string | Uint8Array>>;
  /**
   * Makes the record's value; null is a tombstone.
   *
   * @default JSON, with all digits of a bigint, `Long` or `Decimal128`, and bytes within it in base64; a `Uint8Array` or `Binary` as it is;
   * null as null
   */
  readonly value?: (result: R, window: Window) => KafkaValue;
  /**
   * -1: all replicas in sync have it. 1: the leader has it, and a leader that dies may take it along. @default -1
   */
  readonly acks?: -1 | 1;
  /**
   * The broker drops what kafkajs sends twice within one try. It does not know of a window that is put again, for that there is
   * the header. Sends go one after the other. Needs `acks: -1`. @default false
   */
  readonly idempotent?: boolean;
  /** Others than gzip need a codec registered with kafkajs. @default 'none' */
  readonly compression?: KafkaCompression;
  /**
   * Name of the header that holds the record's id: that of the window, with `:` and the position behind it for elements of an array;
   * false for none. @default 'minibatch-id'
   */
  readonly idHeader?: string | false;
  /**
   * Most bytes of one send, before compression; a larger result has one of its own. Below the topic's `max.message.bytes`, which
   * counts all records of a send to a partition. @default 1000000
   */
  readonly batchBytes?: number;
  /** Passed on to kafkajs. Unlike there, topics are not created (`allowAutoTopicCreation`). @default those of kafkajs, except for this */
  readonly producer?: Omit<ProducerConfig, 'idempotent' | 'transactionalId' | 'transactionTimeout'>;
}

export type KafkaCompression = keyof typeof COMPRESSION;

/** By the numbers of Kafka's protocol. */
const COMPRESSION = { none: 0, gzip: 1, snappy: 2, lz4: 3, zstd: 4 } as const;

/** All options are set. */
export interface ResolvedKafkaSink {
  readonly where: string;
  readonly open: KafkaOpener;
  readonly topic: string;
  readonly key: KafkaSinkOptions['key'];
  readonly headers: KafkaSinkOptions['headers'];
  readonly value: KafkaSinkOptions['value'];
  readonly acks: -1 | 1;
  readonly idempotent: boolean;
  readonly compression: number;
  readonly idHeader: string | false;
  readonly batchBytes: number;
  readonly producer: KafkaSinkOptions['producer'];
}

const KEYS = [
  'kafka',
  'topic',
  'key',
  'headers',
  'value',
  'acks',
  'idempotent',
  'compression',
  'idHeader',
  'batchBytes',
  'producer',
] as const satisfies readonly (keyof KafkaSinkOptions)[];

const PRODUCER_KEYS = [
  'createPartitioner',
  'retry',
  'metadataMaxAge',
  'allowAutoTopicCreation',
  'maxInFlightRequests',
] as const satisfies readonly (keyof ProducerConfig)[];

/** Validates the options and fills in the defaults. @throws MinibatchError `InvalidOptions` */
export function resolveKafkaSink<R>(where: string, options: KafkaSinkOptions<R> | undefined): ResolvedKafkaSink {
  checkOptions(where, options, KEYS, "{ kafka, topic: '…' }");
  const { producer = {}, idHeader = 'minibatch-id' } = options;
  checkKeys(`${where}: producer`, producer, PRODUCER_KEYS);
  for (const option of ['key', 'headers', 'value'] as const) {
    const given: unknown = options[option];
    if (given === undefined || typeof given === 'function') continue;
    throw invalidOption(where, option, given, 'a function (result, window) => …');
  }
  const idempotent = checkBoolean(where, 'idempotent', options.idempotent ?? false);
  return {
    where,
    open: checkKafka(where, options.kafka),
    topic: checkName(where, 'topic', options.topic),
    key: options.key as KafkaSinkOptions['key'],
    headers: options.headers as KafkaSinkOptions['headers'],
    value: options.value as KafkaSinkOptions['value'],
    acks: checkAcks(where, options.acks ?? -1, idempotent),
    idempotent,
    compression: checkCompression(where, options.compression ?? 'none'),
    idHeader: idHeader === false ? false : checkName(where, 'idHeader', idHeader),
    batchBytes: checkInteger(where, 'batchBytes', options.batchBytes ?? 1_000_000, 1),
    producer,
  };
}

function checkAcks(where: string, given: unknown, idempotent: boolean): -1 | 1 {
  if (given === -1) return given;
  if (given === 1 && !idempotent) return given;
  throw invalidOption(where, 'acks', given, idempotent ? '-1, with idempotent' : '-1, 1');
}

function checkCompression(where: string, given: unknown): number {
  if (typeof given === 'string' && Object.hasOwn(COMPRESSION, given)) return COMPRESSION[given as KafkaCompression];
  const allowed = Object.keys(COMPRESSION).map((name) => `'${name}'`);
  throw invalidOption(where, 'compression', given, allowed.join(', '));
}
