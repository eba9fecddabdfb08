import { describe, expect, it } from 'vitest';
import { repository, run } from '../support/workspace.js';

describe('npm run test:mutation', () => {
  it.each([
    { area: 'windows', spec: 'windows/count.window.spec.ts' },
    { area: 'engine', spec: 'engine/committer.spec.ts' },
    { area: 'storage', spec: 'storage/bson-decoder.spec.ts' },
    { area: 'storage/memory', spec: 'storage/memory/memory.store.spec.ts' },
  ])('tries a fault in $area with its specs, none of which needs a server', async ({ area, spec }) => {
    const vitest = repository('node_modules/vitest/vitest.mjs');
    const args = [vitest, 'list', '--filesOnly', '--config', repository('tools/mutation/vitest.config.mjs')];
    const { exitCode, stdout } = await run(process.execPath, args, { env: { MINIBATCH_MUTATION_AREA: area } });
    expect(exitCode).toBe(0);
    expect(stdout).toContain(`libs/minibatch/src/${spec}`);
    expect(stdout).not.toMatch(/mongoose|lmdb|streams\/values/);
  });

  it.each(['engine/no-such-file.ts', 'sinks'])('refuses %s, which it does not mutate', async (path) => {
    const { exitCode, stderr } = await run(process.execPath, [repository('scripts/mutation.mjs'), path]);
    expect(stderr).toContain(`${path} is not there or in no area that is mutated: windows, engine,`);
    expect(exitCode).toBe(1);
  });
});
