import { describe, expect, it, vi } from 'vitest';
import type { Connection } from 'mongoose';
import type { ClientProxy } from '@nestjs/microservices';
import { ErrorCode } from '../errors/minibatch.error.js';
import type { Sink } from '../sinks/sink.interface.js';
import { Window } from '../windows/window.js';
import { CollectionSink } from './collection/collection.sink.js';
import { KafkaSink } from './kafka/kafka.sink.js';
import { ClientProxySink } from './microservices/client-proxy.sink.js';
import { MqttSink } from './mqtt/mqtt.sink.js';

/** As the engine makes one: its messages and its term refer to each other. */
class MadeWindow extends Window {
  readonly id = 'w';
  readonly stream = 's';
  readonly group = 'g';
  readonly partition = 0;
  readonly late = false;
  readonly key = undefined;
  readonly partial = false;
  readonly revision = 0;
  readonly start = undefined;
  readonly end = undefined;
  readonly part = undefined;
  readonly split = undefined;
  readonly closing = new AbortController().signal;
  readonly attempt = 1;
  readonly signal = new AbortController().signal;
  readonly data = [1];
  readonly messages = [];
  readonly self = this;
  reject(): void {}
}

const send = vi.fn();
const client = { send, emit: send, connect: () => Promise.resolve() } as unknown as ClientProxy;
const connection = { asPromise: () => Promise.resolve() } as unknown as Connection;

const SINKS: readonly Sink[] = [
  new KafkaSink({ kafka: { brokers: ['127.0.0.1:1'] }, topic: 't' }),
  new MqttSink({ url: 'mqtt://127.0.0.1:1', topic: 't' }),
  new CollectionSink({ connection, collection: 'results' }),
  new ClientProxySink({ client, pattern: 'p', mode: 'emit' }),
];

describe('a method that returns its window', () => {
  it.each(SINKS.map((sink) => [sink.constructor.name, sink] as const))(
    'is told what to return by %s',
    async (_, sink) => {
      const window = new MadeWindow();
      await expect((async () => sink.put(window, window))()).rejects.toMatchObject({
        code: ErrorCode.ResultRefused,
        message: expect.stringContaining('it is the window itself: return window.data, or what was made of it'),
        details: { reason: 'UNENCODABLE' },
      });
      expect(send).not.toHaveBeenCalled();
    },
  );
});
