import type { Consumer, Kafka } from 'kafkajs';

/** Of a partition that the group has committed nothing of. */
const NONE = '-1';

/**
 * With `fromBeginning: false` a group begins at the end of its partitions. Kafka remembers that end only when something is
 * committed: a source that stopped before its first message came would begin at a later end the next time, and what came between
 * would never be seen. So the end is committed at once, and reading begins there.
 */
export async function commitStartOffsets(
  kafka: Kafka,
  consumer: Consumer,
  groupId: string,
  assigned: Readonly<Record<string, readonly number[]>>,
): Promise<void> {
  const topics = Object.keys(assigned);
  if (topics.length === 0) return;
  const admin = kafka.admin();
  try {
    await admin.connect();
    const starts: { topic: string; partition: number; offset: string }[] = [];
    for (const { topic, partitions } of await admin.fetchOffsets({ groupId, topics })) {
      const fresh = partitions.filter(
        ({ partition, offset }) => offset === NONE && assigned[topic]?.includes(partition),
      );
      if (fresh.length === 0) continue;
      const ends = await admin.fetchTopicOffsets(topic);
      for (const { partition } of fresh) {
        const end = ends.find((each) => each.partition === partition);
        if (end) starts.push({ topic, partition, offset: end.high });
      }
    }
    if (starts.length === 0) return;
    for (const start of starts) consumer.seek(start);
    await consumer.commitOffsets(starts);
  } finally {
    await admin.disconnect().catch(() => undefined);
  }
}
