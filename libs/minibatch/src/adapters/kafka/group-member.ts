import { aborted } from '../../common/abort.js';
import type { Consumer, ConsumerGroupJoinEvent, EachBatchPayload, Kafka } from 'kafkajs';
import { asError } from '../../errors/error-text.js';
import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import { type Clock, delay, within } from '../../common/clock.js';
import type { Log } from '../../common/log.js';
import { FailureReason } from '../failure-reason.js';
import { keepAlive } from './keep-alive.js';
import { recordOf } from './kafka-record.js';
import type { ResolvedKafkaSource } from './kafka-source.options.js';
import { OffsetCommits } from './offset-commits.js';
import type { RecordAppender } from './record-appender.js';
import { commitStartOffsets } from './start-offsets.js';

/** An offset is committed after its batch, and this often while the batch is long; milliseconds. */
const COMMIT_EVERY = 1000;
/** After a stop, what the append in flight gets to be acknowledged, so that its offset can be committed; milliseconds. */
const LAST_APPEND = 400;
/** How long the member may take to leave its group before nobody waits for it; a source has a second in all. Milliseconds. */
const LEAVE_WAIT = 850;

export interface GroupMemberParts {
  readonly kafka: Kafka;
  readonly groupId: string;
  /** The cluster's id. */
  readonly cluster: string;
  readonly topics: readonly string[];
  readonly reading: ResolvedKafkaSource;
  readonly appender: RecordAppender;
  readonly clock: Clock;
  readonly log: Log | undefined;
  /** Ends it. */
  readonly signal: AbortSignal;
}

/**
 * One member of a group, from its join to its end.
 *
 * Each batch is appended in parts, one after the other; the offset of a part is resolved when the part is durable, and committed
 * then or soon after. kafkajs fetches no more of the partition before the batch is done: that is all the backpressure there is, and bounds
 * what is in memory to one fetch (`maxBytes`). Meanwhile the member sends heartbeats. A rebalance that is announced meanwhile takes effect
 * after the part; what was appended and could not be committed is redelivered, and ignored because of its dedupe id.
 */
export class GroupMember {
  private readonly consumer: Consumer;
  private fail: (error: unknown) => void = () => undefined;
  /** Rejects with the first thing that ends it. */
  private readonly failed: Promise<never>;
  private over = false;
  private starting: Promise<unknown> = Promise.resolve();
  /** What has to be done before the first record of this membership is read. */
  private prepared: Promise<void> = Promise.resolve();
  private readonly commits = new OffsetCommits();

  constructor(private readonly parts: GroupMemberParts) {
    const { kafka, groupId, reading } = parts;
    this.consumer = kafka.consumer({ ...reading.consumer, groupId });
    this.failed = new Promise((_, reject) => {
      this.fail = (error) => {
        this.over = true;
        // It is an error whatever was thrown.
        reject(asError(error));
      };
    });
    this.failed.catch(() => undefined);
  }

  /** Resolves when the signal aborts; rejects with what ended it before. Either way within a second, and without the member. */
  async run(): Promise<void> {
    const { signal } = this.parts;
    this.listen();
    try {
      this.starting = this.start();
      this.starting.catch(this.fail);
      await Promise.race([this.failed, aborted(signal)]);
    } finally {
      this.over = true;
      await this.leave();
    }
  }

  private listen(): void {
    const { consumer } = this;
    const { CRASH, GROUP_JOIN, FETCH_START, FETCH, RECEIVED_UNSUBSCRIBED_TOPICS } = consumer.events;
    // Always final: kafkajs was told not to start it again.
    consumer.on(CRASH, ({ payload }) => this.fail(payload.error));
    consumer.on(RECEIVED_UNSUBSCRIBED_TOPICS, ({ payload }) => {
      this.parts.log?.error(
        `${this.parts.reading.where}: members of the group '${payload.groupId}' read other topics (${payload.topicsNotSubscribed.join(', ')}), so some partitions are read by nobody: give each source its own groupId`,
      );
    });
    let joined: ConsumerGroupJoinEvent['payload'] | undefined;
    consumer.on(GROUP_JOIN, ({ payload }) => {
      this.commits.forget();
      joined = payload;
    });
    consumer.on(FETCH_START, () => {
      if (joined === undefined) return;
      // Not at the join itself: nothing can be committed yet.
      const { memberAssignment } = joined;
      joined = undefined;
      this.prepare(memberAssignment);
    });
    consumer.on(FETCH, () => void this.commits.commitRest(consumer));
  }

