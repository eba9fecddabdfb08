import { randomUUID } from 'node:crypto';
import { AppendError } from 'nestjs-minibatch';
import { defineStream, mongoStore, openStream, type OpenStream } from 'nestjs-minibatch/client';
import { postgresStore } from 'nestjs-minibatch/postgres';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startMongo, startReplicaSet } from '../../scripts/servers/mongo/mongo.mjs';
import { startPostgres } from '../../scripts/servers/postgres/postgres.mjs';
import { type FrozenProxy, startFrozenProxy } from '../support/frozen-proxy.js';

/** How long the store looks for its server; milliseconds. */
const PATIENCE = 1_000;
const SHUTDOWN = 300;
const APPENDS = 200;

interface TestServer {
  readonly port: number;
  stop(): Promise<void>;
}

const mongo = (start: typeof startMongo) => async (): Promise<TestServer> => {
  const server = await start({ durable: true });
  return { port: Number(new URL(server.uri).port), stop: () => server.stop() };
};
const postgres = async (): Promise<TestServer> => {
  const server = await startPostgres({ durable: false });
  return { port: server.port, stop: () => server.stop() };
};

const mongoAt = (port: number, database: string) =>
  // Heartbeats would find out on their own, which is what most servers in trouble do not allow.
  mongoStore(
    `mongodb://127.0.0.1:${port}/${database}?directConnection=true&serverSelectionTimeoutMS=${PATIENCE}&heartbeatFrequencyMS=600000`,
  );
const postgresAt = (port: number, schema: string) =>
  postgresStore({
    connectionString: `postgres://postgres@127.0.0.1:${port}/postgres`,
    schema,
    patience: PATIENCE,
    notify: false,
  });

describe.each([
  ['a standalone MongoDB', mongo(startMongo), mongoAt],
  ['a replica set', mongo(startReplicaSet), mongoAt],
  ['PostgreSQL', postgres, postgresAt],
])('%s that stops to answer', (_name, startServer, storeAt) => {
  let server: TestServer;
  let proxy: FrozenProxy;
  let database: string;
  let stream: OpenStream<number> | undefined;
  const lines: string[] = [];
  const log = {
    log() {},
    warn: (line: string) => void lines.push(line),
    error: (line: string) => void lines.push(line),
  };

  beforeAll(async () => {
    server = await startServer();
  });
  afterAll(() => server.stop());
  beforeEach(async () => {
    lines.length = 0;
    database = `frozen_${randomUUID().replaceAll('-', '').slice(0, 20)}`;
    proxy = await startFrozenProxy(server.port);
    stream = await openStream<number>(storeAt(proxy.port, database), 's', { shutdownTimeout: SHUTDOWN, log });
    await stream.append(0);
  });
  afterEach(async () => {
    proxy.thaw();
    await stream?.disconnect();
    stream = undefined;
    proxy.close();
  });

  it('lets each append fail in the time in which it looks for a server, and says what may be stored', async () => {
    proxy.freeze();
    const sent = failureOf(stream!.append(1));
    // The first is on its way, so these wait for it.
    await new Promise(setImmediate);
    const waiting = Array.from({ length: APPENDS }, (_, index) => failureOf(stream!.append(index + 2)));
    expect(await sent).toMatchObject({ code: 'MINIBATCH_STORE_UNAVAILABLE', stored: 'unknown' });
    const failures = await Promise.all(waiting);
    expect(failures.every((error) => error instanceof AppendError && error.stored === 'no')).toBe(true);
  });

  it('lets appends to a bounded stream fail, for which it is asked how many messages there are', async () => {
    const bounded = await openStream(
      storeAt(proxy.port, database),
      defineStream<number>('bounded', { maxBuffered: 10 }),
      {
        shutdownTimeout: SHUTDOWN,
        log,
      },
    );
    proxy.freeze();
    const failures = await Promise.all([1, 2, 3].map((n) => failureOf(bounded.append(n))));
    for (const error of failures) expect(error).toMatchObject({ code: 'MINIBATCH_STORE_UNAVAILABLE', stored: 'no' });
    await bounded.disconnect();
  });

  it('takes appends again when it answers again, each once and in order', async () => {
    proxy.freeze();
    await failureOf(stream!.append(1));
    const later = [2, 3, 4].map((n) => stream!.append(n));
    proxy.thaw();
    await Promise.all(later);
    const seen: number[] = [];
    for await (const { data } of stream!.messages()) seen.push(data);
    // What was on its way arrives late.
    expect(seen).toEqual([0, 1, 2, 3, 4]);
  });

  it('does not keep the program from its end', async () => {
    await stream!.consume({ size: 1 }, () => undefined);
    proxy.freeze();
    const failures = [1, 2, 3].map((n) => failureOf(stream!.append(n)));
    await stream!.disconnect();
    stream = undefined;
    for (const error of await Promise.all(failures)) expect(error).toBeInstanceOf(AppendError);
  });
});

function failureOf(append: Promise<unknown>): Promise<unknown> {
  return append.then(
    () => new Error('stored'),
    (error: unknown) => error,
  );
}
