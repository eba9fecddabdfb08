import 'reflect-metadata';
import { getConnectionToken } from '@nestjs/mongoose';
import type { TestingModule } from '@nestjs/testing';
import type { Connection } from 'mongoose';
import {
  AppendError,
  defineStream,
  MinibatchModule,
  StreamService,
  type StreamOptions,
  type StreamStore,
} from 'nestjs-minibatch';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startMongo, startReplicaSet, type MongoServer } from '../../scripts/servers/mongo/mongo.mjs';
import { openDatabase } from '../support/mongo-server.js';
import { closeAll, mongoose, start } from './support/applications.js';

/** As many as five writes of the queue. */
const WRITES = 5;
const APPENDS = WRITES * 1_000;
/** Milliseconds. */
const SELECTION = 2_000;
/** Longer than any test; milliseconds. */
const ENDLESS = 600_000;

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
    const asked = watchCalls(app);
    const failures = Array.from({ length: APPENDS }, (_, index) =>
      stream.append(index + 1).then(
        () => new Error('stored'),
        (error: unknown) => error,
      ),
    );
    return { app, stream, failures, asked };
  }

  /** How often the store was asked to append, or whether there is room. */
  function watchCalls(app: TestingModule): () => number {
    const store = app.get<StreamStore>('MINIBATCH_STREAM_STORE', { strict: false });
    const { append, count } = store;
    let calls = 0;
    store.append = (...args) => {
      calls += 1;
      return append.apply(store, args);
    };
    store.count = (...args) => {
      calls += 1;
      return count.apply(store, args);
    };
    return () => calls;
  }

  const storedIn = async (app: TestingModule) => {
    const buffer = app.get<Connection>(getConnectionToken()).collection('buffer');
    const found = await buffer.find({}, { projection: { data: 1 } }).toArray();
    return found.map(({ data }) => data as number).toSorted((a, b) => a - b);
  };

  it.each([
    ['', {}],
    [', on a stream with a limit', { maxBuffered: 1_000_000 }],
  ])(
    'fail together after one selection time, and say whether they are stored%s',
    { timeout: 300_000 },
    async (_, options) => {
      const { failures, asked } = await boot(SELECTION, options);
      for (const error of await Promise.all(failures)) {
        expect(error).toBeInstanceOf(AppendError);
        expect(error).toMatchObject({ stored: expect.stringMatching(/^(no|unknown)$/) as unknown });
      }
      // Not one write after the other, each of which would wait as long.
      expect(asked()).toBeLessThan(WRITES);
    },
  );

  it('wait for a server that has just died, and are stored once it is back', { timeout: 300_000 }, async () => {
    const { app, stream, failures } = await boot(ENDLESS);
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

  it('end with the application, whatever the driver waits for', { timeout: 300_000 }, async () => {
    const { app, failures } = await boot(ENDLESS);
    await app.close();
    const errors = await Promise.all(failures);
    expect(errors.filter((error) => !(error instanceof AppendError))).toEqual([]);
    expect(errors.filter((error) => (error as AppendError).stored === 'no').length).toBeGreaterThanOrEqual(
      APPENDS - 1_000,
    );
  });
});
