import { unlessAborted } from '../../common/abort.js';
import type { Kafka } from 'kafkajs';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { SYSTEM_CLOCK } from '../../common/clock.js';
import type { Source, SourceTarget } from '../../sources/source.interface.js';
import { MessageProblems } from '../message-problems.js';
import { newCounters, type SourceCounters } from '../source-counters.js';
import { GroupMember } from './group-member.js';
import { kafkaError } from './kafka-errors.js';
import { type KafkaSourceOptions, type ResolvedKafkaSource, resolveKafkaSource } from './kafka-source.options.js';
import { nameOfRecord, RecordAppender } from './record-appender.js';
import { findTopics, newTopics } from './topics.js';

/**
 * Feeds a stream with the records of Kafka topics, as a member of a consumer group. Needs the package `kafkajs`.
 *
 * An offset is committed when its record is durable in the stream, never before; what is redelivered after a crash or a rebalance
 * has the same dedupe id (of cluster, topic, partition, offset, time and contents) and is ignored for as long as the stream remembers it.
 * The order is that of each partition. Several processes share the partitions.
 *
 * A message's key and headers are the record's; the headers `kafka-topic`, `kafka-partition`, `kafka-offset` and
 * `kafka-timestamp` (milliseconds) say where it comes from. Null values (tombstones) are kept as null.
 *
 * @typeParam T the stream's messages. Nothing checks that the values are of this type: a malformed one is kept as string or Buffer
 * @example
 * ```ts
 * @StreamSource('flights')
 * export class FlightFeed extends KafkaSource<Flight> {
 *   constructor(config: ConfigService) {
 *     super({ kafka: { brokers: config.get('BROKERS').split(',') }, topics: 'flights' });
 *   }
 * }
 * ```
 */
export class KafkaSource<T = unknown> implements Source<T> {
  private readonly reading: ResolvedKafkaSource;
  private readonly counted = newCounters();

  /** @throws MinibatchError `InvalidOptions` */
  constructor(options: KafkaSourceOptions<T>) {
    this.reading = resolveKafkaSource(new.target.name, options);
  }

  get counters(): SourceCounters {
    return { ...this.counted };
  }

  /** @throws MinibatchError `SourceFailed` when Kafka cannot be reached or a topic is missing; the errors of `append` */
  async stream(target: SourceTarget<T>, signal: AbortSignal): Promise<void> {
    const kafka = await this.reading.open(target.log);
    while (!signal.aborted) {
      try {
        await this.consume(kafka, target, signal);
      } catch (error) {
        if (signal.aborted) return;
        throw kafkaError(this.reading.where, ErrorCode.SourceFailed, 'reading from Kafka failed', error);
      }
    }
  }

  /** Until the signal aborts, or there are topics that a new member has to subscribe to. */
  private async consume(kafka: Kafka, target: SourceTarget<T>, signal: AbortSignal): Promise<void> {
    const { reading, counted } = this;
    const { clock = SYSTEM_CLOCK, log } = target;
    const mayCreate = reading.consumer.allowAutoTopicCreation === true;
    // This may take as long as its retries do; a source has a second to stop.
    const found = await unlessAborted(findTopics(reading.where, kafka, reading.topics, mayCreate), signal);
    if (found === undefined) return;
    const { cluster, topics } = found;
    const watch = new AbortController();
    const over = AbortSignal.any([signal, watch.signal]);
    void newTopics(kafka, reading.topics, topics, reading.topicRefresh, clock, over).then(() => watch.abort());
    const { where, unstorable } = reading;
    const problems = new MessageProblems({ where, unstorable, nameOf: nameOfRecord, counters: counted, log });
    try {
      await new GroupMember({
        kafka,
        groupId: reading.groupId ?? `minibatch.${target.name}`,
        cluster,
        topics,
        reading,
        appender: new RecordAppender(target as SourceTarget, reading, problems, counted),
        clock,
        log,
        signal: over,
      }).run();
    } finally {
      watch.abort();
    }
  }
}
