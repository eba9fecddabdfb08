import { randomUUID } from 'node:crypto';
import mongoose from 'mongoose';
import type { Connection, ConnectOptions } from 'mongoose';
import { inject } from 'vitest';
import { MissingServerError } from '../../scripts/servers/missing.mjs';

/** The URI of the run's MongoDB; names no database. */
export function mongoUri(): string {
  return given('MongoDB', inject('mongoUri'), inject('mongoMissing'));
}

/** An empty database of the run's replica set, which has transactions and change streams whatever the run's MongoDB has. */
export function openReplicaSet(): TestDatabase {
  return openDatabase(given('MongoDB as a replica set', inject('replicaSetUri'), inject('replicaSetMissing')));
}

function given(server: string, uri: string, missing: string): string {
  if (uri !== '') return uri;
  if (missing !== '') throw new MissingServerError(server, missing);
  throw new Error(`No ${server} for this test: see the first lines of the run for what was tried`);
}

/** An empty database with a way to connect to it, as several processes would. */
export interface TestDatabase {
  readonly name: string;
  readonly uri: string;
  connect(options?: ConnectOptions): Promise<Connection>;
  /** Drops the database and closes every connection that was made. */
  dispose(): Promise<void>;
}

/** Milliseconds. */
const LONGEST_CONNECT = 20_000;

/** A database of its own for one test, on the run's server or on the one given. */
export function openDatabase(uri: string = mongoUri()): TestDatabase {
  const name = `minibatch_test_${randomUUID().replaceAll('-', '')}`;
  const connections: Connection[] = [];
  const connect = async (options: ConnectOptions = {}) => {
    // Tests of outages wait only briefly for a server; on a busy machine even one that is up may not answer the first time.
    for (const end = performance.now() + LONGEST_CONNECT; ;) {
      const connection = mongoose.createConnection(uri, { dbName: name, autoIndex: false, ...options });
      try {
        await connection.asPromise();
        connections.push(connection);
        return connection;
      } catch (error) {
        await connection.close();
        if (!(error instanceof mongoose.Error.MongooseServerSelectionError) || performance.now() > end) throw error;
      }
    }
  };
  return {
    name,
    uri,
    connect,
    dispose: async () => {
      const usable = connections.find((connection) => connection.readyState === mongoose.ConnectionStates.connected);
      // As far as the server can: the name is used by this test alone, so what stays does no harm.
      await (usable ?? (await connect())).dropDatabase().catch(() => undefined);
      await Promise.all(connections.map((connection) => connection.close()));
    },
  };
}
