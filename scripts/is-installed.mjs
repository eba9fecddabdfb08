import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** @param {string} path @returns {Record<string, { version: string } | undefined>} */
function versions(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8')).packages;
  } catch {
    return {};
  }
}

/**
 * Are the packages of a folder with its own manifest there, as its lock file says?
 *
 * @param {string} folder @returns {boolean}
 */
export function isInstalled(folder) {
  const wanted = versions(join(folder, 'package-lock.json'));
  const found = versions(join(folder, 'node_modules/.package-lock.json'));
  return Object.entries(wanted).every(
    ([name, entry]) => name === '' || entry?.optional || found[name]?.version === entry?.version,
  );
}
