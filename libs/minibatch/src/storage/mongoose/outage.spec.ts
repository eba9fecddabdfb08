import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startMongo, type MongoServer } from '../../../../../scripts/servers/mongo/mongo.mjs';
import { openDatabase } from '../../../../../test/support/mongo-server.js';
import {
  appendAll,
  dataOf,
  keyOf,
  messageOf,
  openStore,
  takeLease,
  windowOf,
} from '../../../../../test/support/mongoose-store.js';
import { AppendError, ErrorCode } from '../../errors/minibatch.error.js';

const KEY = keyOf('flights');

describe('a server that goes away', () => {
  let server: MongoServer;
  beforeAll(async () => {
    server = await startMongo({ durable: true });
  });
  afterAll(() => server.stop());

  it('is reported with codes, and the store continues when it is back', async () => {
    const database = openDatabase(server.uri);
    const test = await openStore({ database, connect: { serverSelectionTimeoutMS: 1500 } });
    const { store } = test;
    const lease = await takeLease(store, KEY);
    await appendAll(store, [messageOf('flights', 1)]);

    await server.kill9();
    const unavailable = { code: ErrorCode.StoreUnavailable, cause: expect.any(Error) };
    const limits = { messages: 10, bytes: 1000 };
    await expect(store.fetch(KEY, undefined, limits)).rejects.toMatchObject(unavailable);
    await expect(store.renewLeases([lease])).rejects.toMatchObject(unavailable);
    await expect(store.poll([KEY])).rejects.toThrow(/server is running/);
    await expect(store.claim(lease, [windowOf(1, [])])).rejects.toMatchObject(unavailable);
    const [outcome] = await store.append([messageOf('flights', 2)]);
    expect(outcome).toMatchObject({ status: 'failed', error: { code: ErrorCode.AppendFailed } });
    if (outcome?.status !== 'failed' || !(outcome.error instanceof AppendError)) throw new Error('no AppendError');
    // With a replica set the driver itself retries, so nobody can be sure there.
    expect(outcome.error.stored).toBe(server.kind === 'mongo-java-server' ? 'no' : 'unknown');

    await server.restart();
    expect(await store.renewLeases([lease])).toEqual([]);
    await appendAll(store, [messageOf('flights', 3)]);
    expect(await dataOf(store, KEY)).toEqual([1, 3]);
    await test.dispose();
  });
});
