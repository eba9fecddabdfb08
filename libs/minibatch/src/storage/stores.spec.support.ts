import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openStore } from '../../../../test/support/mongoose-store.js';
import { openSchema } from '../../../../test/support/postgres-server.js';
import { LmdbStreamStore } from './lmdb/lmdb.store.js';
import { MemoryStreamStore } from './memory/memory.store.js';
import type { StreamStore } from './stream-store.interface.js';

/** A store on data of its own. */
export interface OpenedStore {
  readonly store: StreamStore;
  /** Closes the store and removes its data. */
  dispose(): Promise<void>;
}

/** Every store of the package, for promises that hold on each: `describe.each(STORES)('… on %s', (_, open) => …)`. */
export const STORES: readonly (readonly [name: string, open: () => Promise<OpenedStore>])[] = [
  ['memory', async () => ({ store: new MemoryStreamStore(), dispose: async () => undefined })],
  ['LMDB', openLmdb],
  // Unit tests start no servers.
  ...(process.env['MINIBATCH_ONLY'] === 'unit'
    ? []
    : ([
        ['MongoDB', openStore],
        ['PostgreSQL', openPostgres],
      ] as const)),
];

async function openLmdb(): Promise<OpenedStore> {
  const path = await mkdtemp(join(tmpdir(), 'minibatch-store-'));
  const store = new LmdbStreamStore({ path });
  return {
    store,
    async dispose() {
      await store.close();
      await rm(path, { recursive: true });
    },
  };
}

async function openPostgres(): Promise<OpenedStore> {
  const schema = openSchema();
  const store = schema.store();
  await store.open();
  return {
    store,
    async dispose() {
      await store.close();
      await schema.dispose();
    },
  };
}
