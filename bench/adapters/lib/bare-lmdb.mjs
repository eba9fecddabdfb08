import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { open } from 'lmdb';
import mongoose from 'mongoose';

const { BSON } = mongoose.mongo;

/**
 * What it takes without us to have a message as safe before it is acknowledged: bare lmdb, one transaction for what has come while the
 * last one was being synced.
 */
export async function openBareLmdb() {
  const path = await mkdtemp(join(tmpdir(), `minibatch-bench-${randomUUID()}-`));
  const database = open({ path, noSubdir: false, encoding: 'binary', keyEncoding: 'binary', overlappingSync: false });
  let last = 0;
  let waiting = [];
  let writing;

  function numbered() {
    last += 1;
    const key = Buffer.allocUnsafe(8);
    key.writeBigUInt64BE(BigInt(last));
    return key;
  }
  async function writeAll() {
    await Promise.resolve();
    while (waiting.length > 0) {
      const group = waiting;
      waiting = [];
      await database.transaction(() => {
        for (const { list, keyOf } of group) {
          for (const data of list) {
            database.putSync(keyOf(data), Buffer.from(BSON.serialize({ created: new Date(), data })));
          }
        }
      });
      for (const { resolve } of group) resolve();
    }
    writing = undefined;
  }
  return {
    /** Resolves when they are on disk. With keys of their own, what comes again is not there twice. */
    store: (list, keyOf = numbered) =>
      new Promise((resolve) => {
        waiting.push({ list, keyOf, resolve });
        writing ??= writeAll();
      }),
    async close() {
      await writing;
      await database.close();
      await rm(path, { recursive: true, force: true });
    },
  };
}
