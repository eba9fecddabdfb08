import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { cached, needPrograms } from '../programs.mjs';

const run = promisify(execFile);

/**
 * Python with packages that tests talk to, installed once a machine.
 *
 * A folder of packages that PYTHONPATH names, and no venv: that one has its own path in its files, and the cache gives a folder
 * its name only when it is whole. Everything is pinned, what the packages need too; so pip resolves nothing.
 *
 * @param {string} name of a list of requirements beside this file
 */
export async function pythonWith(name) {
  const [program] = await needPrograms(['python3'], ['python3', 'python3-pip']);
  const list = fileURLToPath(new URL(`${name}.txt`, import.meta.url));
  const { python, version } = await interpreter(program);
  const digest = createHash('sha256')
    .update(await readFile(list))
    .update(version)
    .digest('hex');
  const folder = await cached(`python-${name}-${digest.slice(0, 12)}`, (draft) => install(python, list, draft));
  return {
    python,
    label: `${name} for Python ${version} (${python})`,
    // Nothing that lies in the user's own folders counts.
    env: { PYTHONPATH: folder, PYTHONNOUSERSITE: '1', PYTHONUNBUFFERED: '1', PYTHONDONTWRITEBYTECODE: '1' },
  };
}

/** Compiled packages fit one minor version only. What is on PATH may be a wrapper; who is to be killed is the interpreter itself. */
async function interpreter(program) {
  const script =
    'import sys, platform; print(sys.executable, "%d.%d" % sys.version_info[:2], platform.machine(), sep="\\n")';
  const { stdout } = await run(program, ['-c', script]);
  const [python, ...version] = stdout.trim().split('\n');
  return { python, version: version.join(' ') };
}

async function install(python, list, folder) {
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-deps', '--no-warn-conflicts'];
  try {
    await run(python, [...pip, '--target', folder, '--requirement', list], { maxBuffer: 2 ** 26 });
  } catch (error) {
    throw new Error(
      `Python's packages could not be installed: ${error.stderr || error.message}. It needs pip (Debian: apt-get install python3-pip) and a package index`,
      { cause: error },
    );
  }
}
