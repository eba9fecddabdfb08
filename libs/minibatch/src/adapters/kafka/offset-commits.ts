import type { Consumer, EachBatchPayload, TopicPartitionOffset } from 'kafkajs';

/** The offsets of durable records that Kafka has not been told yet. */
export class OffsetCommits {
  private pending = new Map<string, TopicPartitionOffset>();
  /** Counts memberships: the partitions of another one may be somebody else's. */
  private membership = 0;

  /** A group was joined anew: it begins with what is committed. */
  forget(): void {
    this.membership += 1;
    this.pending.clear();
  }

  /** All records below `offset` are durable. */
  add(topic: string, partition: number, offset: string): void {
    this.pending.set(`${topic}:${partition}`, { topic, partition, offset });
  }

  /**
   * Commits one partition by the batch's own method: the consumer's wraps what fails, so that kafkajs no longer sees a rebalance in
   * it, and does nothing once the consumer is told to stop. What fails stays pending.
   */
  async commit(
    topic: string,
    partition: number,
    payload: Pick<EachBatchPayload, 'commitOffsetsIfNecessary'>,
  ): Promise<void> {
    const name = `${topic}:${partition}`;
    const offset = this.pending.get(name)?.offset;
    if (offset === undefined) return;
    await payload.commitOffsetsIfNecessary({ topics: [{ topic, partitions: [{ partition, offset }] }] });
    if (this.pending.get(name)?.offset === offset) this.pending.delete(name);
  }

  /** A commit that failed would else be made up for only by the partition's next record. */
  async commitRest(consumer: Consumer): Promise<void> {
    if (this.pending.size === 0) return;
    const { membership, pending } = this;
    this.pending = new Map();
    try {
      await consumer.commitOffsets([...pending.values()]);
    } catch {
      if (membership === this.membership) this.pending = new Map([...pending, ...this.pending]);
    }
  }
}
