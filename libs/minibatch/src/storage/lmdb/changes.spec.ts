import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { LmdbStreamStore } from './index.js';
import { message, OWNER, useLmdb } from './lmdb.spec.support.js';

const FIXTURE = fileURLToPath(new URL('../../../../../test/fixtures/lmdb/appender.mjs', import.meta.url));

/** What a process knows of the streams that have changed, so that it need not poll all of them. */
describe('LmdbStreamStore: changes', () => {
  const lmdb = useLmdb();
  const key = { stream: 's', group: 'default' };

  async function opened(...streams: string[]) {
    const store = await lmdb.open();
    for (const stream of streams) await store.registerGroup({ stream, group: 'default' });
    return store;
  }

  /** What changes while something happens. */
  async function during(store: LmdbStreamStore, happens: () => Promise<unknown>) {
    const { mark } = await store.changedStreams(undefined);
    await happens();
    return (await store.changedStreams(mark)).streams;
  }

  it('are unknown at first', async () => {
    const store = await opened('s');
    expect(await store.changedStreams(undefined)).toEqual({ mark: expect.any(String) });
  });

  it('are the streams that this process has appended to, by any of its stores', async () => {
    const store = await opened('s', 't');
    const other = await lmdb.open();
    expect(await during(store, () => Promise.resolve())).toEqual([]);
    expect(await during(store, () => store.append([message(1)]))).toEqual(['s']);
    expect(await during(store, () => other.append([message(1, { stream: 't' })]))).toEqual(['t']);
    expect(await during(store, () => store.registerGroup(key))).toEqual(['s']);
  });

  it('are the streams that a commit has appended to', async () => {
    const store = await opened('s', 't');
    const consumer = { ...key, partition: 0 };
    const lease = await store.acquireLease(consumer, OWNER, { fence: 0, counter: 0 });
    const append = ['t', 'new'].map((stream) => message(1, { stream }));
    const commit = { finished: [1], progress: { lastSeq: 1, windows: 1, messages: 0 } };
    const effects = new Map([[1, { put: [{ slot: 'a', value: new Uint8Array(1) }], append }]]);
    expect(await during(store, () => store.commit(lease!, { ...commit, effects }))).toEqual(['t', 'new']);
    expect(await during(store, () => store.commit(lease!, { ...commit, effects }))).toEqual([]);
  });

  it('are none while this process renews its leases, commits, or fails to write', async () => {
    const store = await opened('s');
    const consumer = { ...key, partition: 0 };
    const [state] = await store.readLeases([consumer]);
    const quiet = async () => {
      const lease = await store.acquireLease(consumer, OWNER, state!);
      await store.renewLeases([lease!]);
      expect(await store.acquireLease(consumer, { ...OWNER, id: 'b' }, { fence: 7, counter: 7 })).toBeUndefined();
      await expect(store.removeGroup('s', 'unknown')).rejects.toThrow('unknown');
    };
    expect(await during(store, quiet)).toEqual([]);
  });

  it('are known for each reader, and up to where it has asked', async () => {
    const store = await opened('s', 't');
    const first = await store.changedStreams(undefined);
    await store.append([message(1)]);
    const second = await store.changedStreams(first.mark);
    await store.append([message(1, { stream: 't' })]);
    expect((await store.changedStreams(second.mark)).streams).toEqual(['t']);
    expect((await store.changedStreams(first.mark)).streams).toEqual(['s', 't']);
  });

  it('are unknown after more of them than are remembered', async () => {
    const store = await opened('s');
    const append = () => Promise.all(Array.from({ length: 4_097 }, (_, n) => store.append([message(n)])));
    expect(await during(store, append)).toBeUndefined();
    expect(await during(store, () => store.append([message(1)]))).toEqual(['s']);
  });

  it('are unknown once another process has written, also between two writes of this one', async () => {
    const store = await opened('s');
    const elsewhere = () => promisify(execFile)(process.execPath, [FIXTURE, lmdb.path, 's', 'there', '1']);
    expect(await during(store, elsewhere)).toBeUndefined();
    const between = async () => {
      await store.append([message(1)]);
      await elsewhere();
      await store.append([message(2)]);
    };
    expect(await during(store, between)).toBeUndefined();
    // A transaction that wrote nothing leaves its number to the next one, whoever makes it.
    const afterNothing = async () => {
      await store.acquireLease({ ...key, partition: 0 }, OWNER, { fence: 7, counter: 7 });
      await elsewhere();
    };
    expect(await during(store, afterNothing)).toBeUndefined();
    expect(await during(store, () => store.append([message(3)]))).toEqual(['s']);
  });
});
