import { execFile } from 'node:child_process';
import { access, constants, mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Debian puts servers where only root's PATH looks. */
const SYSTEM_FOLDERS = ['/usr/sbin', '/usr/local/sbin'];

/** The path of a program, or undefined. */
export async function onPath(program) {
  for (const folder of [...(process.env.PATH ?? '').split(delimiter), ...SYSTEM_FOLDERS]) {
    const path = join(folder, program);
    const found = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return path;
  }
  return undefined;
}

/** Installations of this process, one after the other: the package manager has one lock. */
let installing = Promise.resolve();

/**
 * The paths of programs that servers and their tools are. What is missing is installed from Debian's packages where that needs no
 * question: by root in CI. Elsewhere the error says what to install.
 *
 * @param {readonly string[]} programs
 * @param {readonly string[]} packages Debian's packages that hold them
 * @returns {Promise<string[]>} in the order of `programs`
 */
export async function needPrograms(programs, packages) {
  const look = async () => Promise.all(programs.map((program) => onPath(program)));
  let found = await look();
  if (found.includes(undefined) && process.env.CI === 'true' && process.getuid?.() === 0 && (await onPath('apt-get'))) {
    installing = installing.catch(() => {}).then(() => install(packages));
    await installing;
    found = await look();
  }
  if (!found.includes(undefined)) return found;
  const missing = programs.filter((_, index) => found[index] === undefined);
  throw new Error(`it needs ${missing.join(' and ')} (Debian: apt-get install ${packages.join(' ')})`);
}

async function install(packages) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  // Another process may be installing too.
  const apt = (args) =>
    run('apt-get', ['-q', '-o', 'DPkg::Lock::Timeout=300', ...args], { env, maxBuffer: 2 ** 26, cwd: '/' });
  await apt(['update']).catch(() => {}); // what is cached may be enough
  await apt(['install', '-y', '--no-install-recommends', ...packages]);
}

/** A folder that outlives the run, for what is made once a machine. */
export async function cacheFolder() {
  for (const base of [process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), tmpdir()]) {
    const folder = join(base, 'nestjs-minibatch');
    const made = await mkdir(folder, { recursive: true }).then(
      () => true,
      () => false,
    );
    if (made) return folder;
  }
  throw new Error('no folder to cache it in can be written');
}

/**
 * A folder of the cache, made once: `make` fills a draft, which takes the folder's place when it is whole. Two processes that
 * make it at the same time make the same.
 *
 * @param {string} name says all that its content depends on
 * @param {(folder: string) => Promise<void>} make
 */
export async function cached(name, make) {
  const root = await cacheFolder();
  const folder = join(root, name);
  if (await exists(folder)) return folder;
  const draft = await mkdtemp(join(root, '.draft-'));
  try {
    await make(draft);
    await rename(draft, folder).catch(async (error) => {
      if (!(await exists(folder))) throw error;
    });
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
  return folder;
}

/** Copies the jars that a pom.xml names. */
export async function mavenJars(pom, folder) {
  const maven = ['-q', '-B', '-f', pom, 'dependency:copy-dependencies', '-DincludeScope=runtime'];
  await run('mvn', [...maven, `-DoutputDirectory=${folder}`], { maxBuffer: 2 ** 26 });
}

/** What Java programs from Maven need. */
export const needJava = () => needPrograms(['java', 'mvn'], ['maven', 'openjdk-17-jre-headless']);

export function exists(path) {
  return access(path).then(
    () => true,
    () => false,
  );
}
