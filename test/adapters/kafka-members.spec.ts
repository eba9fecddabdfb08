import 'reflect-metadata';
import { randomUUID } from 'node:crypto';
import { lmdbStore } from 'nestjs-minibatch/lmdb';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { closeAll, later, SOON } from '../e2e/support/applications.js';
import { endProcesses, NodeProcess } from '../e2e/support/node-process.js';
import { repository, temporaryFolder } from '../support/workspace.js';
import { Collector, feedOf, sourceStatus, startApp, upTo } from './support/kafka-apps.js';
import { tools } from './support/kafka-broker.js';
import { jsonRows, QUICK } from './support/kafka-tools.js';

const MEMBER = repository('test/fixtures/adapters/kafka-member.mjs');

afterEach(async () => {
  await endProcesses();
  await closeAll();
});

interface Group {
  readonly topic: string;
  readonly groupId: string;
  readonly path: string;
  member(options?: { readonly batch?: number; readonly dieAfter?: number }): NodeProcess;
}

async function groupOn(partitions: number): Promise<Group> {
  const folder = await temporaryFolder();
  later(() => folder.dispose());
  const topic = await tools.topic(partitions);
  const shared = { topic, groupId: `g-${randomUUID()}`, path: folder.path };
  return {
    ...shared,
    member: (options = {}) =>
      new NodeProcess(MEMBER, [JSON.stringify({ broker: tools.server.broker, ...shared, batch: 100, ...options })]),
  };
}

/** All that is in the stream; those who wrote it have ended. */
async function contentOf({ path }: Group, count: number): Promise<number[]> {
  const app = await startApp([], { store: lmdbStore({ path }) });
  const collector = app.get(Collector);
  await vi.waitUntil(() => collector.messages.length >= count, SOON);
  await app.close();
  return collector.numbers;
}

const appendedBy = (member: NodeProcess) => Number(/\d+/.exec(member.lines.at(-1) ?? '')?.[0] ?? 0);

describe('a member that is killed after its append, before the offset is committed', { timeout: 90_000 }, () => {
  it('is followed by one that gets the same records again; they are in the stream once', async () => {
    const group = await groupOn(1);
    const COUNT = 2000;
    await tools.produce(group.topic, jsonRows(COUNT));
    const victim = group.member({ dieAfter: 700 });
    await expect(victim.ended).resolves.toMatchObject({ signal: 'SIGKILL' });
    expect(victim.output).toContain('appended 700');
    const committed = await tools.committed(group.groupId, group.topic);
    expect(committed).toBeLessThan(700);

    const heir = group.member();
    await vi.waitUntil(async () => (await tools.committed(group.groupId, group.topic)) === COUNT, SOON);
    // It did get again what had been appended and not committed; more than once if it lost its membership on the way.
    expect(appendedBy(heir)).toBeGreaterThanOrEqual(COUNT - committed);
    await heir.kill('SIGKILL');
    expect(await contentOf(group, COUNT)).toEqual(upTo(COUNT));
  });
});

describe('several members', { timeout: 180_000 }, () => {
  it('share the partitions; one comes, one is killed, one stops, and nothing is lost or doubled', async () => {
    const group = await groupOn(4);
    const COUNT = 20_000;
    const first = group.member();
    await first.line(/^started$/);
    const producing = (async () => {
      for (let from = 0; from < COUNT; from += 1000) await tools.produce(group.topic, jsonRows(1000, from));
    })();
    await vi.waitUntil(() => appendedBy(first) > 500, SOON);
    const second = group.member();
    const third = group.member();
    await vi.waitUntil(async () => (await tools.members(group.groupId)) === 3, SOON);
    let all = COUNT;
    const more = async () => {
      await tools.produce(group.topic, jsonRows(1000, all));
      all += 1000;
    };
    // Again and again: members are there before they have their partitions, and the others take what comes until then.
    await vi.waitUntil(
      async () => {
        await more();
        return appendedBy(second) > 0 && appendedBy(third) > 0;
      },
      { timeout: 60_000, interval: 500 },
    );
    await second.kill('SIGKILL');
    third.say('stop');
    await third.line(/^stopped$/);
    await third.success();
    await producing;
    await more();
    await vi.waitUntil(async () => (await tools.committed(group.groupId, group.topic)) === all, SOON);
    await first.kill('SIGKILL');
    expect(await contentOf(group, all)).toEqual(upTo(all));
  });

  it('in one process: what is in flight when another joins is finished first', async () => {
    const topic = await tools.topic(4);
    const groupId = `g-${randomUUID()}`;
    const consumer = { ...QUICK, heartbeatInterval: 100 };
    const app = await startApp([feedOf(tools, { topics: topic, groupId, batch: 50, consumer, concurrency: 2 })]);
    await tools.produce(topic, jsonRows(3000));
    const collector = app.get(Collector);
    await vi.waitUntil(() => collector.messages.length > 200, SOON);
    // In another stream, so that what it gets is seen.
    const { Other, numbers } = otherMember(topic, groupId);
    const stop = new AbortController();
    const other = new Other().stream(numbers.target, stop.signal);
    await vi.waitUntil(async () => (await tools.members(groupId)) === 2, SOON);
    let produced = 3000;
    // Again and again: it is a member before it has its partitions, and the first one takes what comes until then.
    await vi.waitUntil(
      async () => {
        await tools.produce(topic, jsonRows(1000, produced));
        produced += 1000;
        return numbers.all.length > 0;
      },
      { ...SOON, interval: 200 },
    );
    await vi.waitUntil(async () => (await tools.committed(groupId, topic)) === produced, SOON);
    stop.abort();
    await other;
    await vi.waitUntil(() => new Set([...collector.numbers, ...numbers.all]).size === produced, SOON);
    await expect(sourceStatus(app)).resolves.toMatchObject({ failures: 0 });
  });

  function otherMember(topic: string, groupId: string) {
    const all: number[] = [];
    const appendMany = (data: readonly unknown[]) => {
      all.push(...data.map((row) => (row as { n: number }).n));
      return Promise.resolve();
    };
    const target = {
      name: 'rows',
      append: (data: unknown) => appendMany([data]),
      appendMany,
      position: () => Promise.resolve(undefined),
    };
    return { Other: feedOf(tools, { topics: topic, groupId }), numbers: { all, target } };
  }
});
