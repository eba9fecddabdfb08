import 'reflect-metadata';
import { once } from 'node:events';
import { getConnectionToken } from '@nestjs/mongoose';
import type { Connection } from 'mongoose';
import { AppendError, defineStream, MinibatchModule, StreamService, type StreamOptions } from 'nestjs-minibatch';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startMongo, type MongoServer } from '../../scripts/servers/mongo/mongo.mjs';
import { openDatabase } from '../support/mongo-server.js';
import { closeAll, mongoose, start } from './support/applications.js';

/** As many as five writes of the queue. */
const APPENDS = 5_000;

describe('appends while MongoDB is away', () => {
  let server: MongoServer;
  beforeAll(async () => {
    server = await startMongo({ durable: true });
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
    // What the driver sends before it has noticed fails at once. From then on it looks for a server.
    const client = app.get<Connection>(getConnectionToken()).getClient();
    await once(client, 'serverHeartbeatFailed');
    const begin = performance.now();
    const failures = Array.from({ length: APPENDS }, (_, index) =>
      stream.append(index).then(
        () => new Error('stored'),
        (error: unknown) => error,
      ),
    );
    return { app, failures, elapsed: () => performance.now() - begin };
  }

  it.each([
    ['', {}],
    [', on a stream with a limit', { maxBuffered: 1_000_000 }],
  ])('fail together after one selection time, and say whether they are stored%s', async (_, options) => {
    const { failures, elapsed } = await boot(1_500, options);
    for (const error of await Promise.all(failures)) {
      expect(error).toBeInstanceOf(AppendError);
      expect(error).toMatchObject({ stored: expect.stringMatching(/^(no|unknown)$/) as unknown });
    }
    // One write after the other they would take five times as long as one.
    expect(elapsed()).toBeLessThan(3 * 1_500);
  });

  it('end with the application, within its shutdown timeout', async () => {
    const { app, failures, elapsed } = await boot(30_000);
    await app.close();
    expect(elapsed()).toBeLessThan(15_000);
    const errors = await Promise.all(failures);
    expect(errors.filter((error) => !(error instanceof AppendError))).toEqual([]);
    expect(errors.filter((error) => (error as AppendError).stored === 'no').length).toBeGreaterThanOrEqual(
      APPENDS - 1_000,
    );
  });
});
