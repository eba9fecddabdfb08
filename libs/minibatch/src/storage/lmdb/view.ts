import type { RootDatabase } from 'lmdb';
import type { Changes } from './changes.js';
import type { KeyRange } from './keys.js';

/** What can be done in a read transaction. All of it is synchronous; nothing of it may be kept until afterwards. */
export interface ReadView {
  get(key: Buffer): Buffer | undefined;
  has(key: Buffer): boolean;
  keys(range: KeyRange, limit?: number): Iterable<Buffer>;
  lastKey(range: KeyRange): Buffer | undefined;
  entries(range: KeyRange): Iterable<{ readonly key: Buffer; readonly value: Buffer }>;
  count(range: KeyRange): number;
}

/** What can be done in a write transaction. */
export interface WriteView extends ReadView {
  put(key: Buffer, value: Buffer): void;
  /** Puts it if the key is not there; false if it is. */
  add(key: Buffer, value: Buffer): boolean;
  /** False if it was not there. */
  remove(key: Buffer): boolean;
  /** Says that readers of the stream have to look again, once this is committed. */
  touch(stream: number): void;
}

/** One descent into the tree in place of two. */
const IF_ABSENT = { noOverwrite: true };

export type LmdbDatabase = RootDatabase<Buffer, Buffer>;

/** The view on an lmdb-js database; inside a transaction of it lmdb-js reads and writes in that transaction. */
export class LmdbView implements WriteView {
  /** Something was written since this was set to false. */
  hasWritten = false;

  constructor(
    private readonly database: LmdbDatabase,
    private readonly changes: Changes,
  ) {}

  get(key: Buffer): Buffer | undefined {
    return this.database.getBinary(key);
  }

  has(key: Buffer): boolean {
    return this.database.doesExist(key);
  }

  keys({ start, end }: KeyRange, limit?: number): Iterable<Buffer> {
    return this.database.getKeys({ start, end, ...(limit !== undefined && { limit }) });
  }

  lastKey({ start, end }: KeyRange): Buffer | undefined {
    // Reversed, lmdb-js begins at the first key not greater than `start`, and takes it.
    for (const key of this.database.getKeys({ start: end, end: start, reverse: true, limit: 2 })) {
      if (key.compare(end) < 0) return key;
    }
    return this.has(start) ? start : undefined;
  }

  entries({ start, end }: KeyRange): Iterable<{ readonly key: Buffer; readonly value: Buffer }> {
    return this.database.getRange({ start, end });
  }

  count({ start, end }: KeyRange): number {
    return this.database.getKeysCount({ start, end });
  }

  put(key: Buffer, value: Buffer): void {
    this.hasWritten = true;
    this.database.putSync(key, value);
  }

  add(key: Buffer, value: Buffer): boolean {
    // Its types say that it returns nothing; it returns what removeSync does.
    const added: unknown = this.database.putSync(key, value, IF_ABSENT);
    this.hasWritten ||= added === true;
    return added === true;
  }

  remove(key: Buffer): boolean {
    const removed = this.database.removeSync(key);
    this.hasWritten ||= removed;
    return removed;
  }

  touch(stream: number): void {
    this.changes.touch(stream);
  }
}
