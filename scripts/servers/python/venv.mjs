import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { cached, needPrograms } from '../programs.mjs';

const run = promisify(execFile);

/**
 * A virtual environment of Python with packages that tests talk to, made once a machine. Everything is pinned, what the packages need
 * too, so pip resolves nothing.
 *
 * @param {string} name of a list of requirements beside this file
 */
export async function pythonWith(name) {
  const [program] = await needPrograms(['python3'], ['python3', 'python3-pip']);
  const list = fileURLToPath(new URL(`${name}.txt`, import.meta.url));
  const base = await describe(program);
  const digest = createHash('sha256')
    .update(await readFile(list))
    // Compiled packages fit one minor version, and the environment is tied to the interpreter it was made by.
    .update([base.path, base.version].join('\n'))
    .digest('hex');
  const folder = await cached(`python-${name}-${digest.slice(0, 12)}`, (draft) => make(program, list, draft));
  return {
    python: join(folder, 'bin', 'python'),
    label: `${name} for Python ${base.version} (${base.path})`,
    env: { PYTHONNOUSERSITE: '1', PYTHONUNBUFFERED: '1', PYTHONPATH: '' },
  };
}

/** What is on PATH may be a wrapper that chooses an interpreter. */
async function describe(program) {
  const script =
    'import sys, platform; print(sys.executable, platform.python_version(), platform.machine(), sep="\\n")';
  const { stdout } = await run(program, ['-c', script]);
  const [path, ...version] = stdout.trim().split('\n');
  return { path, version: version.join(' ') };
}

/** The cache renames the folder. That breaks only the programs that packages bring along, and nobody calls these. */
async function make(program, list, folder) {
  const options = { maxBuffer: 2 ** 26 };
  const quiet = ['--quiet', '--disable-pip-version-check', '--no-warn-conflicts', '--no-warn-script-location'];
  try {
    await run(program, ['-m', 'venv', '--without-pip', folder], options);
    const install = ['-m', 'pip', '--python', join(folder, 'bin', 'python'), 'install', ...quiet];
    await run(program, [...install, '--no-deps', '--only-binary', ':all:', '--requirement', list], options);
  } catch (error) {
    throw new Error(
      `Python's packages could not be installed: ${error.stderr || error.message}. It needs pip (Debian: apt-get install python3-pip) and a package index`,
      { cause: error },
    );
  }
}
