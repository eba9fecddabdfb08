import 'reflect-metadata';
import type { ConsumerConfig, Kafka } from 'kafkajs';
import { ErrorCode } from 'nestjs-minibatch';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { closeAll, Log, SOON, STOP_LIMIT } from '../e2e/support/applications.js';
import { repository, succeed } from '../support/workspace.js';
import { Collector, feedOf, newGroup, sourceStatus, startApp, targetOf, upTo } from './support/kafka-apps.js';
import { tools } from './support/kafka-broker.js';
import { jsonRows, QUICK } from './support/kafka-tools.js';

afterEach(closeAll);
describe('a start', () => {
  it('without fromBeginning is held in Kafka, so that nothing is missed between two runs', async () => {
    const topic = await tools.topic(3);
    await tools.produce(topic, jsonRows(50));
    const groupId = newGroup();
    const options = { topics: topic, groupId, fromBeginning: false };
    const first = await startApp([feedOf(tools, options)]);
    // At its end, though it has not had a single record.
    await vi.waitUntil(async () => (await tools.committed(groupId, topic)) === 50, SOON);
    await first.close();
    expect(first.get(Collector).messages).toEqual([]);
    await tools.produce(topic, jsonRows(50, 50));
    const second = await startApp([feedOf(tools, options)]);
    await vi.waitUntil(() => second.get(Collector).messages.length === 50, SOON);
    expect(second.get(Collector).numbers).toEqual(upTo(100).slice(50));
  });

  it('takes a client that is there, and groups by the stream’s name', async () => {
    const topic = await tools.topic();
    await tools.produce(topic, jsonRows(3));
    const app = await startApp([feedOf(tools, { kafka: tools.kafka, topics: topic })]);
    await vi.waitUntil(() => app.get(Collector).messages.length === 3, SOON);
    await vi.waitUntil(async () => (await tools.committed('minibatch.rows', topic)) === 3, SOON);
  });

  it('with a wrong password says so', async () => {
    const { broker, username } = tools.server.secure;
    const sasl = { mechanism: 'plain', username, password: 'wrong' } as const;
    const kafka = { ...tools.config, brokers: [broker], sasl };
    const app = await startApp([feedOf(tools, { kafka, topics: 'any' })]);
    await vi.waitUntil(async () => (await sourceStatus(app))?.lastError !== undefined, SOON);
    await expect(sourceStatus(app)).resolves.toMatchObject({
      lastError: { code: ErrorCode.SourceFailed, message: expect.stringMatching(/password in sasl/) },
    });
  });

  it('with the right one works', async () => {
    const { broker, ...user } = tools.server.secure;
    const topic = await tools.topic();
    await tools.produce(topic, jsonRows(1));
    const kafka = { ...tools.config, brokers: [broker], sasl: { mechanism: 'plain', ...user } as const };
    const app = await startApp([feedOf(tools, { kafka, topics: topic, groupId: newGroup() })]);
    await vi.waitUntil(() => app.get(Collector).messages.length === 1, SOON);
  });
});

describe('a stop', () => {
  it('in the middle, and a start again, lose and repeat nothing', async () => {
    const topic = await tools.topic(2);
    const groupId = newGroup();
    const COUNT = 5000;
    await tools.produce(topic, jsonRows(COUNT));
    const Feed = feedOf(tools, { topics: topic, groupId, batch: 100 });
    const seen: number[] = [];
    for (let runs = 0; seen.length < COUNT && runs < 50; runs += 1) {
      const stop = new AbortController();
      const goal = seen.length + 700;
      const run = new Feed().stream(
        targetOf(async (data) => {
          seen.push(...data.map((row) => (row as { n: number }).n));
          if (seen.length >= goal) stop.abort();
        }),
        stop.signal,
      );
      await vi.waitUntil(() => stop.signal.aborted || seen.length === COUNT, SOON);
      const begin = performance.now();
      stop.abort();
      await run;
      expect(performance.now() - begin).toBeLessThan(STOP_LIMIT);
    }
    expect(seen.toSorted((a, b) => a - b)).toEqual(upTo(COUNT));
  });

  it('does not wait for an append that hangs, and commits nothing of it', async () => {
    const topic = await tools.topic();
    const groupId = newGroup();
    await tools.produce(topic, jsonRows(10));
    const stop = new AbortController();
    let called = false;
    const run = new (feedOf(tools, { topics: topic, groupId }))().stream(
      targetOf(() => {
        called = true;
        return new Promise(() => undefined);
      }),
      stop.signal,
    );
    await vi.waitUntil(() => called, SOON);
    const begin = performance.now();
    stop.abort();
    await run;
    expect(performance.now() - begin).toBeLessThan(STOP_LIMIT);
    expect(await tools.committed(groupId, topic)).toBe(0);
  });

  it('is possible while Kafka is still being looked for', async () => {
    const stop = new AbortController();
    const kafka = { ...tools.config, brokers: ['127.0.0.1:1'] };
    const run = new (feedOf(tools, { kafka, topics: 'any' }))().stream(
      targetOf(() => Promise.resolve()),
      stop.signal,
    );
    stop.abort();
    const begin = performance.now();
    await run;
    expect(performance.now() - begin).toBeLessThan(STOP_LIMIT);
  });
});

