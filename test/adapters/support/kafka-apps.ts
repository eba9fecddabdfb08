import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import type { TestingModule } from '@nestjs/testing';
import {
  type Message as StreamMessage,
  memoryStore,
  MinibatchModule,
  type SourceTarget,
  StatusService,
  StreamSource,
  Streaming,
  type StoreDefinition,
  type Window,
} from 'nestjs-minibatch';
import { KafkaSource, type KafkaSourceOptions } from 'nestjs-minibatch/kafka';
import { type Log, start } from '../../e2e/support/applications.js';
import { type KafkaTools, QUICK } from './kafka-tools.js';

/** What arrives in the stream 'rows'. */
@Injectable()
export class Collector {
  readonly messages: StreamMessage[] = [];

  @Streaming('rows', { size: 1000, interval: '50ms' })
  take({ messages }: Window): void {
    this.messages.push(...messages);
  }

  get data(): unknown[] {
    return this.messages.map(({ data }) => data);
  }

  /** The numbers of rows, in order. */
  get numbers(): number[] {
    return this.messages.map(({ data }) => (data as { n: number }).n).toSorted((a, b) => a - b);
  }
}

/** As long as it fails, it is started again soon. */
const RETRY = { backoff: '50ms', maxBackoff: '500ms' } as const;

/** A source of the stream 'rows', as an application would write it. */
export function feedOf(
  tools: KafkaTools,
  options: Omit<KafkaSourceOptions, 'kafka'> & Partial<KafkaSourceOptions>,
  name = 'Feed',
): new () => KafkaSource {
  @StreamSource('rows', { name, retry: RETRY })
  class Feed extends KafkaSource {
    constructor() {
      super({ kafka: tools.config, consumer: QUICK, ...options });
    }
  }
  return Feed;
}

export function startApp(
  providers: (new () => unknown)[],
  { log, store = memoryStore() }: { log?: Log; store?: StoreDefinition } = {},
): Promise<TestingModule> {
  return start({ imports: [MinibatchModule.forRoot({ store })], providers: [Collector, ...providers] }, log);
}

export async function sourceStatus(app: TestingModule) {
  const { streams } = await app.get(StatusService, { strict: false }).snapshot();
  return streams.find(({ name }) => name === 'rows')?.sources[0];
}

export const upTo = (count: number) => Array.from({ length: count }, (_, n) => n);

/** The name of a consumer group that no other test uses. */
export const newGroup = () => `g-${randomUUID()}`;

/** A stream that does with batches what the test wants. */
export const targetOf = (appendMany: SourceTarget['appendMany']): SourceTarget => ({
  name: 'rows',
  append: (data, options = {}) => appendMany([data], { each: () => options }),
  appendMany,
  position: () => Promise.resolve(undefined),
});
