import { basename } from 'node:path';
import { env } from 'node:process';
import { BaseSequencer } from 'vitest/node';
import { defineConfig } from 'vitest/config';
import { AREAS } from './areas.mjs';

// The specs that a mutant can be tried with: quick ones that need no server and start no process. No watch on the event loop
// either: Stryker has its own for a mutant that loops.

/** What is most likely to notice comes first: the specs named after the file, then the others, and those with random input last. */
class NearestFirst extends BaseSequencer {
  /** @override @param {Parameters<BaseSequencer['sort']>[0]} specs */
  sort(specs) {
    const mutated = (this.ctx.config.related ?? []).map((path) => basename(path, '.ts'));
    const rank = (/** @type {string} */ path) => {
      if (mutated.some((name) => basename(path).startsWith(`${name}.`))) return 0;
      return /property|exactly-once|evidence/.test(path) ? 2 : 1;
    };
    return Promise.resolve([...specs].sort((a, b) => rank(a.moduleId) - rank(b.moduleId)));
  }
}

/** A test that waits for what a mutant never does ends after this time; on a busy machine the slowest takes more than 8 s. */
const TIMEOUT = 30_000;

export default defineConfig({
  test: {
    include: AREAS[env['MINIBATCH_MUTATION_AREA'] ?? '']?.map((path) => `libs/minibatch/src/${path}`) ?? [],
    setupFiles: ['reflect-metadata', 'tools/mutation/setup.mjs'],
    sequence: { sequencer: NearestFirst },
    testTimeout: TIMEOUT,
    hookTimeout: TIMEOUT / 2,
    // Enough for a mutant; a search for rare interleavings is another run.
    env: { FC_RUNS: '40' },
  },
});
