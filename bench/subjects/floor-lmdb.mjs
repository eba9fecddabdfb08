import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { open as openLmdb } from 'lmdb';
import mongoose from 'mongoose';
import { Gate } from '../lib/gate.mjs';

const { BSON } = mongoose.mongo;
/** First byte of a key. */
const [MESSAGE, WINDOW, STATE] = [1, 2, 3];
const STATE_KEY = Buffer.from([STATE]);

function key(kind, n) {
  const bytes = Buffer.allocUnsafe(9);
  bytes[0] = kind;
  bytes.writeBigUInt64BE(BigInt(n), 1);
  return bytes;
}
const numberOf = (bytes) => Number(bytes.readBigUInt64BE(1));
const encode = (document) => Buffer.from(BSON.serialize(document));

/**
 * Bare lmdb with the transactions that a window costs: the append; the claim; the commit point, which says that the window is done; and
 * the messages leave. Each is on disk before the next; nothing looks at a lease.
 */
export default {
  name: 'floor-lmdb',
  label: 'bare lmdb, same transactions',
  needs: [],
  durability: 'synced to disk before the append resolves',
  // Three syncs a window.
  scale: ({ size = 1000 }) => Math.min(1, size / 20),
  packages: ['lmdb'],
  without: ['streams', 'idle', 'startup'],

  async open({ folder, clear, size = 1000, groups, onWindow }) {
    const path = join(folder, 'floor-lmdb');
    if (clear) await rm(path, { recursive: true, force: true });
    const options = { encoding: 'binary', keyEncoding: 'binary', overlappingSync: false, eventTurnBatching: false };
    const database = openLmdb({ path, noSubdir: false, ...options });
    // As when it is told to start, a run continues where the previous one ended.
    let appended = Number(database.getBinary(STATE_KEY)?.readDoubleBE(0) ?? 0);
    let [stopped, handled, windows] = [false, 0, 0];
    let wake = () => {};
    const gate = new Gate(() => wake());
    let running = Promise.resolve();

    function put(message) {
      appended += 1;
      database.putSync(key(MESSAGE, appended), encode({ created: new Date(), data: message }));
    }
    function saveState() {
      const bytes = Buffer.allocUnsafe(8);
      bytes.writeDoubleBE(appended);
      database.putSync(STATE_KEY, bytes);
    }
    async function appendMany(messages) {
      await database.transaction(() => {
        for (const message of messages) put(message);
        saveState();
      });
      wake();
    }
    /** @returns how many */
    async function one() {
      const entries = [...database.getRange({ start: key(MESSAGE, 0), end: key(WINDOW, 0), limit: size })];
      if (entries.length === 0) return 0;
      const keys = entries.map((entry) => entry.key);
      const data = entries.map(({ value }) => BSON.deserialize(value).data);
      const window = key(WINDOW, ++windows);
      await database.transaction(() =>
        database.putSync(window, encode({ first: numberOf(keys[0]), count: keys.length })),
      );
      for (const group of groups) await onWindow(group, data);
      await database.transaction(() => database.putSync(window, encode({ done: true })));
      await database.transaction(() => {
        for (const each of keys) database.removeSync(each);
        database.removeSync(window);
      });
      return keys.length;
    }
    async function loop() {
      while (!stopped) {
        await gate.pass();
        const woken = new Promise((resolve) => (wake = resolve));
        const taken = await one();
        handled += taken * groups.length;
        if (taken === 0) await woken;
      }
    }
    return {
      append: (message) => appendMany([message]),
      appendMany,
      async appendConcurrently(messages, count) {
        for (let n = 0; n < messages.length; n += count) await appendMany(messages.slice(n, n + count));
      },
      start: async () => {
        running = loop();
      },
      pause: () => gate.shut(),
      resume: async () => gate.open(),
      settled: async (messages) => {
        while (handled < messages) await new Promise((resolve) => setTimeout(resolve, 1));
      },
      async roundTrip(message) {
        let at;
        await database.transaction(() => {
          put(message);
          at = appended;
        });
        const { data } = BSON.deserialize(database.getBinary(key(MESSAGE, at)));
        await database.transaction(() => database.putSync(key(WINDOW, at), encode({ first: at, count: 1 })));
        onWindow(groups[0], [data]);
      },
      left: async () => database.getKeysCount({ start: key(MESSAGE, 0), end: key(WINDOW, 0) }),
      async close() {
        stopped = true;
        gate.open();
        wake();
        await running;
        await database.close();
      },
    };
  },
};
