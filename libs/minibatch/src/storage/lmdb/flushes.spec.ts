import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type * as lmdb from 'lmdb';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { DEFAULT_RETRY } from '../../definitions/shared.options.js';
import { SystemClock } from '../../common/clock.js';
import { StreamHub } from '../../streams/stream-hub.js';
import { LmdbStreamStore } from './index.js';

interface Metrics {
  /** Transactions whose pages were written to the file; each is followed by a sync, unless LMDB was told otherwise. */
  readonly pageFlushes: number;
  readonly lastTxnId: number;
}

const databases: { getStats(): unknown }[] = [];
let given: lmdb.RootDatabaseOptions = {};
vi.mock('lmdb', async (original) => {
  const real = await original<typeof lmdb>();
  const open = (options: lmdb.RootDatabaseOptionsWithPath) => {
    const database = real.open({ ...options, trackMetrics: true } as lmdb.RootDatabaseOptionsWithPath);
    databases.push(database);
    given = options;
    return database;
  };
  return { ...real, open };
});

describe('LMDB', () => {
  let path: string;
  let store: LmdbStreamStore;
  const metrics = () => databases.at(-1)?.getStats() as Metrics;

  beforeEach(async () => {
    path = mkdtempSync(join(tmpdir(), 'minibatch-lmdb-'));
    store = new LmdbStreamStore({ path });
    await store.open();
    await store.ensureStream('s');
  });
  afterEach(async () => {
    await store.close();
    rmSync(path, { recursive: true, force: true });
  });

  it('syncs the file for each group of appends before they are acknowledged', async () => {
    // No sync is left out, nor put off until after the acknowledgement.
    expect(given).toMatchObject({ overlappingSync: false });
    for (const option of ['noSync', 'noMetaSync', 'mapAsync']) expect(given).not.toHaveProperty(option);
    const before = metrics();
    for (let n = 0; n < 50; n += 1) {
      await store.append([{ stream: 's', data: n, created: new Date() }]);
      expect(metrics().pageFlushes - before.pageFlushes).toBe(n + 1);
    }
    expect(metrics().lastTxnId - before.lastTxnId).toBe(50);
  });

  it('syncs once for appends that are made at the same time', async () => {
    const log = { log() {}, warn() {}, error() {} };
    const hub = new StreamHub({ store, clock: new SystemClock(), log, retry: DEFAULT_RETRY });
    const stream = hub.stream<number>('s');
    await stream.append(-1);
    const groups = vi.spyOn(store, 'append');
    const before = metrics();
    for (let burst = 0; burst < 10; burst += 1) {
      await Promise.all(Array.from({ length: 200 }, (_, n) => stream.append(n)));
    }
    expect(groups.mock.calls.length).toBe(10);
    expect(metrics().pageFlushes - before.pageFlushes).toBe(10);
    await hub.close(1000);
  });
});
