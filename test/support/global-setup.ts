import type { TestProject } from 'vitest/node';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { missingServer } from '../../scripts/servers/missing.mjs';
import { startMongo, startReplicaSet } from '../../scripts/servers/mongo/mongo.mjs';
import type { MongoKind, MongoServer, MongoSupport } from '../../scripts/servers/mongo/mongo.mjs';
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
  }
}

const NOTHING: MongoSupport = { transactions: false, changeStreams: false, indexes: false };

/**
 * Two servers for the whole run: a MongoDB, in memory where there is a choice, and a replica set. Each test takes a database of its
 * own; a test that sets fail points or kills takes a server of its own.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const attempts = await mkdtemp(join(tmpdir(), 'minibatch-attempts-'));
  // For the processes that run the tests: what could not be installed is not tried again.
  process.env['MINIBATCH_ATTEMPTS'] ??= attempts;
  const [mongo, replicaSet] = await Promise.all([
    started('MongoDB', startMongo()),
    started('replica set', startReplicaSet()),
    buildIfUsed(project),
  ]);
  provide(project, mongo);
  project.provide('replicaSetUri', replicaSet.server?.uri ?? '');
  project.provide('replicaSetMissing', replicaSet.missing);
  return async () => {
    await Promise.all([mongo.server?.stop(), replicaSet.server?.stop(), rm(attempts, { recursive: true })]);
  };
}

/** Makes it the MongoDB of all tests that don't ask for another one. */
export function provide(project: TestProject, { server, missing }: Started): void {
  project.provide('mongoUri', server?.uri ?? '');
  project.provide('mongoMissing', missing);
  project.provide('mongoKind', server?.kind ?? '');
  project.provide('mongoSupports', server?.supports ?? NOTHING);
}

export interface Started {
  readonly server: MongoServer | undefined;
  /** How to get one, if this machine has none; else empty. */
  readonly missing: string;
}

/** Says which server it is. If it is missing, its tests are left out; if it does not start, they fail. In CI no test begins then. */
export async function started(what: string, starting: Promise<MongoServer>): Promise<Started> {
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

function withoutPassword(uri: string): string {
  return uri.replace(/\/\/[^@/]*@/, '//');
}
