import 'reflect-metadata';
import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import {
  ErrorCode,
  memoryStore,
  MinibatchModule,
  SourceState,
  StatusService,
  Streaming,
  StreamService,
  type Window,
} from 'nestjs-minibatch';
import { type KafkaRecord, KafkaSink } from 'nestjs-minibatch/kafka';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { closeAll, start } from '../e2e/support/applications.js';
import { Collector, feedOf, sourceStatus, startApp, upTo } from './support/kafka-apps.js';
import { tools } from './support/kafka-broker.js';
import { jsonRows } from './support/kafka-tools.js';

/** A broker that was killed takes seconds to come back, and its groups some more. */
const LONG = { timeout: 60_000, interval: 20 } as const;
const COUNT = 20_000;

/** Lets no more records through when that many are handled, so that what comes next comes in the middle of them. */
class Gate {
  private most = 0;
  private open = () => {};
  private opened: Promise<void> = Promise.resolve();
  handled = () => 0;

  close(most: number): void {
    this.most = most;
    this.open();
    this.opened = new Promise((resolve) => (this.open = resolve));
  }

  readonly format = async ({ value }: KafkaRecord): Promise<unknown> => {
    while (this.handled() >= this.most) await this.opened;
    return JSON.parse(String(value)) as unknown;
  };
}

afterEach(closeAll);

describe('a broker that is killed and comes back', { timeout: 150_000 }, () => {
  beforeEach(() => tools.server.restart());

  it('in the middle of 20,000 records: the source loses and doubles none, and recovers on its own', async () => {
    const topic = await tools.topic(3);
    const groupId = `g-${randomUUID()}`;
    await tools.produce(topic, jsonRows(COUNT));
    const gate = new Gate();
    gate.close(COUNT / 5);
    const app = await startApp([feedOf(tools, { topics: topic, groupId, batch: 50, format: gate.format })]);
    const collector = app.get(Collector);
    gate.handled = () => collector.messages.length;
    for (const kill of [COUNT / 5, (3 * COUNT) / 5]) {
      gate.close(kill);
      await vi.waitUntil(() => collector.messages.length >= kill, LONG);
      await tools.server.kill9();
      expect(collector.messages.length).toBeLessThan(COUNT);
      await tools.server.restart();
    }
    gate.close(Number.POSITIVE_INFINITY);
    await vi.waitUntil(() => collector.messages.length >= COUNT, LONG);
    await vi.waitUntil(async () => (await tools.committed(groupId, topic)) === COUNT, LONG);
    expect(collector.numbers).toEqual(upTo(COUNT));
    await expect(sourceStatus(app)).resolves.toMatchObject({ state: SourceState.Running });
  });

  it('after the client gave up: the source fails with the reason, is started again, and loses and doubles none', async () => {
    const topic = await tools.topic(3);
    const groupId = `g-${randomUUID()}`;
    await tools.produce(topic, jsonRows(COUNT));
    const kafka = { ...tools.config, retry: { retries: 1 } };
    const gate = new Gate();
    gate.close(COUNT / 5);
    const app = await startApp([feedOf(tools, { kafka, topics: topic, groupId, batch: 50, format: gate.format })]);
    const collector = app.get(Collector);
    gate.handled = () => collector.messages.length;
    await vi.waitUntil(() => collector.messages.length >= COUNT / 5, LONG);
    await tools.server.kill9();
    expect(collector.messages.length).toBeLessThan(COUNT);
    gate.close(Number.POSITIVE_INFINITY);
    await vi.waitUntil(async () => ((await sourceStatus(app))?.failures ?? 0) >= 2, LONG);
    await expect(sourceStatus(app)).resolves.toMatchObject({
      lastError: { code: ErrorCode.SourceFailed, message: expect.stringMatching(/Check that the brokers run/) },
    });
    await tools.server.restart();
    await vi.waitUntil(() => collector.messages.length >= COUNT, LONG);
    await vi.waitUntil(async () => (await tools.committed(groupId, topic)) === COUNT, LONG);
    expect(collector.numbers).toEqual(upTo(COUNT));
  });

  it.each([{ idempotent: false }, { idempotent: true }])(
    'in the middle of 20,000 results: all that the sink acknowledged are there: %o',
    async ({ idempotent }) => {
      const topic = await tools.topic(3);
      @Injectable()
      class Out extends KafkaSink<unknown> {
        constructor() {
          super({ kafka: tools.config, topic, idempotent });
        }
      }
      let handled = 0;
      class Forward {
        @Streaming('rows', { size: 100, workers: 3, sink: Out, retry: { backoff: 50, maxBackoff: 500 } })
        forward({ data }: Window) {
          handled += data.length;
          return data;
        }
      }
      const app = await start({
        imports: [MinibatchModule.forRoot({ store: memoryStore() })],
        providers: [Forward, Out],
      });
      const stream = app.get(StreamService).stream('rows');
      const appending = (async () => {
        for (let from = 0; from < COUNT; from += 1000) {
          await stream.appendMany(upTo(1000).map((n) => ({ n: from + n })));
        }
      })();
      for (const share of [1 / 10, 1 / 2]) {
        await vi.waitUntil(() => handled >= COUNT * share, LONG);
        await tools.server.kill9();
        expect(handled).toBeLessThan(COUNT);
        await tools.server.restart();
      }
      await appending;
      await vi.waitUntil(async () => (await stream.stats()).buffered === 0, LONG);
      const records = await tools.read(topic);
      const byId = new Map(
        records.map(({ value, headers }) => [headers['minibatch-id'], (JSON.parse(String(value)) as { n: number }).n]),
      );
      // Once, if the reader looks at the headers; and never less.
      expect([...byId.values()].toSorted((a, b) => a - b)).toEqual(upTo(COUNT));
      console.log(`idempotent ${idempotent}: ${records.length - COUNT} of ${COUNT} records doubled in the topic`);
    },
  );
});

