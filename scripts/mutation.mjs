// `npm run test:mutation`: StrykerJS, which has a manifest of its own in tools/mutation, so that `npm ci` does not pay for it.
// It is installed on first use, and anew when its lock file has changed. Arguments go to Stryker:
//
//   npm run test:mutation                                                        all of it, for hours
//   npm run test:mutation -- --mutate libs/minibatch/src/windows/count.window.ts  one file; several are joined by commas
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../', import.meta.url));
const FOLDER = join(ROOT, 'tools/mutation');

/** @param {string} command @param {readonly string[]} args @param {string} cwd @returns {number} */
function run(command, args, cwd) {
  const { status, error } = spawnSync(command, args, { cwd, stdio: 'inherit' });
  if (error) console.error(`${command} could not be started: ${error.message}`);
  return status ?? 1;
}

/** @param {string} path @returns {Record<string, { version: string } | undefined>} */
function versions(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8')).packages;
  } catch {
    return {};
  }
}

function isInstalled() {
  const wanted = versions(join(FOLDER, 'package-lock.json'));
  const found = versions(join(FOLDER, 'node_modules/.package-lock.json'));
  return Object.entries(wanted).every(
    ([name, entry]) => name === '' || entry?.optional || found[name]?.version === entry?.version,
  );
}

if (!isInstalled()) process.exitCode = run('npm', ['ci'], FOLDER);
if (!process.exitCode) {
  const stryker = join(FOLDER, 'node_modules/@stryker-mutator/core/bin/stryker.js');
  const config = join(FOLDER, 'stryker.config.json');
  process.exitCode = run(process.execPath, [stryker, 'run', config, ...process.argv.slice(2)], ROOT);
}
