import type { TestProject } from 'vitest/node';
import { startReplicaSet } from '../../scripts/servers/mongo/mongo.mjs';
import { provide, started } from './global-setup.js';

/** Runs the project's tests with a replica set as the run's MongoDB. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const replicaSet = await started('replica set', startReplicaSet());
  provide(project, replicaSet);
  return async () => replicaSet.server?.stop();
}
