import { ErrorCode, MinibatchError, messageOf } from '../../errors/minibatch.error.js';
import { Activity } from '../../common/activity.js';
import { loadPackage } from '../../common/missing-package.js';
import { Changes } from './changes.js';
import { FileWatch } from './file-watch.js';
import { prepareDirectory, unusable } from './files.js';
import { Presence } from './presence.js';
import { type LmdbDatabase, LmdbView, type ReadView, type WriteView } from './view.js';
import { WriteFailed } from './write-failed.js';

/**
 * The LMDB environments that this process has open, by the real path of their directory: LMDB's locks do not work for an
 * environment that is opened twice, and a second one of lmdb-js hangs when it is opened while the first is inside a
 * transaction. So all stores of a process on one path share it; the last to close it closes it.
 */
const opened = new Map<string, { readonly environment: Promise<Opened>; users: number }>();

interface Opened {
  readonly database: LmdbDatabase;
  readonly files: FileWatch;
  readonly presence: Presence;
  readonly changes: Changes;
}

/** Environments that are being closed: the next one to open the path waits for them. */
const closing = new Map<string, Promise<void>>();

/**
 * An open LMDB environment.
 *
 * Durable: a write resolves when LMDB has synced its transaction to disk. lmdb-js would by default resolve earlier and sync
 * in the background (`overlappingSync`); that is no faster here, and an acknowledged write would not be safe yet.
 *
 * Writes that are made while a transaction is being synced share the next one, each as a nested transaction: one that throws
 * reverts its own changes only.
 */
export class LmdbEnvironment {
  private readonly view: LmdbView;
  private closed = false;
  /** Writes in flight. */
  private readonly writes = new Activity();

  private constructor(
    private readonly path: string,
    private readonly database: LmdbDatabase,
    private readonly files: FileWatch,
    private readonly presence: Presence,
    /** Of all stores of this process on the path. */
    readonly changes: Changes,
  ) {
    this.view = new LmdbView(database, changes);
  }

  /**
   * @throws MinibatchError `MissingPackage` without the package lmdb, `StorePath` if the path can't be used, `StoreDamaged` if the
   *   data file was cut off, `StoreInUse` if a process has it open that can't share it
   */
  static async open(path: string, maxReaders: number, mode: number): Promise<LmdbEnvironment> {
    const lmdb = await loadPackage('The LMDB store', 'lmdb', () => import('lmdb'));
    const directory = prepareDirectory(path, mode, (known) => opened.has(known) || closing.has(known));
    while (closing.has(directory)) await closing.get(directory);
    let shared = opened.get(directory);
    if (shared === undefined) {
      const environment = openDatabase(lmdb, directory, maxReaders, mode);
      // The next caller tries again.
      void environment.catch(() => opened.delete(directory));
      shared = { environment, users: 0 };
      opened.set(directory, shared);
    }
    shared.users += 1;
    const { database, files, presence, changes } = await shared.environment;
    return new LmdbEnvironment(directory, database, files, presence, changes);
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    // lmdb-js lets transactions that have begun run, but takes away what they write with.
    await this.writes.idle();
    const shared = opened.get(this.path);
    if (shared === undefined) return;
    shared.users -= 1;
    if (shared.users > 0) return;
    opened.delete(this.path);
    const closed = this.database.close().finally(() => {
      this.presence.leave();
      closing.delete(this.path);
    });
    closing.set(this.path, closed);
    await closed;
  }

  /** Reads the newest state, in one transaction that is over when this returns. */
  read<R>(query: (view: ReadView) => R): R {
    this.checkOpen();
    this.files.check('no');
    try {
      // lmdb-js keeps a read transaction for the rest of the turn, although another process may have committed in between.
      this.database.resetReadTxn();
      try {
        return query(this.view);
      } finally {
        this.database.resetReadTxn();
      }
    } catch (error) {
      throw this.failure(error);
    }
  }

  /**
   * Runs `change` in a write transaction; resolves when it is on disk. `change` must not await. If it throws, its changes are
   * reverted.
   *
   * @throws WriteFailed if LMDB fails; what `change` throws of the package's own errors
   */
  write<R>(change: (view: WriteView) => R): Promise<R> {
    return this.writes.track(() => this.transact(change));
  }

  private async transact<R>(change: (view: WriteView) => R): Promise<R> {
    this.checkOpen();
    this.files.check('no');
    const { view, changes } = this;
    let done = false;
    let touched: readonly number[] = [];
    try {
      const answer = await this.database.childTransaction(() => {
        changes.takeTouched();
        view.hasWritten = false;
        const result = change(view);
        // An empty transaction leaves its number to the next one.
        if (view.hasWritten) touched = changes.ran();
        done = true;
        return result;
      });
      changes.committed(touched);
      // A write into a file that is gone is not acknowledged.
      this.files.check('unknown');
      return answer;
    } catch (error) {
      if (done) changes.failed();
      // If it ran to its end and failed at the commit, LMDB can't say whether the last page reached the disk.
      throw this.failure(await commitError(error), done ? 'unknown' : 'no');
    }
  }

  private checkOpen(): void {
    if (!this.closed) return;
    throw new WriteFailed('no', `The LMDB store at '${this.path}' is closed. Call open() first`);
  }

  private failure(error: unknown, stored: 'no' | 'unknown' = 'no'): MinibatchError {
    if (error instanceof MinibatchError) return error;
    if (/MDB_(CORRUPTED|PAGE_NOTFOUND)|page has wrong type|Requested page not found/i.test(messageOf(error))) {
      const advice = 'Restore its directory from a copy, or give another path';
      const message = `The LMDB store at '${this.path}' is damaged: ${messageOf(error)}. ${advice}`;
      return new WriteFailed(stored, message, error, ErrorCode.StoreDamaged);
    }
    const hint = 'Check whether its disk is full and whether its files still exist';
    return new WriteFailed(stored, `The LMDB store at '${this.path}' failed: ${messageOf(error)}. ${hint}`, error);
  }
}

async function openDatabase(
  lmdb: typeof import('lmdb'),
  path: string,
  maxReaders: number,
  mode: number,
): Promise<Opened> {
  const presence = await Presence.enter(path, mode);
  try {
    const permissions = { permissionsMode: mode };
    const database = lmdb.open<Buffer, Buffer>({
      path,
      // lmdb-js knows it; its types do not.
      ...permissions,
      // A directory, whatever its name ends in.
      noSubdir: false,
      encoding: 'binary',
      keyEncoding: 'binary',
      overlappingSync: false,
      // With it, a commit that fails (a full disk) rejects a promise that no caller can reach, which ends the process.
      eventTurnBatching: false,
      maxReaders,
    });
    // Slots of processes that were killed while reading would keep pages from being used again.
    database.readerCheck();
    return { database, files: new FileWatch(path), presence, changes: new Changes(database as object) };
  } catch (error) {
    presence.leave();
    throw unusable(path, error);
  }
}

/** lmdb-js rejects a write with a general error that carries a promise of the reason, which would otherwise be unhandled. */
async function commitError(error: unknown): Promise<unknown> {
  if (!(error instanceof Error) || !('commitError' in error)) return error;
  try {
    await error.commitError;
    return error;
  } catch (reason) {
    return reason;
  }
}
