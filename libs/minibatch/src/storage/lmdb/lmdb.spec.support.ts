import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'vitest';
import type { ConsumerKey, Lease, NewDeadLetter, NewMessage, StoredMessage } from '../stream-store.interface.js';
import { LmdbEnvironment } from './environment.js';
import { type Kind, prefixRange } from './keys.js';
import { LmdbStreamStore } from './lmdb.store.js';

export const ALL = { messages: 100_000, bytes: Number.MAX_SAFE_INTEGER };
export const OWNER = { id: 'a', host: '', bootId: '', pid: 1, startTime: '' };

export interface LmdbUnderTest {
  /** A directory of the running test. */
  readonly path: string;
  /** A store on it; the test's end closes it. */
  open(): Promise<LmdbStreamStore>;
  /** Counts the records of these kinds, by a second environment on the same files. */
  count(...kinds: Kind[]): Promise<number>;
}

/** Gives each test of the file a directory of its own. */
export function useLmdb(): LmdbUnderTest {
  let path: string;
  const opened: LmdbStreamStore[] = [];
  beforeEach(() => {
    path = mkdtempSync(join(tmpdir(), 'minibatch-lmdb-'));
  });
  afterEach(async () => {
    for (const store of opened.splice(0)) await store.close();
    rmSync(path, { recursive: true, force: true });
  });
  return {
    get path() {
      return path;
    },
    async open() {
      const store = new LmdbStreamStore({ path });
      await store.open();
      opened.push(store);
      return store;
    },
    async count(...kinds) {
      const environment = await LmdbEnvironment.open(path, 126, 0o600);
      try {
        return environment.read((view) =>
          kinds.reduce((sum, kind) => sum + view.count(prefixRange(Buffer.from([kind]))), 0),
        );
      } finally {
        await environment.close();
      }
    },
  };
}

export function key(group = 'default'): ConsumerKey {
  return { stream: 's', group, partition: 0 };
}

export function message(data: unknown, extra: Partial<NewMessage> = {}): NewMessage {
  return { stream: 's', data, created: new Date(), ...extra };
}

export function many(count: number): NewMessage[] {
  return Array.from({ length: count }, (_, n) => message({ n }));
}

export async function hold(store: LmdbStreamStore, consumer = key()): Promise<Lease> {
  await store.registerGroup(consumer);
  const [state] = await store.readLeases([consumer]);
  return (await store.acquireLease(consumer, OWNER, state!))!;
}

export async function settle(store: LmdbStreamStore, lease: Lease, messages: readonly StoredMessage[]): Promise<void> {
  const groups = await store.commit(lease, { finished: [1], progress: { lastSeq: 1, windows: 1, messages: 1 } });
  const window = { seq: 1, id: 'w', messageIds: [], created: new Date(), attempt: 1, recoveries: 0 };
  await store.settle(lease, [{ window, messages }], { groups, keep: false });
}

export function letterOf(given: StoredMessage): NewDeadLetter {
  return { message: given, window: 'w', consumer: 'A.b', attempts: 2, error: 'no', died: new Date() };
}
