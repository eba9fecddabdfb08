import type { TestProject } from 'vitest/node';
import { startMongo, startReplicaSet } from '../../scripts/servers/mongo/mongo.mjs';
import type { MongoKind, MongoServer, MongoSupport } from '../../scripts/servers/mongo/mongo.mjs';
import { buildIfUsed } from './built-package.js';

declare module 'vitest' {
  interface ProvidedContext {
    /** The run's MongoDB; empty if there is none. Use `openDatabase()` of `mongo-server.ts`. */
    mongoUri: string;
    mongoKind: MongoKind | '';
    mongoSupports: MongoSupport;
    /** Of a replica set, whatever the run's MongoDB is; empty if there is none. Use `openReplicaSet()` of `mongo-server.ts`. */
    replicaSetUri: string;
  }
}

const NOTHING: MongoSupport = { transactions: false, changeStreams: false, indexes: false };

/**
 * Two servers for the whole run: a MongoDB, in memory where there is a choice, and a replica set. Each test takes a database of its
 * own; a test that sets fail points or kills takes a server of its own.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const [server, replicaSet] = await Promise.all([
    started('MongoDB', startMongo()),
    started('replica set', startReplicaSet()),
    buildIfUsed(project),
  ]);
  provide(project, server);
  project.provide('replicaSetUri', replicaSet?.uri ?? '');
  return async () => {
    await Promise.all([server?.stop(), replicaSet?.stop()]);
  };
}

/** Makes it the MongoDB of all tests that don't ask for another one. */
export function provide(project: TestProject, server: MongoServer | undefined): void {
  project.provide('mongoUri', server?.uri ?? '');
  project.provide('mongoKind', server?.kind ?? '');
  project.provide('mongoSupports', server?.supports ?? NOTHING);
}

/** Says which server it is. Undefined if there is none: then its tests fail, and CI does not begin. */
export async function started(what: string, starting: Promise<MongoServer>): Promise<MongoServer | undefined> {
  try {
    const server = await starting;
    console.log(`${what} for tests: ${server.label} (${withoutPassword(server.uri)})`);
    return server;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    // In CI nothing may go untested in silence. A plain error: the runner can't print the driver's.
    if (process.env['CI'] === 'true') throw new Error(reason);
    console.warn(`No ${what}, its tests will fail: ${reason}`);
    return undefined;
  }
}

function withoutPassword(uri: string): string {
  return uri.replace(/\/\/[^@/]*@/, '//');
}
