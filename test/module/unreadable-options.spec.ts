import {
  CollectionSink,
  CollectionSource,
  defineStream,
  memoryStore,
  MinibatchError,
  MinibatchModule,
} from 'nestjs-minibatch';
import { bullmq } from 'nestjs-minibatch/bullmq';
import { CeleryEventSource } from 'nestjs-minibatch/celery';
import { openStream } from 'nestjs-minibatch/client';
import { KafkaSink, KafkaSource } from 'nestjs-minibatch/kafka';
import { lmdbStore } from 'nestjs-minibatch/lmdb';
import { ClientProxySink } from 'nestjs-minibatch/microservices';
import { MqttSink, MqttSource } from 'nestjs-minibatch/mqtt';
import { DatasetSink, DatasetSource } from 'nestjs-minibatch/omegaml';
import { postgresStore } from 'nestjs-minibatch/postgres';
import { threads } from 'nestjs-minibatch/threads';
import { describe, expect, it } from 'vitest';

type Call = (options: never) => unknown;

const boom = () => {
  throw new Error('boom');
};
const proxy = () => new Proxy({}, { get: boom, has: boom, ownKeys: boom, getPrototypeOf: boom });
const revoked = () => {
  const { proxy: gone, revoke } = Proxy.revocable({}, {});
  revoke();
  return gone;
};
const getter = (key: string) => Object.defineProperty({}, key, { enumerable: true, get: boom });

const made = (Class: new (options: never) => unknown): [string, Call] => [
  `new ${Class.name}`,
  (options) => new Class(options),
];
const CALLS: readonly (readonly [name: string, call: Call])[] = [
  ...[KafkaSink, KafkaSource, MqttSink, MqttSource, CeleryEventSource, CollectionSink, CollectionSource].map(made),
  ...[DatasetSink, DatasetSource, ClientProxySink].map(made),
  ['threads', threads],
  ['bullmq', bullmq],
  ['lmdbStore', lmdbStore],
  ['postgresStore', postgresStore],
  ['MinibatchModule.forRoot', (options) => MinibatchModule.forRoot(options)],
  ['MinibatchModule.forRootAsync', (options) => MinibatchModule.forRootAsync(options)],
  ['MinibatchModule.forFeature', (options) => MinibatchModule.forFeature(options)],
  ['defineStream, its options', (options) => defineStream('name', options)],
  ['defineStream, its name', (options) => defineStream(options)],
  ['openStream, the stream', (options) => openStream(memoryStore(), options)],
  ['openStream, its options', (options) => openStream(memoryStore(), 'stream', options)],
  ...(['messages', 'windows', 'deadLetters'] as const).map((method): [string, Call] => [
    method,
    (filter) => onStream(async (stream) => stream[method](filter).next()),
  ]),
  ...(['replay', 'redrive', 'discard', 'giveUp', 'skip', 'drop'] as const).map((method): [string, Call] => [
    method,
    (options) => onStream(async (stream) => stream[method](options)),
  ]),
  ['removeGroup', (options) => onStream(async (stream) => stream.removeGroup('group', options))],
  ['append', (options) => onStream(async (stream) => stream.append(1, options))],
  ['appendMany', (options) => onStream(async (stream) => stream.appendMany([1], options))],
  ['attach', (options) => onStream(async (stream) => stream.attach({ stream: async () => undefined }, options))],
  ['consume', (options) => onStream(async (stream) => stream.consume(options, () => undefined))],
  ['drain', (options) => onStream(async (stream) => stream.drain(options, () => undefined))],
];

async function onStream(work: (stream: Awaited<ReturnType<typeof openStream>>) => Promise<unknown>): Promise<unknown> {
  const stream = await openStream(memoryStore(), 'stream');
  try {
    await stream.append(0);
    return await work(stream);
  } finally {
    await stream.close();
  }
}

async function errorOf(call: Call, options: unknown): Promise<unknown> {
  try {
    await call(options as never);
  } catch (error) {
    return error;
  }
  return 'nothing was thrown';
}

/** The options that a call takes, as far as it tells. */
async function optionsOf(call: Call): Promise<readonly string[]> {
  const error = await errorOf(call, { unheardOf: 1 });
  const allowed = error instanceof MinibatchError ? error.details['allowed'] : undefined;
  return Array.isArray(allowed) ? (allowed as string[]) : [];
}

describe('options that throw when they are read', () => {
  it.each(CALLS)('are refused by %s', async (_, call) => {
    const hostile = [proxy(), revoked(), ...(await optionsOf(call)).map(getter)];
    for (const options of hostile) {
      const error = await errorOf(call, options);
      expect(error).toBeInstanceOf(MinibatchError);
      expect(error).toMatchObject({ code: 'MINIBATCH_INVALID_OPTIONS' });
    }
  });

  it.each(CALLS)('and those that are none are refused by %s', async (_, call) => {
    for (const options of [null, Symbol('s'), 10n, boom]) {
      const error = await errorOf(call, options);
      expect(error).toBeInstanceOf(MinibatchError);
      expect(error).toMatchObject({ code: 'MINIBATCH_INVALID_OPTIONS' });
    }
  });

  it.each(['store', 'connectionName', 'isGlobal', 'statusController'])('are refused by forRoot: %s', (key) => {
    expect(() => MinibatchModule.forRoot(getter(key))).toThrow(`${key} throws when it is read: boom`);
  });

  it('may be frozen', async () => {
    await expect(onStream(async (stream) => stream.append(1, Object.freeze({ key: 'k' })))).resolves.toHaveProperty(
      'id',
    );
    const options = Object.freeze({ size: 1, retry: Object.freeze({ attempts: 1 }), sink: Object.freeze([]) });
    await expect(
      onStream(async (stream) => (await stream.consume(options, () => undefined)).stop()),
    ).resolves.toBeDefined();
  });
});
