import { join } from 'node:path';
import { inject } from 'vitest';
import type { CrashStore } from './scenario.js';

/** Where the processes of a test find their store. */
export function crashPlace(store: CrashStore, folder: string, database: string) {
  return store === 'lmdb' ? { path: join(folder, 'store') } : { uri: crashUri(store), db: database };
}

/** The URI of the run's server. LMDB has none. */
export function crashUri(store: CrashStore): string {
  return store === 'postgres' ? inject('postgresUrl') : inject('mongoUri');
}
