// Installs Debian's packages for the tests: into the system as root, into the cache as anybody else.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmod, lstat, mkdir, readdir, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { cached, cacheFolder, exists } from './cache.mjs';

const run = promisify(execFile);
const BUFFER = { maxBuffer: 2 ** 26 };
const TRUST_STORE = fileURLToPath(new URL('TrustStore.java', import.meta.url));
const CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt';

/** Where packages keep programs that tests start; the first that exists counts. `*` stands for one folder. */
const PLACES = ['usr/sbin', 'usr/bin', 'usr/lib/jvm/*/bin', 'usr/share/maven/bin', 'usr/lib/postgresql/*/bin'];

/**
 * Installs packages as root. Services that they bring are not started.
 *
 * @param {string} apt the path of apt-get
 * @param {readonly string[]} packages
 */
export async function installAsRoot(apt, packages) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  // Another process may be installing too.
  const call = (args) => run(apt, ['-q', '-o', 'DPkg::Lock::Timeout=300', ...args], { ...BUFFER, env, cwd: '/' });
  await call(['update']).catch(() => {}); // what is cached may be enough
  await call(['install', '-y', '--no-install-recommends', ...packages]);
}

/**
 * Unpacks packages into the cache, with the libraries that the system lacks: needs no root and changes nothing else.
 *
 * @param {string} apt the path of apt-get
 * @param {string} name of the tool
 * @param {readonly string[]} packages
 * @returns {Promise<string>} a folder with a script for each program, which starts it with its libraries
 */
export async function unpack(apt, name, packages) {
  return join(await cached(folderOf(name, packages), (folder) => fill(apt, folder, packages)), 'bin');
}

/** The folder that `unpack()` has made; undefined if it has not yet. */
export async function unpacked(name, packages) {
  const folder = join(await cacheFolder(), folderOf(name, packages), 'bin');
  return (await exists(folder)) ? folder : undefined;
}

function folderOf(name, packages) {
  const digest = createHash('sha256')
    .update([process.arch, ...packages].join('\n'))
    .digest('hex');
  return `debian-${name}-${digest.slice(0, 12)}`;
}

async function fill(apt, folder, packages) {
  const [state, root] = [join(folder, 'apt'), join(folder, 'root')];
  for (const path of ['lists/partial', 'cache/archives/partial', 'debs']) {
    await mkdir(join(state, path), { recursive: true });
  }
  await mkdir(root);
  const own = [`Dir::State::Lists=${state}/lists`, `Dir::Cache=${state}/cache`, 'Debug::NoLocking=1'];
  const options = [...own, 'APT::Sandbox::User=root'].flatMap((option) => ['-o', option]);
  const call = (args) => run(apt, ['-q', ...options, ...args], { ...BUFFER, cwd: join(state, 'debs') });
  await call(['update']);
  const { stdout } = await call(['-s', 'install', '--no-install-recommends', ...packages]);
  await call(['download', ...newPackages(stdout)]);
  for (const file of await readdir(join(state, 'debs'))) {
    await run('dpkg', ['-x', join(state, 'debs', file), root], BUFFER);
  }
  await rm(state, { recursive: true });
  await keepLinksInside(root, root);
  await makeTrustStore(folder);
  await writeScripts(folder);
}

/** What apt would install; not what it would upgrade, for that is here. @param {string} simulation of `apt-get -s install` */
function newPackages(simulation) {
  return [...simulation.matchAll(/^Inst (\S+) \(/gm)].map(([, name]) => name);
}

/** Packages link to absolute paths, `/etc/maven` for one, that are now below the root. */
async function keepLinksInside(root, folder) {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) await keepLinksInside(root, path);
    if (!entry.isSymbolicLink()) continue;
    const target = await readlink(path);
    if (!target.startsWith('/') || !(await lstat(join(root, target)).catch(() => undefined))) continue;
    await rm(path);
    await symlink(relative(dirname(path), join(root, target)), path);
  }
}

async function matching(root, pattern) {
  const [before, after] = pattern.split('*');
  if (after === undefined) return (await exists(join(root, pattern))) ? [join(root, pattern)] : [];
  const names = await readdir(join(root, before)).catch(() => []);
  const paths = names.map((name) => join(root, before, name + after));
  const there = await Promise.all(paths.map(exists));
  return paths.filter((_, index) => there[index]);
}

/** Java's trusted certificates are made by a package's installation, which does not run here. */
async function makeTrustStore(folder) {
  const [java] = await matching(join(folder, 'root'), 'usr/lib/jvm/*/bin/java');
  if (!java || !(await exists(CERTIFICATES))) return;
  const env = { ...process.env, LD_LIBRARY_PATH: (await libraries(join(folder, 'root'))).join(':') };
  await run(java, [TRUST_STORE, CERTIFICATES, join(folder, 'root', 'trust-store')], { ...BUFFER, env });
}

async function libraries(root) {
  const folders = ['usr/lib', 'lib'].map((path) => join(root, path));
  const found = await Promise.all(
    folders.map(async (path) => (await readdir(path).catch(() => [])).map((name) => join(path, name))),
  );
  return found.flat().filter((path) => /-linux-gnu\w*$/.test(path));
}

/** The cache renames the folder, so the scripts find everything from where they are. */
async function writeScripts(folder) {
  const root = join(folder, 'root');
  const bin = join(folder, 'bin');
  await mkdir(bin);
  const below = (path) => `$here/${relative(root, path)}`;
  const paths = (await libraries(root)).map(below).join(':');
  for (const place of PLACES) {
    for (const from of await matching(root, place)) {
      for (const program of await readdir(from).catch(() => [])) {
        const script = join(bin, program);
        if (await exists(script)) continue;
        const lines = [
          '#!/bin/sh',
          'here=$(cd "$(dirname "$0")/../root" && pwd)',
          `export LD_LIBRARY_PATH="${paths}\${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"`,
          ...(await settings(root, program)),
          `exec ${program === 'erl' ? '"$BINDIR/erlexec"' : `"${below(join(from, program))}"`} ${program === 'java' ? '$trust ' : ''}"$@"`,
        ];
        await writeFile(script, `${lines.join('\n')}\n`);
        await chmod(script, 0o755);
      }
    }
  }
}

/** What a program must be told of where it is. */
async function settings(root, program) {
  if (program === 'erl') {
    // Its own script has the folder of an installation written into it.
    const erlang = 'export ROOTDIR="$here/usr/lib/erlang" EMU=beam PROGNAME=erl';
    return [erlang, 'BINDIR=$(echo "$ROOTDIR"/erts-*/bin)', 'export BINDIR'];
  }
  // With the Java next to it, which knows its trusted certificates.
  if (program === 'mvn') return ['unset JAVA_HOME', 'export PATH="$here/../bin:$PATH"'];
  if (program === 'pip3') return ['export PYTHONPATH="$here/usr/lib/python3/dist-packages"'];
  const hasTrust = program === 'java' && (await exists(join(root, 'trust-store')));
  if (program === 'java') return [hasTrust ? 'trust="-Djavax.net.ssl.trustStore=$here/trust-store"' : 'trust='];
  return [];
}
