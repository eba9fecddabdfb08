import type { TestProject } from 'vitest/node';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { missingServer } from '../../scripts/servers/missing.mjs';
import { startMongo, startReplicaSet } from '../../scripts/servers/mongo/mongo.mjs';
import type { MongoKind, MongoServer, MongoSupport } from '../../scripts/servers/mongo/mongo.mjs';
import { startPostgres } from '../../scripts/servers/postgres/postgres.mjs';
import { buildIfUsed } from './built-package.js';

declare module 'vitest' {
  interface ProvidedContext {
    /** The run's MongoDB; empty if there is none. Use `openDatabase()` of `mongo-server.ts`. */
    mongoUri: string;
    /** How to get one if there is none because it is missing; else empty. */
    mongoMissing: string;
    mongoKind: MongoKind | '';
    mongoSupports: MongoSupport;
    /** Of a replica set, whatever the run's MongoDB is; empty if there is none. Use `openReplicaSet()` of `mongo-server.ts`. */
    replicaSetUri: string;
    replicaSetMissing: string;
    /** The run's PostgreSQL; empty if there is none. Use `openSchema()` of `postgres-server.ts`. */
    postgresUrl: string;
    postgresMissing: string;
  }
}

const NOTHING: MongoSupport = { transactions: false, changeStreams: false, indexes: false };

/**
 * Three servers for the whole run: a MongoDB, in memory where there is a choice, a replica set, and a PostgreSQL that does not wait for
 * the disk. Each test takes a database or a schema of its own; a test that sets fail points or kills takes a server of its own.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const attempts = await mkdtemp(join(tmpdir(), 'minibatch-attempts-'));
  // For the processes that run the tests: what could not be installed is not tried again.
  process.env['MINIBATCH_ATTEMPTS'] ??= attempts;
  const [mongo, replicaSet, postgres] = await Promise.all([
    started('MongoDB', startMongo()),
    started('replica set', startReplicaSet()),
    started('PostgreSQL', startPostgres({ durable: false }).then(named)),
    buildIfUsed(project),
  ]);
  provide(project, mongo);
  project.provide('replicaSetUri', replicaSet.server?.uri ?? '');
  project.provide('replicaSetMissing', replicaSet.missing);
  project.provide('postgresUrl', postgres.server?.uri ?? '');
  project.provide('postgresMissing', postgres.missing);
  return async () => {
    await Promise.all([mongo.server?.stop(), replicaSet.server?.stop(), postgres.server?.stop()]);
    await rm(attempts, { recursive: true });
  };
}

/** Makes it the MongoDB of all tests that don't ask for another one. */
export function provide(project: TestProject, { server, missing }: Started<MongoServer>): void {
  project.provide('mongoUri', server?.uri ?? '');
  project.provide('mongoMissing', missing);
  project.provide('mongoKind', server?.kind ?? '');
  project.provide('mongoSupports', server?.supports ?? NOTHING);
}

export interface Started<S> {
  readonly server: S | undefined;
  /** How to get one, if this machine has none; else empty. */
  readonly missing: string;
}

/** Says which server it is. If it is missing, its tests are left out; if it does not start, they fail. In CI no test begins then. */
export async function started<S extends { readonly label: string; readonly uri: string }>(
  what: string,
  starting: Promise<S>,
): Promise<Started<S>> {
  try {
    const server = await starting;
    console.log(`${what} for tests: ${server.label} (${withoutPassword(server.uri)})`);
    return { server, missing: '' };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    // In CI nothing may go untested in silence. A plain error: the runner can't print the driver's.
    if (process.env['CI'] === 'true') throw new Error(reason);
    const missing = missingServer(error)?.how ?? '';
    console.warn(`No ${what}, its tests ${missing === '' ? 'will fail' : 'are left out'}: ${reason}`);
    return { server: undefined, missing };
  }
}

type OwnPostgres = Awaited<ReturnType<typeof startPostgres>>;

function named(server: OwnPostgres): { readonly label: string; readonly uri: string; stop(): Promise<void> } {
  return { label: server.label, uri: server.url, stop: () => server.stop() };
}

function withoutPassword(uri: string): string {
  return uri.replace(/\/\/[^@/]*@/, '//');
}
