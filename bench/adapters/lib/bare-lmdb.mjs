import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { open } from 'lmdb';
import mongoose from 'mongoose';

const { BSON } = mongoose.mongo;

/**
 * What it takes without us to have a message as safe before it is acknowledged: bare lmdb, one transaction for what has come while the
 * last one was being synced. It knows no doubles.
 */
export async function openBareLmdb() {
  const path = await mkdtemp(join(tmpdir(), `minibatch-bench-${randomUUID()}-`));
  const database = open({ path, noSubdir: false, encoding: 'binary', keyEncoding: 'binary', overlappingSync: false });
  let last = 0;
  let waiting = [];
  let writing;

  function put(data) {
    last += 1;
    const key = Buffer.allocUnsafe(8);
    key.writeBigUInt64BE(BigInt(last));
    database.putSync(key, Buffer.from(BSON.serialize({ created: new Date(), data })));
  }
  async function writeAll() {
    await Promise.resolve();
    while (waiting.length > 0) {
      const group = waiting;
      waiting = [];
      await database.transaction(() => {
        for (const { list } of group) for (const data of list) put(data);
      });
      for (const { resolve } of group) resolve();
    }
    writing = undefined;
  }
  return {
    /** Resolves when they are on disk. */
    store: (list) =>
      new Promise((resolve) => {
        waiting.push({ list, resolve });
        writing ??= writeAll();
      }),
    async close() {
      await writing;
      await database.close();
      await rm(path, { recursive: true, force: true });
    },
  };
}
