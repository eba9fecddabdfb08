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
import { inspectDataFile } from './data-file.js';

/**
 * All that LMDB may find wrong with the path is looked for before it sees it: an open that fails inside lmdb-js frees memory
 * twice, which as a rule ends the process without a word.
 */

export const DATA = 'data.mdb';
export const LOCK = 'lock.mdb';
/** Number of the last transaction, 8 bytes. */
const LOCK_TRANSACTION_AT = 8;

/**
 * Makes the directory if it is not there. Gives its real path.
 *
 * @param mode of files that are made
 * @param isOpen whether this process has the environment open
 * @throws MinibatchError `StorePath`, `StoreDamaged`
 */
export function prepareDirectory(path: string, mode: number, isOpen: (directory: string) => boolean): string {
  const absolute = resolve(path);
  try {
    ensureDirectory(absolute, searchable(mode));
    accessSync(absolute, constants.R_OK | constants.W_OK | constants.X_OK);
    const directory = realpathSync(absolute);
    const lock = join(absolute, LOCK);
    const data = join(absolute, DATA);
    for (const file of [lock, data])
      if (fileSize(file) !== undefined) accessSync(file, constants.R_OK | constants.W_OK);
    // To close a file gives up all locks that the process has on it, also those of LMDB.
    if (isOpen(directory)) return directory;
    if (fileSize(data)) checkData(data);
    else {
      checkNeverWritten(data, lock);
      probe(absolute);
    }
    return directory;
  } catch (error) {
    throw error instanceof MinibatchError ? error : unusable(absolute, error);
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

/** The permissions of a directory whose files have `mode`: who may read or write them may look into it. */
function searchable(mode: number): number {
  return mode | ((mode & 0o444) >> 2) | ((mode & 0o222) >> 1);
}

/** Not `mkdir` with `recursive`: Node 20 never ends where a directory can't be made in one that is there, as in /proc. */
function ensureDirectory(path: string, mode?: number): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return;
  const parent = dirname(path);
  if (parent !== path) ensureDirectory(parent);
  try {
    mkdirSync(path, mode === undefined ? {} : { mode });
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

function checkData(path: string): void {
  switch (inspectDataFile(path)) {
    case 'sound':
      return;
    case 'foreign':
      throw new Error(`${path} is not an LMDB database, or of another format than this version of lmdb writes`);
    case 'damaged':
      throw damaged(path, 'has been cut off: pages are missing that it refers to');
  }
}

/** A process that dies at its very first step leaves an empty data file, too; but no transaction in the lock file. */
function checkNeverWritten(data: string, lock: string): void {
  if ((fileSize(lock) ?? 0) < LOCK_TRANSACTION_AT + 8) return;
  const bytes = Buffer.alloc(8);
  const file = openSync(lock, 'r');
  try {
    readSync(file, bytes, 0, 8, LOCK_TRANSACTION_AT);
  } finally {
    closeSync(file);
  }
  if (bytes.readBigUInt64LE() > 0n) throw damaged(data, 'is empty, although its lock file says that it was written to');
}

function damaged(path: string, what: string): MinibatchError {
  return new MinibatchError(
    ErrorCode.StoreDamaged,
    `The LMDB store can't use '${path}': it ${what}. Restore its directory from a copy; to start over without its content, ` +
      `delete ${DATA} and ${LOCK} while no process uses them`,
    { details: { path } },
  );
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
