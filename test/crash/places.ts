import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, inject } from 'vitest';
import type { CrashStore } from './scenario.js';
import { Worker } from './worker-process.js';

/** Where the processes of a test find their store. */
export function crashPlace(store: CrashStore, folder: string, database: string) {
  return store === 'lmdb' ? { path: join(folder, 'store') } : { uri: crashUri(store), db: database };
}

/** The URI of the run's server. LMDB has none. */
export function crashUri(store: CrashStore): string {
  return store === 'postgres' ? inject('postgresUrl') : inject('mongoUri');
}

/** Processes and folders of a suite's tests: killed and removed after each. */
export function useProcesses(suite: string) {
  const workers: Worker[] = [];
  const folders: string[] = [];
  afterEach(async () => {
    for (const worker of workers.splice(0)) {
      // One that a test has stopped would not end.
      worker.signal('SIGCONT');
      await worker.kill();
    }
    for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
  });
  return {
    start(...options: ConstructorParameters<typeof Worker>): Worker {
      const worker = new Worker(...options);
      workers.push(worker);
      return worker;
    },
    folder(): string {
      const folder = mkdtempSync(join(tmpdir(), `minibatch-${suite}-`));
      folders.push(folder);
      return folder;
    },
  };
}