describe('a broker that is not there at boot', { timeout: 120_000 }, () => {
  it('is waited for by source and sink, with the reason in the status; then everything arrives', async () => {
    const topic = await tools.topic();
    const results = await tools.topic();
    await tools.produce(topic, jsonRows(100));
    await tools.server.kill9();
    class Results extends KafkaSink<unknown> {
      constructor() {
        super({ kafka: tools.config, topic: results, producer: { retry: { retries: 1 } } });
      }
    }
    class Forward {
      @Streaming('rows', { size: 10, group: 'forward', sink: Results, retry: { backoff: 50, maxBackoff: 500 } })
      forward({ data }: Window) {
        return data;
      }
    }
    const Feed = feedOf(tools, {
      topics: topic,
      groupId: `g-${randomUUID()}`,
      kafka: { ...tools.config, retry: { retries: 1 } },
    });
    const app = await start({
      imports: [MinibatchModule.forRoot({ store: memoryStore() })],
      providers: [Collector, Feed, Forward, Results],
    });
    await app
      .get(StreamService)
      .stream('rows')
      .appendMany(upTo(10).map((n) => ({ n: 100 + n })));
    await vi.waitUntil(async () => (await sourceStatus(app))?.lastError !== undefined, LONG);
    await expect(sourceStatus(app)).resolves.toMatchObject({
      lastError: {
        code: ErrorCode.SourceFailed,
        message: expect.stringMatching(/Feed: .*Check that the brokers run/),
      },
    });
    const activity = async () => {
      const { streams } = await app.get(StatusService).snapshot();
      return streams[0]?.consumers.find(({ group }) => group === 'forward')?.local?.activity;
    };
    await vi.waitUntil(async () => (await activity()) === 'blocked', LONG);
    await tools.server.restart();
    await vi.waitUntil(() => app.get(Collector).messages.length === 110, LONG);
    await vi.waitUntil(async () => (await tools.written(results)) >= 110, LONG);
    expect(app.get(Collector).numbers).toEqual(upTo(110));
  });
});
