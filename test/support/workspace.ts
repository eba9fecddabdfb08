import { spawn } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, realpath, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** A path of the repository as an absolute one. */
export function repository(...path: readonly string[]): string {
  return join(ROOT, ...path);
}

/** A program of the workspace's node_modules. */
export function tool(name: string): string {
  return repository('node_modules/.bin', name);
}

export interface RunOptions {
  /** @default the repository's root */
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
}

export interface Finished {
  /** 0 for success; -1 if a signal ended the program. */
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end, whatever that is. It is not told that a test started it. */
export async function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  const env = Object.entries({ ...process.env, ...options.env }).filter(
    ([name]) => !/^(VITEST|NODE_ENV$|TEST$)/.test(name),
  );
  return await new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: options.cwd ?? ROOT,
      env: Object.fromEntries(env),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.on('error', reject);
    child.on('close', (code) => resolve({ exitCode: code ?? -1, stdout, stderr }));
  });
}

/** Runs a program that must succeed; resolves with what it printed on stdout. */
export async function succeed(command: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const { exitCode, stdout, stderr } = await run(command, args, options);
  if (exitCode === 0) return stdout;
  throw new Error(`${command} ${args.join(' ')} ended with ${exitCode}:\n${stdout}\n${stderr}`);
}

/** An empty folder outside the repository; removed by `dispose`. */
export async function temporaryFolder(): Promise<{ readonly path: string; dispose(): Promise<void> }> {
  const path = await realpath(await mkdtemp(join(tmpdir(), 'minibatch-test-')));
  return { path, dispose: () => rm(path, { recursive: true, force: true }) };
}

/** Copies the workspace's packages as they are in the repository, without what is built or installed. */
export async function copyWorkspace(target: string, folders: readonly string[]): Promise<void> {
  for (const folder of folders) {
    await cp(repository(folder), join(target, folder), {
      recursive: true,
      filter: (source) => !/(^|\/)(node_modules|dist|\.data)$/.test(source.slice(ROOT.length)),
    });
  }
}

/**
 * Gives the copy of the workspace what is installed in the repository, by links; except the workspace's own packages,
 * which are the copy's.
 */
export async function linkDependencies(target: string, own: Readonly<Record<string, string>> = {}): Promise<void> {
  const modules = join(target, 'node_modules');
  await mkdir(modules, { recursive: true });
  for (const name of await readdir(repository('node_modules'))) {
    // Caches of the tools are not shared.
    if (name.startsWith('.') && name !== '.bin') continue;
    const folder = own[name];
    const source = folder === undefined ? repository('node_modules', name) : join(target, folder);
    await symlink(source, join(modules, name));
  }
}
