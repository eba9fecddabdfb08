import { randomUUID } from 'node:crypto';
import { type IHeaders, Kafka, logLevel, type Message, Partitioners } from 'kafkajs';
import { startKafka, type KafkaOptions, type KafkaServer } from '../../../scripts/servers/kafka/kafka.mjs';
import { createTopics } from '../../../scripts/servers/kafka/topics.mjs';

/** Of consumers in tests: nobody waits for Kafka's own patience. */
export const QUICK = { maxWaitTimeInMs: 100, sessionTimeout: 6000, rebalanceTimeout: 6000 } as const;

export interface ReadRecord {
  readonly partition: number;
  readonly offset: string;
  readonly key: string | undefined;
  readonly value: Buffer | null;
  readonly headers: Readonly<Record<string, string>>;
}

/** A server and a bare client, to see what is really in Kafka. */
export class KafkaTools {
  readonly kafka: Kafka;
  private readonly closing: (() => Promise<unknown>)[] = [];

  private constructor(readonly server: KafkaServer) {
    this.kafka = new Kafka({ clientId: 'test', brokers: [server.broker], logLevel: logLevel.NOTHING });
  }

  static async start(options?: KafkaOptions): Promise<KafkaTools> {
    const server = await startKafka(options);
    console.log(`Kafka for tests: ${server.label} (${server.broker})`);
    return new KafkaTools(server);
  }

  get config() {
    return { brokers: [this.server.broker], logLevel: logLevel.NOTHING };
  }

  async admin<R>(work: (admin: ReturnType<Kafka['admin']>) => Promise<R>): Promise<R> {
    const admin = this.kafka.admin();
    await admin.connect();
    try {
      return await work(admin);
    } finally {
      await admin.disconnect();
    }
  }

  /** An empty topic of its own. */
  async topic(numPartitions = 1, settings: Readonly<Record<string, string>> = {}, name = `t-${randomUUID()}`) {
    const configEntries = Object.entries(settings).map(([key, value]) => ({ name: key, value }));
    await this.admin((admin) => createTopics(admin, [{ topic: name, numPartitions, configEntries }]));
    return name;
  }

  async produce(topic: string, messages: Message[]): Promise<void> {
    const producer = this.kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner });
    await producer.connect();
    try {
      for (let from = 0; from < messages.length; from += 2000) {
        await producer.send({ topic, messages: messages.slice(from, from + 2000) });
      }
    } finally {
      await producer.disconnect();
    }
  }

  /** Records that the group is through with, over all partitions. */
  async committed(groupId: string, topic: string): Promise<number> {
    const [found] = await this.admin((admin) => admin.fetchOffsets({ groupId, topics: [topic] }));
    return (found?.partitions ?? []).reduce((sum, { offset }) => sum + Math.max(0, Number(offset)), 0);
  }

  async members(groupId: string): Promise<number> {
    const { groups } = await this.admin((admin) => admin.describeGroups([groupId]));
    return groups[0]?.members.length ?? 0;
  }

  async written(topic: string): Promise<number> {
    const ends = await this.admin((admin) => admin.fetchTopicOffsets(topic));
    return ends.reduce((sum, { high }) => sum + Number(high), 0);
  }

  /** All that is in the topic now. */
  async read(topic: string): Promise<ReadRecord[]> {
    const count = await this.written(topic);
    const records: ReadRecord[] = [];
    if (count === 0) return records;
    const consumer = this.kafka.consumer({ groupId: `read-${randomUUID()}`, ...QUICK });
    await consumer.connect();
    try {
      await consumer.subscribe({ topics: [topic], fromBeginning: true });
      await new Promise<void>((resolve, reject) => {
        consumer
          .run({
            eachMessage: async ({ partition, message: { offset, key, value, headers } }) => {
              records.push({ partition, offset, key: key?.toString(), value, headers: textOf(headers) });
              if (records.length === count) resolve();
            },
          })
          .catch(reject);
      });
    } finally {
      await consumer.disconnect();
    }
    return records;
  }

  async stop(): Promise<void> {
    for (const close of this.closing.splice(0)) await close();
    await this.server.stop();
  }
}

function textOf(headers: IHeaders = {}): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]));
}

export const jsonRows = (count: number, from = 0): Message[] =>
  Array.from({ length: count }, (_, index) => ({
    key: String((from + index) % 17),
    value: JSON.stringify({ n: from + index }),
  }));
