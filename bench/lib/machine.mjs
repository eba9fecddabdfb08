import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { cpus, loadavg, release, totalmem, type } from 'node:os';
import { dirname, join } from 'node:path';

const require = createRequire(import.meta.url);

/** What the figures were measured on. */
export function machine() {
  const [cpu] = cpus();
  return {
    cpu: `${cpus().length} × ${cpu?.model.trim() ?? 'unknown'}`,
    memory: `${(totalmem() / 2 ** 30).toFixed(0)} GB`,
    system: `${type()} ${release()}`,
    node: process.version,
    /** How busy it was with other things. */
    load: loadavg()[0].toFixed(1),
  };
}

/** @param {Iterable<string>} packages */
export async function versions(packages) {
  const found = {};
  for (const name of [...new Set(packages)].sort()) found[name] = await versionOf(name);
  return found;
}

/** Its exports may hide package.json. */
async function versionOf(name) {
  for (let folder = dirname(resolve(name)); folder !== dirname(folder); folder = dirname(folder)) {
    const manifest = await readFile(join(folder, 'package.json'), 'utf8').then(JSON.parse, () => undefined);
    if (manifest?.name === name) return manifest.version;
  }
  return 'unknown';
}

function resolve(name) {
  try {
    return require.resolve(name);
  } catch {
    // ESM only.
    return new URL(import.meta.resolve(name)).pathname;
  }
}
