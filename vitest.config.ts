import { defineConfig } from 'vitest/config';

const common = {
  setupFiles: ['reflect-metadata', 'test/support/stuck-test.mjs'],
  testTimeout: 30_000,
  hookTimeout: 60_000,
};

/**
 * What runs once more with a replica set as the run's MongoDB: the store, and what applications see of it. Without what would take
 * minutes on a slow server and asks nothing new of it.
 */
const REPLICA_SET = {
  include: ['libs/minibatch/src/storage/mongoose/*.spec.ts', 'test/e2e/mongoose-setups.spec.ts'],
  exclude: ['**/{message-ids,recent-marks,redrive}.spec.ts'],
};

export default defineConfig({
  test: {
    globalSetup: ['test/support/global-setup.ts'],
    // Two cores are what there is; more workers only make real servers time out.
    maxWorkers: 2,
    projects: [
      { test: { ...common, name: 'all', include: ['libs/*/src/**/*.spec.ts', 'test/**/*.spec.ts'] } },
      {
        test: {
          ...common,
          ...REPLICA_SET,
          name: 'replica set',
          globalSetup: ['test/support/replica-set-setup.ts'],
          setupFiles: [...common.setupFiles, 'test/support/server-differences.ts'],
        },
      },
    ],
  },
});
