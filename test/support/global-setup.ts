import type { TestProject } from 'vitest/node';
import { startMongo } from '../../scripts/servers/mongo/mongo.mjs';
import type { MongoKind, MongoServer, MongoSupport } from '../../scripts/servers/mongo/mongo.mjs';

declare module 'vitest' {
  interface ProvidedContext {
    /** The run's MongoDB; empty if there is none. Use `openDatabase()` of `mongo-server.ts`. */
    mongoUri: string;
    mongoKind: MongoKind | '';
    mongoSupports: MongoSupport;
  }
}

const NOTHING: MongoSupport = { transactions: false, changeStreams: false, indexes: false };

/** One MongoDB for the whole run, in memory where there is a choice; each test takes a database of its own. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const server = await start();
  project.provide('mongoUri', server?.uri ?? '');
  project.provide('mongoKind', server?.kind ?? '');
  project.provide('mongoSupports', server?.supports ?? NOTHING);
  return async () => server?.stop();
}

async function start(): Promise<MongoServer | undefined> {
  try {
    const server = await startMongo();
    console.log(`MongoDB for tests: ${server.label} (${withoutPassword(server.uri)})`);
    return server;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    // In CI nothing may go untested in silence. A plain error: the runner can't print the driver's.
    if (process.env['CI'] === 'true') throw new Error(reason);
    console.warn(`No MongoDB, its tests will fail: ${reason}`);
    return undefined;
  }
}

function withoutPassword(uri: string): string {
  return uri.replace(/\/\/[^@/]*@/, '//');
}
