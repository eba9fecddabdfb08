import { relative } from 'node:path';
import type { TestProject } from 'vitest/node';
import { repository, run, tool } from './workspace.js';

/**
 * Builds the package if tests are to run that use it as built: in processes of their own, in a compiler, packed. tsc does
 * nothing where nothing changed. All others import the sources, see vitest.config.ts.
 *
 * `npm test` has built already, and counted it if that failed; it says so by MINIBATCH_BUILT.
 */
export async function buildIfUsed(project: TestProject): Promise<void> {
  if (process.env['MINIBATCH_BUILT'] === 'true') return;
  // Not in Vitest's types; without it all files count, and it is built each time.
  const { filenamePattern } = project.vitest as { filenamePattern?: string[] };
  const { testFiles } = await project.globTestFiles(filenamePattern);
  if (!testFiles.some(usesBuild)) return;
  const configs = ['libs/minibatch/tsconfig.build.json', 'apps/example/tsconfig.build.json'];
  const { exitCode, stdout } = await run(tool('tsc'), ['-b', ...configs]);
  if (exitCode === 0) return;
  console.error(
    `${stdout}\n✗ THE BUILD FAILED: what tests start as a process of its own runs what an earlier build has left in dist.\n`,
  );
}

function usesBuild(path: string): boolean {
  const file = relative(repository(), path);
  return file.startsWith('test/') || file.endsWith('.processes.spec.ts');
}
