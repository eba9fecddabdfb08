import type { Consumer, TopicPartitionOffset } from 'kafkajs';
import { beforeEach, describe, expect, it } from 'vitest';
import { OffsetCommits } from './offset-commits.js';

describe('offset commits', () => {
  let commits: OffsetCommits;
  /** What Kafka was told, call by call. */
  let told: (readonly TopicPartitionOffset[])[];
  /** Runs while Kafka is told. */
  let meanwhile: () => void | Promise<void>;
  beforeEach(() => {
    commits = new OffsetCommits();
    told = [];
    meanwhile = () => undefined;
  });

  const consumer = {
    commitOffsets: async (offsets: readonly TopicPartitionOffset[]) => {
      told.push(offsets);
      await meanwhile();
    },
  } as unknown as Consumer;
  const payload = {
    commitOffsetsIfNecessary: async (offsets?: {
      readonly topics: readonly {
        readonly topic: string;
        readonly partitions: readonly { partition: number; offset: string }[];
      }[];
    }) => {
      told.push(
        (offsets?.topics ?? []).flatMap(({ topic, partitions }) => partitions.map((each) => ({ topic, ...each }))),
      );
      await meanwhile();
    },
  };
  const fails = () => Promise.reject(new Error('the coordinator has moved'));
  const FIVE = { topic: 't', partition: 0, offset: '5' };

  it('tell the newest offset of each partition, once', async () => {
    commits.add('t', 0, '3');
    commits.add('t', 0, '5');
    commits.add('t', 1, '2');
    await commits.commitRest(consumer);
    await commits.commitRest(consumer);
    expect(told).toEqual([[FIVE, { topic: 't', partition: 1, offset: '2' }]]);
  });

  it('leave one partition to its batch, and are not told again what the batch has told', async () => {
    commits.add('t', 0, '5');
    await commits.commit('t', 1, payload);
    await commits.commit('t', 0, payload);
    await commits.commitRest(consumer);
    expect(told).toEqual([[FIVE]]);
  });

  it('keep what became durable while an older offset was told', async () => {
    commits.add('t', 0, '5');
    meanwhile = () => commits.add('t', 0, '9');
    await commits.commit('t', 0, payload);
    meanwhile = () => undefined;
    await commits.commitRest(consumer);
    expect(told).toEqual([[FIVE], [{ ...FIVE, offset: '9' }]]);
  });

  it('make up for what failed, without going back', async () => {
    commits.add('t', 0, '5');
    commits.add('t', 1, '2');
    meanwhile = () => {
      commits.add('t', 0, '9');
      return fails();
    };
    await commits.commitRest(consumer);
    meanwhile = () => undefined;
    await commits.commitRest(consumer);
    expect(told.at(-1)).toEqual([
      { ...FIVE, offset: '9' },
      { topic: 't', partition: 1, offset: '2' },
    ]);
  });

  it('forget with a rebalance what was pending: the partitions may be somebody else’s', async () => {
    commits.add('t', 0, '5');
    commits.forget();
    await commits.commitRest(consumer);
    await commits.commit('t', 0, payload);
    expect(told).toEqual([]);
  });

  it('forget what fails while a rebalance comes', async () => {
    commits.add('t', 0, '5');
    meanwhile = () => {
      commits.forget();
      return fails();
    };
    await commits.commitRest(consumer);
    meanwhile = () => undefined;
    await commits.commitRest(consumer);
    expect(told).toHaveLength(1);
  });
});
