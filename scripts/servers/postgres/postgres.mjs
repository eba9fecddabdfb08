import { execFile } from 'node:child_process';
import { chmod, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { READY_TIMEOUT, startChild } from '../child.mjs';
import { freePorts } from '../free-ports.mjs';
import { ownServer } from '../own-server.mjs';
import { exists } from '../cache.mjs';
import { needTool, onPath } from '../programs.mjs';

const run = promisify(execFile);
/** Debian installs several versions side by side and puts none of them on PATH. */
const DEBIAN = '/usr/lib/postgresql';
/** The server refuses root. The package makes this user. */
const USER = 'postgres';

/** For data that need not survive the machine. */
const NOT_DURABLE = ['-c', 'fsync=off', '-c', 'full_page_writes=off'];
/** Tests open many pools. */
const CONNECTIONS = ['-c', 'max_connections=250'];

/** A PostgreSQL cluster of its own. Dies with this process. */
export async function startPostgres({ port, dir, durable = true, settings = [] } = {}) {
  const folder = await programs();
  const [initdb, postgres] = [join(folder, 'initdb'), join(folder, 'postgres')];
  const own = port ?? (await freePorts(1))[0];
  const server = await ownServer('postgres', dir, async ({ dir: base, temporary }) => {
    const data = join(base, 'data');
    if (!(await exists(data))) {
      await giveAway(base);
      const [command, ...args] = asUser([initdb, '-D', data, '-U', USER, '-A', 'trust', '-E', 'UTF8', '--no-locale']);
      await run(command, args, { cwd: '/' });
    }
    const sockets = ['-c', 'unix_socket_directories='];
    const more = [
      ...sockets,
      ...CONNECTIONS,
      ...(durable ? [] : NOT_DURABLE),
      ...settings.flatMap((each) => ['-c', each]),
    ];
    const [command, ...args] = asUser([postgres, '-D', data, '-p', String(own), '-h', '127.0.0.1', ...more]);
    const start = () => startChild(command, args, { ready: /ready to accept connections/, temporary });
    return gentle(await startWhenFree(start));
  });
  return Object.defineProperties(server, {
    url: { value: `postgres://${USER}@127.0.0.1:${own}/postgres`, enumerable: true },
    port: { value: own, enumerable: true },
    label: { value: `PostgreSQL (${postgres})`, enumerable: true },
  });
}

async function programs() {
  const found = (await onPath('postgres')) ?? (await debians());
  if (found) return found.replace(/\/postgres$/, '');
  // What is needed is not on PATH after the installation either; that is no failure as long as it is where Debian puts it.
  const [program] = await needTool('postgres', 'PostgreSQL').catch(async (error) => {
    const installed = await debians();
    if (installed) return [installed];
    throw error;
  });
  return program.replace(/\/postgres$/, '');
}

/** The newest version. */
async function debians() {
  const versions = await readdir(DEBIAN).catch(() => []);
  for (const version of versions.toSorted((a, b) => Number(b) - Number(a))) {
    const program = join(DEBIAN, version, 'bin', 'postgres');
    if (await exists(program)) return program;
  }
  return undefined;
}

const isRoot = () => process.getuid?.() === 0;

/** `setpriv` becomes the program, so its process id is the server's. */
const asUser = (command) =>
  isRoot() ? ['setpriv', `--reuid=${USER}`, `--regid=${USER}`, '--clear-groups', ...command] : command;

async function giveAway(folder) {
  if (!isRoot()) return;
  await run('chown', [USER, folder]);
  await chmod(folder, 0o700);
}

/** What a server says that finds processes of the one before. */
const STILL_THERE = /pre-existing shared memory block|lock file "postmaster\.pid" already exists/;

/**
 * Processes of a server that was killed end a moment later, on a busy machine much later, and no other server starts on its data until
 * then. See postgres.d.mts.
 */
export async function startWhenFree(start) {
  const deadline = performance.now() + READY_TIMEOUT;
  for (;;) {
    try {
      return await start();
    } catch (error) {
      if (!STILL_THERE.test(error.message) || performance.now() > deadline) throw error;
    }
  }
}

/** SIGTERM waits for the clients to go; SIGINT does not. */
function gentle(child) {
  return { ...child, kill: (signal) => child.kill(signal === 'SIGTERM' ? 'SIGINT' : signal) };
}
