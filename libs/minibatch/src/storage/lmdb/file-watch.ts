import { statSync } from 'node:fs';
import { join } from 'node:path';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { DATA, LOCK } from './files.js';
import { WriteFailed } from './write-failed.js';

/** How long writes may go into files that no longer exist; milliseconds. */
const INTERVAL = 100;

/**
 * Notices that the files of an open environment are not those of its directory any more. LMDB does not: it keeps using the files that it
 * has open, which nobody else sees and which are gone with the process. And with another lock file in place of its own, another
 * process writes to the same data at the same time.
 */
export class FileWatch {
  private readonly known: readonly string[];
  private checked = performance.now();
  private isLost = false;

  /** To be made when the environment has just been opened. */
  constructor(private readonly directory: string) {
    this.known = this.identities();
  }

  /**
   * Looks now and then, and always where something was found missing.
   *
   * @param stored what is known of the write that it is called for
   * @throws WriteFailed `StoreLost`
   */
  check(stored: 'no' | 'unknown'): void {
    const now = performance.now();
    if (!this.isLost && now - this.checked < INTERVAL) return;
    this.checked = now;
    const changed = this.identities().findIndex((identity, index) => identity !== this.known[index]);
    // What was moved away may be moved back.
    this.isLost = changed >= 0;
    if (!this.isLost) return;
    const path = join(this.directory, [DATA, LOCK][changed] ?? DATA);
    const message =
      `'${path}' is not the file any more that the LMDB store has open: it was removed, renamed or replaced. Nothing is read, ` +
      'written or acknowledged until it is back. Stop all processes that use the directory, put the files back, and start again';
    throw new WriteFailed(stored, message, undefined, ErrorCode.StoreLost, { path });
  }

  private identities(): string[] {
    return [DATA, LOCK].map((name) => {
      const stat = statSync(join(this.directory, name), { throwIfNoEntry: false, bigint: true });
      return stat === undefined ? '' : `${stat.dev}:${stat.ino}`;
    });
  }
}
