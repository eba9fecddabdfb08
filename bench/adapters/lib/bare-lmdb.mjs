import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { open } from 'lmdb';
import mongoose from 'mongoose';

const { BSON } = mongoose.mongo;

/** What it takes without us to have messages as safe before they are acknowledged: bare lmdb, synced transactions. */
export async function openBareLmdb() {
  const path = await mkdtemp(join(tmpdir(), `minibatch-bench-${randomUUID()}-`));
  const database = open({ path, noSubdir: false, encoding: 'binary', keyEncoding: 'binary', overlappingSync: false });
  let last = 0;

  function numbered() {
    last += 1;
    const key = Buffer.allocUnsafe(8);
    key.writeBigUInt64BE(BigInt(last));
    return key;
  }

  /** Resolves when they are on disk, in one transaction. With keys of their own, what is redelivered is stored once. */
  async function store(list, keyOf = numbered) {
    await database.transaction(() => {
      for (const data of list) database.putSync(keyOf(data), BSON.serialize({ created: new Date(), data }));
    });
  }

  /**
   * For messages that come one at a time: `add(list, token)` has them stored, in one transaction with what comes while the one before
   * is in flight; `stored` then gets the tokens. `keyOf` as of `store`.
   */
  function gathering(stored, keyOf) {
    let waiting = [];
    let writing;
    async function writeAll() {
      // The others that the socket has given are there by then.
      await setImmediate();
      while (waiting.length > 0) {
        const group = waiting;
        waiting = [];
        await store(
          group.flatMap(({ list }) => list),
          keyOf,
        );
        stored(group.map(({ token }) => token));
      }
      writing = undefined;
    }
    return (list, token) => {
      waiting.push({ list, token });
      writing ??= writeAll();
    };
  }

  async function close() {
    await database.close();
    await rm(path, { recursive: true, force: true });
  }
  return { store, gathering, close };
}
