import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { cached } from '../cache.mjs';
import { MissingServerError, tryOnce } from '../missing.mjs';
import { needTool, onPath } from '../programs.mjs';

const run = promisify(execFile);
const OPTIONS = { maxBuffer: 2 ** 26 };

/** Each list of requirements, for people. */
const SERVERS = {
  bullmq: 'BullMQ for Python',
  celery: 'Celery',
  minibatch: 'minibatch for Python',
  omegaml: 'omega|ml',
  secantusdb: 'MongoDB as a replica set',
};
/** What the requirements have been tried with comes first. */
const INTERPRETERS = ['python3', '/usr/bin/python3', 'python3.11', 'python3.12', 'python3.13'];

/**
 * A virtual environment of Python with packages that tests talk to, made once a machine. Everything is pinned, what the packages need
 * too, so pip resolves nothing.
 *
 * @param {keyof typeof SERVERS} name of a list of requirements next to this file
 */
export async function pythonWith(name) {
  const server = SERVERS[name];
  const list = fileURLToPath(new URL(`${name}.txt`, import.meta.url));
  const requirements = await readFile(list);
  let failure = new Error('no Python runs');
  for await (const base of interpreters(server)) {
    const digest = createHash('sha256')
      .update(requirements)
      // Compiled packages fit one minor version, and the environment is tied to the interpreter it was made by.
      .update([base.path, base.version].join('\n'))
      .digest('hex');
    const key = `python-${name}-${digest.slice(0, 12)}`;
    try {
      const folder = await tryOnce(key, () => cached(key, (draft) => make({ base, list, folder: draft, server })));
      return {
        python: join(folder, 'bin', 'python'),
        label: `${name} for Python ${base.version} (${base.path})`,
        env: { PYTHONNOUSERSITE: '1', PYTHONUNBUFFERED: '1', PYTHONPATH: '' },
      };
    } catch (error) {
      failure = error;
    }
  }
  throw new MissingServerError(server, 'it needs Python 3.11 with pip, and a package index', { cause: failure });
}

/** Every Python of this machine that works, the first on PATH first. What is on PATH may be a wrapper that finds no interpreter. */
async function* interpreters(server) {
  const seen = new Set();
  for (const name of INTERPRETERS) {
    const program = await onPath(name);
    const base = program && (await describe(program));
    if (!base || seen.has(base.path)) continue;
    seen.add(base.path);
    yield base;
  }
  if (seen.size > 0) return;
  const [program] = await needTool('python', server);
  const base = await describe(program);
  if (base) yield base;
}

async function describe(program) {
  const script =
    'import sys, platform; print(sys.executable, platform.python_version(), platform.machine(), sep="\\n")';
  try {
    const { stdout } = await run(program, ['-c', script]);
    const [path, ...version] = stdout.trim().split('\n');
    return { program, path, version: version.join(' ') };
  } catch {
    return undefined;
  }
}

/** The cache renames the folder. That breaks only the programs that packages bring along, and nobody calls these. */
async function make({ base: { program }, list, folder, server }) {
  const quiet = ['--quiet', '--disable-pip-version-check', '--no-warn-conflicts', '--no-warn-script-location'];
  const env = await withPip(program, server);
  try {
    await run(program, ['-m', 'venv', '--without-pip', folder], OPTIONS);
    const install = ['-m', 'pip', '--python', join(folder, 'bin', 'python'), 'install', ...quiet];
    const from = ['--no-deps', '--only-binary', ':all:', '--requirement', list];
    await run(program, [...install, ...from], { ...OPTIONS, env });
  } catch (error) {
    throw new Error(`Python's packages could not be installed: ${error.stderr || error.message}`, { cause: error });
  }
}

/** The environment in which the interpreter has pip. Debian has it in a package of its own. */
async function withPip(program, server) {
  const has = (env) =>
    run(program, ['-m', 'pip', '--version'], { env }).then(
      () => true,
      () => false,
    );
  if (await has(process.env)) return process.env;
  const [pip] = await needTool('pip', server);
  const env = { ...process.env, PYTHONPATH: join(dirname(pip), '../root/usr/lib/python3/dist-packages') };
  return (await has(env)) ? env : process.env;
}