describe('an append that takes long', () => {
  it('keeps its membership by heartbeats, and is not delivered to another', async () => {
    const topic = await tools.topic();
    const groupId = newGroup();
    await tools.produce(topic, jsonRows(5));
    let heartbeats = 0;
    const kafka = {
      consumer: (config: ConsumerConfig) => {
        const real = tools.kafka.consumer(config);
        real.on(real.events.HEARTBEAT, () => (heartbeats += 1));
        return real;
      },
      admin: () => tools.kafka.admin(),
      producer: () => tools.kafka.producer(),
    } as Kafka;
    const consumer = { ...QUICK, heartbeatInterval: 100 };
    const stop = new AbortController();
    let appends = 0;
    let finish = () => undefined as void;
    const held = new Promise<void>((resolve) => (finish = resolve));
    const run = new (feedOf(tools, { kafka, topics: topic, groupId, consumer }))().stream(
      targetOf(() => {
        appends += 1;
        return held;
      }),
      stop.signal,
    );
    await vi.waitUntil(() => appends === 1, SOON);
    const before = heartbeats;
    await vi.waitUntil(() => heartbeats >= before + 10, SOON);
    expect(await tools.members(groupId)).toBe(1);
    finish();
    await vi.waitUntil(async () => (await tools.committed(groupId, topic)) === 5, SOON);
    // Nobody else had it, nor this member twice.
    expect(appends).toBe(1);
    stop.abort();
    await run;
  });

  it('for too long fails the source', async () => {
    const topic = await tools.topic();
    await tools.produce(topic, jsonRows(1));
    const Feed = feedOf(tools, { topics: topic, groupId: newGroup(), maxAppendTime: 200 });
    const hangs = targetOf(() => new Promise(() => undefined));
    const run = new Feed().stream(hangs, new AbortController().signal);
    await expect(run).rejects.toMatchObject({
      code: ErrorCode.SourceFailed,
      message: expect.stringMatching(/an append takes more than 200 ms \(records from .*:0:0 on\)/),
    });
  });
});

describe('an offset', () => {
  it('whose commit failed is committed with no record to wait for', async () => {
    const topic = await tools.topic();
    const groupId = newGroup();
    await tools.produce(topic, jsonRows(5));
    let failures = 0;
    // The real client, but for one commit: a broker can't be made to fail just that.
    const consumer = (config: ConsumerConfig) => {
      const real = tools.kafka.consumer(config);
      const run: typeof real.run = ({ eachBatch, ...rest } = {}) =>
        real.run({
          ...rest,
          eachBatch: async (payload) => {
            const fail = () =>
              Promise.reject(Object.assign(new Error('lost'), { retriable: true, n: (failures += 1) }));
            await eachBatch?.(failures > 0 ? payload : { ...payload, commitOffsetsIfNecessary: fail });
          },
        });
      return { ...real, run };
    };
    const kafka = { consumer, admin: () => tools.kafka.admin(), producer: () => tools.kafka.producer() } as Kafka;
    const app = await startApp([feedOf(tools, { kafka, topics: topic, groupId })]);
    await vi.waitUntil(async () => (await tools.committed(groupId, topic)) === 5, SOON);
    expect(failures).toBe(1);
    expect(app.get(Collector).messages).toHaveLength(5);
    await expect(sourceStatus(app)).resolves.toMatchObject({ failures: 0 });
  });
});

describe('two sources of different topics in one group', () => {
  it('are told that each needs its own', async () => {
    const groupId = newGroup();
    const [a, b] = [await tools.topic(2), await tools.topic(2)];
    const log = new Log();
    await startApp([feedOf(tools, { topics: a, groupId })]);
    await startApp([feedOf(tools, { topics: b, groupId })], { log });
    await vi.waitUntil(async () => (await tools.members(groupId)) === 2, SOON);
    await vi.waitUntil(
      () => log.lines.some((line) => line.startsWith('error: ') && line.includes('its own groupId')),
      SOON,
    );
  });
});

describe('without the package kafkajs', () => {
  it('source and sink say what to install', async () => {
    const printed = await succeed(process.execPath, [repository('test/fixtures/adapters/without-kafkajs.mjs')]);
    const error = { code: ErrorCode.MissingPackage, message: expect.stringContaining('npm install kafkajs') };
    expect(JSON.parse(printed)).toEqual([error, error]);
  });
});