  private async start(): Promise<void> {
    const { topics, reading } = this.parts;
    const { consumer } = this;
    await consumer.connect();
    if (this.over) return;
    await consumer.subscribe({ topics: [...topics], fromBeginning: reading.fromBeginning });
    if (this.over) return;
    await consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      partitionsConsumedConcurrently: reading.concurrency,
      eachBatch: (batch) => this.take(batch),
    });
  }

  /** A start cannot be cancelled: a member that leaves in the middle of it would join afterwards. */
  private async leave(): Promise<void> {
    const left = this.starting
      .catch(() => undefined)
      .then(() => this.consumer.disconnect())
      .catch(() => undefined);
    await within(this.parts.clock, LEAVE_WAIT, left);
  }

  private prepare(assigned: Readonly<Record<string, readonly number[]>>): void {
    const { kafka, groupId, reading } = this.parts;
    if (reading.fromBeginning) return;
    this.prepared = commitStartOffsets(kafka, this.consumer, groupId, assigned);
    this.prepared.catch(this.fail);
  }

  private async take(payload: EachBatchPayload): Promise<void> {
    const { topic, partition } = payload.batch;
    await this.prepared.catch(() => undefined);
    try {
      await this.takeParts(payload);
    } finally {
      // Also when it ended in the middle: what is durable is done.
      await this.commits.commit(topic, partition, payload);
    }
  }

  private async takeParts(payload: EachBatchPayload): Promise<void> {
    const { cluster, reading, appender, signal, clock } = this.parts;
    const { batch } = payload;
    const { topic, partition, messages } = batch;
    let committed = clock.monotonic();
    for (let from = 0; from < messages.length; from += reading.batch) {
      if (this.over || signal.aborted || !payload.isRunning() || payload.isStale()) return;
      const part = messages.slice(from, from + reading.batch);
      const records = part.map((message) => recordOf({ cluster, topic, partition }, message));
      const heart = keepAlive(() => payload.heartbeat(), reading.consumer.heartbeatInterval, clock);
      const isDurable = await this.durable(appender.append(records), records[0]?.id ?? '');
      const rebalance = await heart.stop();
      const last = part.at(-1)?.offset;
      if (!isDurable || last === undefined) return;
      payload.resolveOffset(last);
      // What Kafka itself wrote after the last record, for a transaction, is done too.
      const done = from + reading.batch >= messages.length ? batch.lastOffset() : last;
      this.commits.add(topic, partition, String(BigInt(done) + 1n));
      if (rebalance !== undefined) throw rebalance;
      await payload.heartbeat();
      if (clock.monotonic() - committed < COMMIT_EVERY) continue;
      await this.commits.commit(topic, partition, payload);
      committed = clock.monotonic();
    }
  }

  /** False if that is not known, and this member ends. */
  private async durable(append: Promise<void>, first: string): Promise<boolean> {
    const { reading, signal, clock } = this.parts;
    const settled = append.then(
      () => true,
      (error: unknown) => {
        this.fail(error);
        return false;
      },
    );
    const late = new AbortController();
    try {
      const lastChance = aborted(signal, late.signal).then(async () => {
        await delay(clock, LAST_APPEND, late.signal);
        return false;
      });
      const tooLate = delay(clock, reading.maxAppendTime, late.signal).then(() => {
        if (late.signal.aborted) return false;
        const { where, maxAppendTime } = reading;
        const what = `${where}: an append takes more than ${maxAppendTime} ms (records from ${first} on)`;
        this.fail(
          new MinibatchError(ErrorCode.SourceFailed, `${what}. Check the store, or raise maxAppendTime`, {
            details: { reason: FailureReason.Timeout },
          }),
        );
        return false;
      });
      return await Promise.race([settled, lastChance, tooLate]);
    } finally {
      late.abort();
    }
  }
}
