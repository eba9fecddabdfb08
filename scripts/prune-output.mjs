// Before a build: removes compiled files whose sources have gone. `tsc -b` leaves them in dist, and they would be packed.
import { existsSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { argv } from 'node:process';
import { pathToFileURL } from 'node:url';

const OUTPUT = /\.(?:d\.ts|js)(?:\.map)?$/;

/**
 * @param {string} output folder of compiled files @param {string} sources folder of their sources
 * @returns {string[]} the files that were removed
 */
export function pruneOutput(output, sources) {
  if (!existsSync(output)) return [];
  const removed = [];
  for (const entry of readdirSync(output, { withFileTypes: true })) {
    const path = join(output, entry.name);
    if (entry.isDirectory()) {
      removed.push(...pruneOutput(path, join(sources, entry.name)));
      if (readdirSync(path).length === 0) rmdirSync(path);
    } else if (OUTPUT.test(entry.name) && !existsSync(join(sources, entry.name.replace(OUTPUT, '.ts')))) {
      rmSync(path);
      removed.push(path);
    }
  }
  return removed;
}

if (argv[1] !== undefined && import.meta.url === pathToFileURL(argv[1]).href) {
  for (const folder of ['libs/minibatch', 'apps/example']) pruneOutput(join(folder, 'dist'), join(folder, 'src'));
}
