import 'reflect-metadata';
import { randomUUID } from 'node:crypto';
import type { TestingModule } from '@nestjs/testing';
import { lmdbStore } from 'nestjs-minibatch/lmdb';
import type { KafkaSourceOptions } from 'nestjs-minibatch/kafka';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { closeAll, later, Log, SOON } from '../e2e/support/applications.js';
import { temporaryFolder } from '../support/workspace.js';
import { Collector, feedOf, sourceStatus, startApp, upTo } from './support/kafka-apps.js';
import { jsonRows, KafkaTools } from './support/kafka-tools.js';

let tools: KafkaTools;
let other: KafkaTools;
beforeAll(async () => {
  [tools, other] = await Promise.all([KafkaTools.start(), KafkaTools.start()]);
}, 180_000);
afterAll(() => Promise.all([tools.stop(), other.stop()]));
afterEach(closeAll);

/** An application that reads a topic, again and again, into one stream. */
async function reader(topic: string) {
  const folder = await temporaryFolder();
  later(() => folder.dispose());
  const groupId = `g-${randomUUID()}`;
  return {
    groupId,
    start: async (options: Partial<KafkaSourceOptions> = {}, log = new Log()) => {
      const Feed = feedOf(tools, { topics: topic, groupId, ...options });
      const app = await startApp([Feed], { store: lmdbStore({ path: folder.path }), log });
      return { app, log, source: app.get(Feed), collector: app.get(Collector) };
    },
    /** Stops it when Kafka knows how far it came. */
    stop: async (app: TestingModule, offset: number) => {
      await vi.waitUntil(async () => (await tools.committed(groupId, topic)) === offset, SOON);
      await app.close();
      await vi.waitUntil(async () => (await tools.members(groupId)) === 0, SOON);
    },
    /** As somebody does who wants its records again. */
    setBack: () =>
      tools.admin((admin) => admin.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: '0' }] })),
  };
}

async function remove(topic: string): Promise<void> {
  await tools.admin((admin) => admin.deleteTopics({ topics: [topic] }));
  await vi.waitUntil(() => tools.admin(async (admin) => !(await admin.listTopics()).includes(topic)), SOON);
}

describe('a record is another one', { timeout: 90_000 }, () => {
  it('in a topic that was deleted and made anew while the source was away', async () => {
    const topic = await tools.topic();
    const reading = await reader(topic);
    // Producers may set the time: it need not tell them apart.
    const at = (count: number, from: number) =>
      jsonRows(count, from).map((row) => ({ ...row, timestamp: '1700000000000' }));
    await tools.produce(topic, at(5, 0));
    const first = await reading.start();
    await vi.waitUntil(() => first.collector.messages.length === 5, SOON);
    await reading.stop(first.app, 5);
    await remove(topic);
    await tools.topic(1, {}, topic);
    await tools.produce(topic, at(7, 5));
    const second = await reading.start();
    await vi.waitUntil(() => second.collector.messages.length === 7, SOON);
    expect(second.collector.numbers).toEqual(upTo(12).slice(5));
  });

  it('in one that was made anew while the source looked for it', async () => {
    const topic = await tools.topic();
    const { start } = await reader(topic);
    await tools.produce(topic, jsonRows(5));
    const { app, collector } = await start();
    await vi.waitUntil(() => collector.messages.length === 5, SOON);
    await remove(topic);
    await vi.waitUntil(async () => ((await sourceStatus(app))?.failures ?? 0) > 0, { ...SOON, timeout: 60_000 });
    await tools.topic(1, {}, topic);
    await tools.produce(topic, jsonRows(7));
    await vi.waitUntil(() => collector.messages.length === 12, SOON);
    expect(collector.numbers).toEqual([...upTo(5), ...upTo(7)].toSorted((a, b) => a - b));
  });

  it('in a cluster that has a topic of the same name', async () => {
    const topic = await tools.topic();
    await other.topic(1, {}, topic);
    await tools.produce(topic, jsonRows(5));
    await other.produce(topic, jsonRows(5, 5));
    const feeds = [tools, other].map((cluster, index) =>
      feedOf(cluster, { topics: topic, groupId: `g-${randomUUID()}` }, `cluster ${index}`),
    );
    const app = await startApp(feeds);
    await vi.waitUntil(() => app.get(Collector).messages.length === 10, SOON);
    expect(app.get(Collector).numbers).toEqual(upTo(10));
  });
});

describe('a group that was set back', { timeout: 90_000 }, () => {
  it('delivers records again, which are ignored until they are asked for by a name', async () => {
    const topic = await tools.topic();
    const reading = await reader(topic);
    await tools.produce(topic, jsonRows(3));
    const first = await reading.start();
    await vi.waitUntil(() => first.collector.messages.length === 3, SOON);
    await reading.stop(first.app, 3);

    await reading.setBack();
    const ignoring = await reading.start();
    await vi.waitUntil(() => ignoring.source.counters.received === 3, SOON);
    await tools.produce(topic, jsonRows(1, 3));
    await vi.waitUntil(() => ignoring.collector.messages.length === 1, SOON);
    expect(ignoring.collector.numbers).toEqual([3]);
    expect(await sourceStatus(ignoring.app)).toMatchObject({ appended: 1, duplicates: 3 });
    await reading.stop(ignoring.app, 4);

    for (const again of [4, 0]) {
      await reading.setBack();
      const replaying = await reading.start({ replay: 'after the repair' });
      await vi.waitUntil(() => replaying.source.counters.received === 4, SOON);
      await vi.waitUntil(async () => (await tools.committed(reading.groupId, topic)) === 4, SOON);
      await vi.waitUntil(() => replaying.collector.messages.length === again, SOON);
      await reading.stop(replaying.app, 4);
    }
  });

  it('delivers them into the stream again with dedupeId: false', async () => {
    const topic = await tools.topic();
    const reading = await reader(topic);
    await tools.produce(topic, jsonRows(3));
    const first = await reading.start({ dedupeId: false });
    await vi.waitUntil(() => first.collector.messages.length === 3, SOON);
    await reading.stop(first.app, 3);
    await reading.setBack();
    const second = await reading.start({ dedupeId: false });
    await vi.waitUntil(() => second.collector.messages.length === 3, SOON);
  });
});

describe('a source', () => {
  it('gives own functions the cluster’s id', async () => {
    const topic = await tools.topic();
    await tools.produce(topic, jsonRows(1));
    const clusters: string[] = [];
    const dedupeId: KafkaSourceOptions['dedupeId'] = ({ cluster, id }) => {
      clusters.push(cluster);
      return id;
    };
    const app = await startApp([feedOf(tools, { topics: topic, groupId: `g-${randomUUID()}`, dedupeId })]);
    await vi.waitUntil(() => app.get(Collector).messages.length === 1, SOON);
    const { clusterId } = await tools.admin((admin) => admin.describeCluster());
    expect(clusters).toEqual([clusterId]);
  });
});
