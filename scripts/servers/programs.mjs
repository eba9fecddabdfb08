import { access, constants } from 'node:fs/promises';
import { delimiter, isAbsolute, join } from 'node:path';
import { installAsRoot, unpack, unpacked } from './debian.mjs';
import { MissingServerError, tryOnce } from './missing.mjs';
import { howToGet, TOOLS } from './tools.mjs';

/** Debian puts servers where only root's PATH looks. */
const SYSTEM_FOLDERS = ['/usr/sbin', '/usr/local/sbin'];

/** The path of a program that is there, or undefined. */
export async function onPath(program) {
  if (isAbsolute(program)) return (await isProgram(program)) ? program : undefined;
  const folders = (process.env.PATH ?? '').split(delimiter).filter((folder) => folder !== '');
  for (const folder of [...folders, ...SYSTEM_FOLDERS]) {
    const path = join(folder, program);
    if (await isProgram(path)) return path;
  }
  return undefined;
}

function isProgram(path) {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}

/** Installations of this process, one after the other: the package manager has one lock. */
let installing = Promise.resolve();

/** This machine, as far as it matters for what can be installed. */
const HERE = { platform: process.platform, isRoot: process.getuid?.() === 0 };

/**
 * The paths of a tool's programs. What is missing comes from Debian's packages where that needs no question: as root into the
 * system, as anybody else into the cache. Elsewhere the error says how to get it.
 *
 * @param {keyof typeof TOOLS} name
 * @param {string} server what it is wanted for
 * @returns {Promise<string[]>} in the order of the tool's programs
 */
export async function needTool(name, server, { platform, isRoot } = HERE) {
  const tool = TOOLS[name];
  const apt = platform === 'linux' ? await onPath('apt-get') : undefined;
  const missing = (options) =>
    new MissingServerError(server, howToGet(tool, { platform, hasApt: apt !== undefined }), options);
  // What starts and stops servers uses a shell.
  if (platform === 'win32') throw missing();
  const here = await find(name, tool);
  if (!here.includes(undefined)) return here;
  if (!apt) throw missing();
  const install = () => tryOnce(`apt-${name}`, () => (isRoot ? intoSystem(apt, tool) : intoCache(apt, name, tool)));
  installing = installing.catch(() => {}).then(install);
  await installing.catch((error) => {
    throw missing({ cause: error });
  });
  const installed = await find(name, tool);
  if (installed.includes(undefined)) throw missing();
  return installed;
}

/** Each of its programs: on PATH, else unpacked into the cache. */
async function find(name, { programs, debian }) {
  const folder = await unpacked(name, debian);
  return Promise.all(
    programs.map(async (program) => (await onPath(program)) ?? (folder && (await onPath(join(folder, program))))),
  );
}

async function intoSystem(apt, { debian }) {
  console.log(`  Installing ${debian.join(' ')} by apt-get`);
  await installAsRoot(apt, debian);
}

async function intoCache(apt, name, { debian }) {
  console.log(`  Fetching ${debian.join(' ')} by apt-get into the cache of this user; the system stays as it is`);
  await unpack(apt, name, debian);
}
