import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { open as openLmdb } from 'lmdb';
import mongoose from 'mongoose';
import { Gate } from '../lib/gate.mjs';
import { until } from '../lib/pause.mjs';

const { BSON } = mongoose.mongo;
/** First byte of a key. */
const [MESSAGE, WINDOW, STATE] = [1, 2, 3];
const STATE_KEY = Buffer.from([STATE]);
const OPTIONS = { encoding: 'binary', keyEncoding: 'binary', overlappingSync: false, eventTurnBatching: false };

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
 * the removal of its messages. Each is on disk before the next; nothing checks a lease.
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
    const buffer = new MessageTable(openLmdb({ path, noSubdir: false, ...OPTIONS }));
    return session(buffer, new Consumer(buffer, { size, groups, onWindow }), { groups, onWindow });
  },
};

/** The messages and windows in the database; each method is one transaction. */
class MessageTable {
  #database;
  #appended;

  constructor(database) {
    this.#database = database;
    // A second run in the same folder continues where the first one ended.
    this.#appended = Number(database.getBinary(STATE_KEY)?.readDoubleBE(0) ?? 0);
  }

  append(messages) {
    return this.#database.transaction(() => {
      for (const message of messages) this.#put(message);
      const bytes = Buffer.allocUnsafe(8);
      bytes.writeDoubleBE(this.#appended);
      this.#database.putSync(STATE_KEY, bytes);
    });
  }

  /** @returns its number */
  appendAlone(message) {
    return this.#database.transaction(() => this.#put(message));
  }

  get(n) {
    return BSON.deserialize(this.#database.getBinary(key(MESSAGE, n))).data;
  }

  read(limit) {
    const entries = [...this.#database.getRange({ start: key(MESSAGE, 0), end: key(WINDOW, 0), limit })];
    return { keys: entries.map((entry) => entry.key), data: entries.map(({ value }) => BSON.deserialize(value).data) };
  }

  writeWindow(window, document) {
    return this.#database.transaction(() => this.#database.putSync(key(WINDOW, window), encode(document)));
  }

  remove(window, keys) {
    return this.#database.transaction(() => {
      for (const each of keys) this.#database.removeSync(each);
      this.#database.removeSync(key(WINDOW, window));
    });
  }

  count() {
    return this.#database.getKeysCount({ start: key(MESSAGE, 0), end: key(WINDOW, 0) });
  }

  close() {
    return this.#database.close();
  }

  #put(message) {
    this.#appended += 1;
    this.#database.putSync(key(MESSAGE, this.#appended), encode({ created: new Date(), data: message }));
    return this.#appended;
  }
}

/** Takes one window after another. */
class Consumer {
  handled = 0;
  gate = new Gate(() => this.wake());
  wake = () => {};
  #buffer;
  #options;
  #windows = 0;
  #stopped = false;
  #running = Promise.resolve();

  constructor(buffer, options) {
    this.#buffer = buffer;
    this.#options = options;
  }

  start() {
    this.#running = this.#loop();
  }

  async stop() {
    this.#stopped = true;
    this.gate.open();
    this.wake();
    await this.#running;
  }

  async #loop() {
    while (!this.#stopped) {
      await this.gate.pass();
      const woken = new Promise((resolve) => (this.wake = resolve));
      const taken = await this.#window();
      this.handled += taken * this.#options.groups.length;
      if (taken === 0) await woken;
    }
  }

  /** @returns how many messages were in it */
  async #window() {
    const { size, groups, onWindow } = this.#options;
    const { keys, data } = this.#buffer.read(size);
    if (keys.length === 0) return 0;
    const window = ++this.#windows;
    await this.#buffer.writeWindow(window, { first: numberOf(keys[0]), count: keys.length });
    for (const group of groups) await onWindow(group, data);
    await this.#buffer.writeWindow(window, { done: true });
    await this.#buffer.remove(window, keys);
    return keys.length;
  }
}

function session(buffer, consumer, { groups, onWindow }) {
  const appendMany = async (messages) => {
    await buffer.append(messages);
    consumer.wake();
  };
  return {
    append: (message) => appendMany([message]),
    appendMany,
    async appendConcurrently(messages, count) {
      for (let n = 0; n < messages.length; n += count) await appendMany(messages.slice(n, n + count));
    },
    start: async () => consumer.start(),
    pause: () => consumer.gate.shut(),
    resume: async () => consumer.gate.open(),
    settled: (messages) => until(() => consumer.handled >= messages),
    async roundTrip(message) {
      const at = await buffer.appendAlone(message);
      const data = buffer.get(at);
      await buffer.writeWindow(at, { first: at, count: 1 });
      onWindow(groups[0], [data]);
    },
    left: async () => buffer.count(),
    async close() {
      await consumer.stop();
      await buffer.close();
    },
  };
}
