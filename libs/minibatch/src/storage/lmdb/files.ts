import {
  accessSync,
  closeSync,
  constants,
  mkdirSync,
  openSync,
  readSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { ErrorCode, MinibatchError, messageOf } from '../../errors/minibatch.error.js';

/**
 * All that LMDB may find wrong with the path is looked for before it sees it: an open that fails inside lmdb-js frees memory
 * twice, which as a rule ends the process without a word.
 */

const DATA = 'data.mdb';
const LOCK = 'lock.mdb';
/** Where LMDB's data format 2 has its mark, and what it is; in the host's byte order. */
const MAGIC_AT = 24;
const MAGIC = 0xbeefc0de;
const FORMAT = 2;
/** Two pages; pages have at least 4 KiB. */
const SMALLEST_FILE = 8192;

/** Makes the directory if it is not there. Gives its real path. @throws MinibatchError `StorePath` */
export function prepareDirectory(path: string): string {
  const absolute = resolve(path);
  try {
    ensureDirectory(absolute);
    accessSync(absolute, constants.R_OK | constants.W_OK | constants.X_OK);
    const lock = join(absolute, LOCK);
    // Not by opening it: closing it again would give up the locks this process may have on it.
    if (fileSize(lock) !== undefined) accessSync(lock, constants.R_OK | constants.W_OK);
    const data = join(absolute, DATA);
    if (fileSize(data)) checkFormat(data);
    else probe(absolute);
    return realpathSync(absolute);
  } catch (error) {
    throw unusable(absolute, error);
  }
}

export function unusable(path: string, cause: unknown): MinibatchError {
  return new MinibatchError(
    ErrorCode.StorePath,
    `The LMDB store can't use '${path}': ${messageOf(cause)}. ` +
      'Give a directory on a local disk with room on it that this process may create and write to',
    { cause, details: { path } },
  );
}

/** Not `mkdir` with `recursive`: Node 20 never ends where a directory can't be made in one that is there, as in /proc. */
function ensureDirectory(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return;
  const parent = dirname(path);
  if (parent !== path) ensureDirectory(parent);
  try {
    mkdirSync(path);
  } catch (error) {
    // Another process was faster.
    if (!statSync(path, { throwIfNoEntry: false })?.isDirectory()) throw error;
  }
}

/** Undefined if there is none. */
function fileSize(path: string): number | undefined {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined || stat.isFile()) return stat?.size;
  throw new Error(`${path} is not a file`);
}

function checkFormat(path: string): void {
  const header = new Uint32Array((MAGIC_AT + 8) / 4);
  const file = openSync(path, 'r+');
  try {
    readSync(file, header, 0, header.byteLength, 0);
  } finally {
    closeSync(file);
  }
  const [magic, format] = header.subarray(MAGIC_AT / 4);
  if (magic === MAGIC && format === FORMAT && (fileSize(path) ?? 0) >= SMALLEST_FILE) return;
  throw new Error(`${path} is not an LMDB database, or of another format than this version of lmdb writes`);
}

/** A new database needs room for its first pages. */
function probe(directory: string): void {
  const path = join(directory, `.probe-${process.pid}-${Math.random().toString(36).slice(2)}`);
  try {
    writeFileSync(path, Buffer.alloc(64 * 1024));
  } finally {
    rmSync(path, { force: true });
  }
}
