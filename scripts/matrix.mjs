/**
 * Installs the packed package into applications of Nest 10, 11 and 12, compiled in every way, and runs them with Node 20, 22 and 24: all of
 * test/package/matrix.spec.ts, of which `npm test` runs a part.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../', import.meta.url));
const { status } = spawnSync(
  process.execPath,
  ['node_modules/vitest/vitest.mjs', 'run', '--project', 'all', '--reporter', 'verbose', 'test/package/matrix.spec.ts'],
  { cwd: root, stdio: 'inherit', env: { ...process.env, MINIBATCH_MATRIX: 'all' } },
);
process.exitCode = status ?? 1;
