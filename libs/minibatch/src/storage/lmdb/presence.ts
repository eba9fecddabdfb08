import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { BACKGROUND_CLOCK, delay, every, SYSTEM_CLOCK } from '../../common/clock.js';
import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import { isDead, thisProcess } from '../../common/process-identity.js';
import type { LeaseOwner } from '../stream-store.interface.js';

/** How often an owner touches its record; milliseconds. */
const BEAT = 1_000;
/** A record that has not been touched for this long belongs to a process that died; milliseconds. */
const PATIENCE = 5_000;
const LOOK = 100;
const RECORD = /^owner-[\w-]+\.json$/;

/**
 * Announces, by a file in its directory, that this process has the environment open, and refuses to open where LMDB would fail silently.
 *
 * LMDB knows the processes that read by their pids. Two containers have pid namespaces of their own, and as a rule the same pids in
 * them: the second one blocks for ten seconds and then fails or crashes. And processes of two hosts have no lock in common at all.
 * LMDB can't tell either case from a process that died and left its slot behind; so each owner touches its record once a second.
 */
export class Presence {
  private readonly stopBeating: () => void;
  private left = false;

  private constructor(
    private readonly file: string,
    private readonly owner: LeaseOwner,
    private readonly mode: number,
  ) {
    this.write();
    this.stopBeating = every(BACKGROUND_CLOCK, BEAT, () => this.beat());
  }

  /** @throws MinibatchError `StoreInUse` */
  static async enter(directory: string, mode: number): Promise<Presence> {
    const owner = thisProcess();
    const presence = new Presence(join(directory, `owner-${owner.id}.json`), owner, mode);
    try {
      const others = readdirSync(directory).filter((name) => RECORD.test(name) && name !== `owner-${owner.id}.json`);
      await Promise.all(others.map((name) => presence.meet(directory, name)));
      return presence;
    } catch (error) {
      presence.leave();
      throw error;
    }
  }

  leave(): void {
    this.left = true;
    this.stopBeating();
    rmSync(this.file, { force: true });
  }

  /** Removes the record if its process is dead. @throws MinibatchError `StoreInUse` */
  private async meet(directory: string, name: string): Promise<void> {
    const file = join(directory, name);
    const other = readOwner(file);
    if (other !== undefined && !isDead(other) && !this.clashesWith(other)) return;
    if ((other === undefined || !isDead(other)) && (await this.isTouched(file))) {
      // Unreadable, but alive: there is nothing to object to.
      if (other === undefined) return;
      throw inUse(directory, other);
    }
    rmSync(file, { force: true });
  }

  private clashesWith(other: LeaseOwner): boolean {
    const [boot, namespace] = other.bootId.split('/');
    const [ownBoot, ownNamespace] = this.owner.bootId.split('/');
    if (boot !== ownBoot) return true;
    // In one namespace it can only be the same process.
    return other.pid === this.owner.pid && namespace !== ownNamespace;
  }

  /** Compares the file's times with each other, never with a clock. */
  private async isTouched(file: string): Promise<boolean> {
    const first = touched(file);
    const own = touched(this.file);
    if (first === undefined || own === undefined) return false;
    if (first < own - PATIENCE) return false;
    for (let waited = 0; waited <= PATIENCE; waited += LOOK) {
      await delay(SYSTEM_CLOCK, LOOK);
      const now = touched(file);
      if (now === undefined) return false;
      if (now !== first) return true;
    }
    return false;
  }

  private beat(): void {
    const now = new Date();
    utimes(this.file, now, now).catch(() => {
      // This process was suspended, and another one took it for dead.
      if (!this.left) this.write();
    });
  }

  private write(): void {
    try {
      writeFileSync(this.file, JSON.stringify(this.owner), { mode: this.mode });
    } catch {
      // The disk is full or the directory is gone: that is reported where it matters.
    }
  }
}

function touched(file: string): number | undefined {
  return statSync(file, { throwIfNoEntry: false })?.mtimeMs;
}

function readOwner(file: string): LeaseOwner | undefined {
  try {
    const { id, host, bootId, pid, startTime } = JSON.parse(readFileSync(file, 'utf8')) as Partial<LeaseOwner>;
    if (typeof id !== 'string' || typeof host !== 'string' || typeof bootId !== 'string') return undefined;
    return typeof pid === 'number' && typeof startTime === 'string' ? { id, host, bootId, pid, startTime } : undefined;
  } catch {
    return undefined;
  }
}

function inUse(path: string, { pid, host }: LeaseOwner): MinibatchError {
  return new MinibatchError(
    ErrorCode.StoreInUse,
    `The LMDB store at '${path}' is in use by process ${pid} of '${host}', which can't share it with this one: they run on ` +
      'different hosts, or in containers where both have the same pid. Let the containers share a pid namespace, give each a ' +
      'path of its own, or keep streams in MongoDB',
    { details: { path, pid, host } },
  );
}
