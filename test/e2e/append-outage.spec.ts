import 'reflect-metadata';
import { getConnectionToken } from '@nestjs/mongoose';
import type { TestingModule } from '@nestjs/testing';
import type { Connection } from 'mongoose';
import { AppendError, defineStream, MinibatchModule, StreamService, type StreamOptions } from 'nestjs-minibatch';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startMongo, startReplicaSet, type MongoServer } from '../../scripts/servers/mongo/mongo.mjs';
import { openDatabase } from '../support/mongo-server.js';
import { closeAll, mongoose, start } from './support/applications.js';

/** As many as five writes of the queue. */
const APPENDS = 5_000;
/** Milliseconds. */
const SELECTION = 2_000;

describe.each([
  ['a standalone server', startMongo],
  ['a replica set', startReplicaSet],
])('appends while %s is away', (_server, startServer) => {
  let server: MongoServer;
  beforeAll(async () => {
    server = await startServer({ durable: true });
  });
  afterAll(() => server.stop());
  afterEach(closeAll);

  async function boot(serverSelectionTimeoutMS: number, options: StreamOptions = {}) {
    await server.restart();
    const database = openDatabase(server.uri);
    const imports = [
      mongoose(database, { serverSelectionTimeoutMS, retryWrites: false, heartbeatFrequencyMS: 500 }),
      MinibatchModule.forRoot({ shutdownTimeout: '1s' }),
    ];
    const app = await start({ imports });
    const stream = app.get(StreamService).stream(defineStream<number>('s', options));
    await stream.append(0);
    await server.kill9();
    const begin = performance.now();
    const failed: number[] = [];
    const failures = Array.from({ length: APPENDS }, (_, index) =>
      stream.append(index + 1).then(
        () => new Error('stored'),
        (error: unknown) => {
          failed.push(performance.now());
          return error;
        },
      ),
    );
    return {
      app,
      stream,
      failures,
      elapsed: () => performance.now() - begin,
      /** Milliseconds between the first failure and the last. */
      spread: () => Math.max(...failed) - Math.min(...failed),
    };
  }

  const storedIn = async (app: TestingModule) => {
    const buffer = app.get<Connection>(getConnectionToken()).collection('buffer');
    const found = await buffer.find({}, { projection: { data: 1 } }).toArray();
    return found.map(({ data }) => data as number).toSorted((a, b) => a - b);
  };

  it.each([
    ['', {}],
    [', on a stream with a limit', { maxBuffered: 1_000_000 }],
  ])('fail together after one selection time, and say whether they are stored%s', async (_, options) => {
    const { failures, spread } = await boot(SELECTION, options);
    for (const error of await Promise.all(failures)) {
      expect(error).toBeInstanceOf(AppendError);
      expect(error).toMatchObject({ stored: expect.stringMatching(/^(no|unknown)$/) as unknown });
    }
    // One write after the other, the last of five would fail four times as long after the first.
    expect(spread()).toBeLessThan(3 * SELECTION);
  });

  it('wait for a server that has just died, and are stored once it is back', { timeout: 120_000 }, async () => {
    const { app, stream, failures } = await boot(60_000);
    const deduped = Array.from({ length: 100 }, (_, n) => stream.append(APPENDS + 1 + n, { dedupeId: `n${n}` }));
    const many = stream.appendMany([-1, -2, -3]);
    await server.restart();
    // Those in flight when it died may be stored; nothing doubles them.
    const errors = (await Promise.all(failures)).filter((error) => error instanceof AppendError);
    expect(errors).toEqual([]);
    expect(await Promise.all(deduped)).toHaveLength(100);
    expect(await many).toHaveLength(3);
    expect(await storedIn(app)).toEqual([-3, -2, -1, ...Array.from({ length: APPENDS + 101 }, (_, n) => n)]);
  });

  it('end with the application, within its shutdown timeout', { timeout: 90_000 }, async () => {
    const { app, failures, elapsed } = await boot(60_000);
    await app.close();
    // Not those of the driver.
    expect(elapsed()).toBeLessThan(30_000);
    const errors = await Promise.all(failures);
    expect(errors.filter((error) => !(error instanceof AppendError))).toEqual([]);
    expect(errors.filter((error) => (error as AppendError).stored === 'no').length).toBeGreaterThanOrEqual(
      APPENDS - 1_000,
    );
  });
});
