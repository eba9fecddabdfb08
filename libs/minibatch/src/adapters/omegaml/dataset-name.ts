import { createHash } from 'node:crypto';
import { checkName, invalidOption } from '../../common/checks.js';

/** The store of `om.datasets`. */
export const PREFIX = 'data/';

/** What Python takes for a part of the name that is none: columns, versions, operations, calls. */
const READ_BY_PYTHON = /\[.*\]|[#@]|\{.*\}/;

/** @throws MinibatchError `InvalidOptions` */
export function checkDatasetName(where: string, given: unknown): string {
  const name = checkName(where, 'dataset', given);
  if (!READ_BY_PYTHON.test(name)) return name;
  throw invalidOption(where, 'dataset', name, 'a name without [ ], { }, # and @, which Python reads in its own way');
}

/**
 * The collection of a new dataset. An existing one has its collection in its metadata, which is not always this.
 *
 * @param hashed as Python's `OMEGA_STORE_HASHEDNAMES`
 */
export function collectionOf(bucket: string, name: string, hashed: boolean): string {
  const full = name.endsWith('.datastore') ? name : `${name}..datastore`;
  // Each in one pass, from left to right: of three dots two are left.
  const key = `${bucket}.${PREFIX}.${full}`.replaceAll('/', '_').replaceAll('..', '.');
  return hashed ? createHash('sha1').update(key).digest('hex') : key.replaceAll('..', '.');
}
