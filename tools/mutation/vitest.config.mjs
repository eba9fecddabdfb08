import { defineConfig } from 'vitest/config';

// The specs that a mutant can be tried with: quick ones that need no server and start no process. No watch on the event loop
// either: Stryker has its own for a mutant that loops.
export default defineConfig({
  test: {
    include: [
      'libs/minibatch/src/{windows,emitter,streams,internal}/**/*.spec.ts',
      'libs/minibatch/src/storage/*.spec.ts',
      'libs/minibatch/src/storage/memory/*.spec.ts',
    ],
    setupFiles: ['reflect-metadata'],
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
