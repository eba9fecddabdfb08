import { chmod, mkdir, readFile, realpath, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { startChild } from '../../scripts/servers/child.mjs';
import { javaProgram } from '../../scripts/servers/java.mjs';
import { missingServer } from '../../scripts/servers/missing.mjs';
import { startWhenFree } from '../../scripts/servers/postgres/postgres.mjs';
import { needTool } from '../../scripts/servers/programs.mjs';
import { howToGet, TOOLS } from '../../scripts/servers/tools.mjs';
import { succeed, temporaryFolder } from '../support/workspace.js';

describe('a server for tests', () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  let bin: string;

  beforeEach(async () => {
    folder = await temporaryFolder();
    bin = join(folder.path, 'bin');
    await mkdir(bin);
    vi.stubEnv('PATH', `${bin}:/bin`);
    vi.stubEnv('XDG_CACHE_HOME', join(folder.path, 'cache'));
    vi.stubEnv('MINIBATCH_ATTEMPTS', folder.path);
    vi.spyOn(console, 'log').mockReturnValue(undefined);
  });

  afterEach(async () => {
    vi.unstubAllEnvs();
    vi.restoreAllMocks();
    await folder.dispose();
  });

  async function program(name: string, ...lines: readonly string[]): Promise<string> {
    const path = join(bin, name);
    await writeFile(path, ['#!/bin/sh', ...lines, ''].join('\n'));
    await chmod(path, 0o755);
    return path;
  }

  const calls = async () => (await readFile(join(folder.path, 'calls'), 'utf8')).trimEnd().split('\n');

  it('is what is on PATH', async () => {
    const found = [await program('postgres'), await program('initdb')];
    expect(await needTool('postgres', 'PostgreSQL', { platform: 'linux', isRoot: false })).toEqual(found);
  });

  it('is installed by root from packages of Debian, and no service is started', async () => {
    const copy = `printf '#!/bin/sh\\n' > ${bin}/postgres; chmod 755 ${bin}/postgres; cp ${bin}/postgres ${bin}/initdb`;
    await program('apt-get', `echo "$RUNLEVEL $*" >> ${folder.path}/calls`, `case "$*" in *install*) ${copy};; esac`);
    const found = await needTool('postgres', 'PostgreSQL', { platform: 'linux', isRoot: true });
    expect(found).toEqual([join(bin, 'postgres'), join(bin, 'initdb')]);
    expect(console.log).toHaveBeenCalledExactlyOnceWith('  Installing postgresql by apt-get');
    expect(await calls()).toEqual([
      expect.stringMatching(/^1 .* update$/),
      expect.stringMatching(/^1 .* install -y --no-install-recommends postgresql$/),
    ]);
  });

  it('is unpacked into the cache for anybody else, and runs with the libraries that came with it', async () => {
    const simulation = 'Inst libpq5 (15.1 Debian)\\nInst libc6 [2.36] (2.37 Debian)\\nInst postgresql (15 Debian)\\n';
    await program(
      'apt-get',
      `echo "$*" >> ${folder.path}/calls`,
      `case "$*" in *-s*) printf '${simulation}';; *download*) echo > postgresql.deb;; esac`,
    );
    const folders = '"$3/usr/lib/postgresql/15/bin" "$3/usr/lib/x86_64-linux-gnu" "$3/etc/pg"';
    const script = "printf '#!/bin/sh\\necho $LD_LIBRARY_PATH\\n'";
    await program(
      'dpkg',
      `mkdir -p ${folders}; cd "$3/usr/lib/postgresql/15/bin"`,
      `${script} > postgres; cp postgres initdb; chmod 755 *; ln -s /etc/pg ../conf`,
    );
    const [postgres = ''] = await needTool('postgres', 'PostgreSQL', { platform: 'linux', isRoot: false });
    expect(postgres).toMatch(new RegExp(`^${folder.path}/cache/nestjs-minibatch/debian-postgres-\\w+/bin/postgres$`));
    const root = join(dirname(dirname(postgres)), 'root');
    expect(await succeed(postgres, [], { env: { LD_LIBRARY_PATH: undefined } })).toBe(
      `${root}/usr/lib/x86_64-linux-gnu\n`,
    );
    expect(await realpath(join(root, 'usr/lib/postgresql/15/conf'))).toBe(join(root, 'etc/pg'));
    expect((await calls()).at(-1)).toMatch(/ download libpq5 postgresql$/);
    // Once a machine.
    const before = await calls();
    expect(await needTool('postgres', 'PostgreSQL', { platform: 'linux', isRoot: false })).toContain(postgres);
    expect(await calls()).toEqual(before);
  });

  it('that cannot be installed is missing, is not tried again in the run, and keeps what was said', async () => {
    await program('apt-get', `echo "$*" >> ${folder.path}/calls`, 'echo "no such package" >&2; exit 100');
    const ask = () => needTool('postgres', 'PostgreSQL', { platform: 'linux', isRoot: true });
    const error: unknown = await ask().catch((thrown: unknown) => thrown);
    expect(missingServer(error)).toEqual({ server: 'PostgreSQL', how: 'apt-get install postgresql' });
    expect(error).toMatchObject({ cause: { message: expect.stringContaining('no such package') as unknown } });
    const before = await calls();
    await expect(ask()).rejects.toMatchObject({
      cause: { message: expect.stringContaining('no such package') as unknown },
    });
    expect(await calls()).toEqual(before);
  });

  it('of Java keeps its jars below HOME, also for a user without a home folder in the user database', async () => {
    vi.stubEnv('HOME', join(folder.path, 'a home'));
    const java = await program('java');
    await program('mvn', `printf '%s\\n' "$@" >> ${folder.path}/calls`);
    const found = await javaProgram({ server: 'Kafka', name: 'jars', pom: 'pom.xml' });
    expect(found).toEqual({ java, folder: join(folder.path, 'cache/nestjs-minibatch/jars') });
    expect(await calls()).toContain(`-Dmaven.repo.local=${join(folder.path, 'a home/.m2/repository')}`);
  });

  it.each([
    { platform: 'darwin', how: 'brew install postgresql@15' },
    { platform: 'win32', how: 'tests start it in WSL only (winget install Debian.Debian)' },
  ] as const)('is missing on $platform, with how to get it', async ({ platform, how }) => {
    await program('apt-get', 'exit 1');
    const error: unknown = await needTool('postgres', 'PostgreSQL', { platform, isRoot: true }).catch(
      (thrown: unknown) => thrown,
    );
    expect(missingServer(new Error('no database', { cause: error }))).toEqual({ server: 'PostgreSQL', how });
  });

  it('of PostgreSQL starts again once the processes of one that was killed have ended', async () => {
    const refusals = [
      'it ended\nFATAL:  pre-existing shared memory block (key 65, ID 1) is still in use',
      'it ended\nFATAL:  lock file "postmaster.pid" already exists',
    ];
    const start = vi.fn(() => {
      const refusal = refusals.shift();
      return refusal === undefined ? Promise.resolve('ready') : Promise.reject(new Error(refusal));
    });
    expect(await startWhenFree(start)).toBe('ready');
    expect(start).toHaveBeenCalledTimes(3);
    refusals.push('it ended\nFATAL:  could not create any TCP/IP sockets');
    await expect(startWhenFree(start)).rejects.toThrow('TCP/IP sockets');
    expect(start).toHaveBeenCalledTimes(4);
  });

  it('is refused with what it has said, also if that comes after its end', async () => {
    const late = '(while kill -0 $$ 2>/dev/null; do :; done; echo the reason >&2) & exit 1';
    await expect(startChild('/bin/sh', ['-c', late], { ready: /ready/ })).rejects.toThrow('the reason');
  });

  it('has a line on how to get it where there is neither apt nor brew', () => {
    const how = howToGet(TOOLS.redis, { platform: 'linux', hasApt: false });
    expect(how).toBe('put redis-server on PATH');
  });
});
