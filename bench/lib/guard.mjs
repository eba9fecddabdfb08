import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const DIST = join(ROOT, 'libs/minibatch/dist');
const PASSED = join(ROOT, 'bench/.results/guard.json');

/** With each mistake planted they report it, and without they find nothing: fences hold, and nobody skips a look. */
export const GUARDS = ['test/crash/planted.spec.ts', 'libs/minibatch/src/engine/protocol.property.spec.ts'];

/**
 * Speed that was bought by a dropped promise is none: a build whose fence and look tests fail is not measured. A build that has
 * passed is known by its digest.
 *
 * @returns a sentence for the report; rejects if they fail
 */
export async function guard({ skip, progress }) {
  if (skip) return '**The fence and look tests were skipped (`--skip-guard`): these figures do not count.**';
  const digest = await digestOf(DIST);
  const before = await readFile(PASSED, 'utf8').then(JSON.parse, () => ({}));
  if (before.digest !== digest) {
    progress.at(`fence and look tests: ${GUARDS.join(', ')}`);
    await run(GUARDS);
    await mkdir(dirname(PASSED), { recursive: true });
    await writeFile(PASSED, JSON.stringify({ digest, guards: GUARDS }));
  }
  return `Before, this build (sha256 ${digest.slice(0, 12)}) passed the fence and look tests: ${GUARDS.map((file) => `\`${file}\``).join(', ')}.`;
}

/** Of all that is in a folder, and of the tests themselves. */
async function digestOf(folder) {
  const hash = createHash('sha256');
  const files = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = files
    .filter((file) => file.isFile() && file.name.endsWith('.js'))
    .map((file) => join(file.parentPath, file.name));
  for (const path of [...paths.sort(), ...GUARDS.map((file) => join(ROOT, file))]) hash.update(await readFile(path));
  return hash.digest('hex');
}

function run(files) {
  return new Promise((resolve, reject) => {
    const vitest = [join(ROOT, 'node_modules/vitest/vitest.mjs'), 'run', ...files];
    const child = spawn(process.execPath, vitest, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.on('data', (chunk) => (output += chunk));
    child.stderr.on('data', (chunk) => (output += chunk));
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) resolve();
      else reject(new Error(`The fence and look tests fail: what this build does fast does not count.\n${output}`));
    });
  });
}
