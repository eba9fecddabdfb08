import { mongo } from 'mongoose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type MongoServer, startMongo, startReplicaSet } from '../../../../../scripts/servers/mongo/mongo.mjs';
import { openDatabase, openReplicaSet } from '../../../../../test/support/mongo-server.js';
import { openStore } from '../../../../../test/support/mongoose-store.js';
import { DURABLE } from '../durability.spec.support.js';

/** Writes of a majority wait for the journal in MongoDB as it comes. The servers for tests do so by `durable`. */
const SERVERS: readonly (readonly [string, () => Promise<MongoServer>])[] = [
  ['a single server', () => startMongo({ durable: true })],
  ['a replica set', () => startReplicaSet({ durable: true })],
];

describe.each(SERVERS)('what MongoDB has acknowledged is there after the server was killed: %s', (_, start) => {
  let server: MongoServer;
  beforeAll(async () => void (server = await start()));
  afterAll(() => server?.stop());

  it.each(DURABLE)('%s', { timeout: 120_000 }, async (__, run) => {
    const { store, connection, dispose } = await openStore({ database: openDatabase(server.uri) });
    try {
      await run(store, async () => {
        await server.kill9();
        await server.restart();
        await answered(connection.getClient());
      });
    } finally {
      await dispose();
    }
  });
});

/** The client learns by itself that its server is back; what is sent before it does may find a connection that is dead. */
async function answered(client: mongo.MongoClient): Promise<void> {
  for (;;) {
    try {
      await client.db('admin').command({ ping: 1 });
      return;
    } catch (error) {
      if (!(error instanceof mongo.MongoNetworkError)) throw error;
    }
  }
}

describe('the journal is waited for', () => {
  it.each([
    ['not by default, for a majority of a replica set does', undefined, undefined],
    ['if the connection asks for it', true, true],
    ['and not, if the connection does not', false, undefined],
  ])('%s', async (_, journal, expected) => {
    const connect = { writeConcern: { w: 1, ...(journal !== undefined && { journal }) } };
    const { store, connection, dispose } = await openStore({ database: openReplicaSet(), connect });
    const concerns: unknown[] = [];
    connection.getClient().on('commandStarted', ({ command }) => concerns.push(command['writeConcern']));
    await store.ensureStream('flights');
    await store.append([{ stream: 'flights', data: 1, created: new Date() }]);
    const sent = concerns.filter((concern) => concern !== undefined);
    await dispose();
    expect(sent.length).toBeGreaterThan(0);
    for (const concern of sent) expect(concern).toMatchObject({ w: 'majority', wtimeout: 30_000 });
    for (const concern of sent) expect((concern as mongo.Document)['j']).toBe(expected);
  });
});
