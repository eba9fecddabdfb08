import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { expectBadPositionNamed } from '../checkpoints.spec.support.js';
import { storeContract } from '../../testing/store-contract.js';
import { LmdbEnvironment } from './environment.js';
import { lmdbStore, LmdbStreamStore } from './index.js';
import { Kind, META_KEY } from './keys.js';
import { encodeRecord } from './records.js';
import { dropStream } from './streams.js';
import { ALL, hold, key, letterOf, many, message, settle, useLmdb } from './lmdb.spec.support.js';

const lmdb = useLmdb();

storeContract({ describe, it, beforeEach, afterEach }, 'LmdbStreamStore', () => ({
  store: new LmdbStreamStore({ path: lmdb.path }),
  another: () => new LmdbStreamStore({ path: lmdb.path }),
  dispose: () => undefined,
}));

describe('LmdbStreamStore', () => {
  it('keeps everything when it is closed and opened again', async () => {
    const first = await lmdb.open();
    const lease = await hold(first);
    await first.append([message({ n: 1 }, { dedupeId: 'x', key: 'k' })], {
      checkpoints: [{ stream: 's', source: 'f', position: 7, from: 0, to: 1 }],
    });
    await first.close();

    const second = await lmdb.open();
    expect((await second.fetch(key(), undefined, ALL)).messages).toMatchObject([{ data: { n: 1 }, key: 'k' }]);
    expect(await second.readCheckpoint('s', 'f')).toBe(7);
    expect(await second.append([message({}, { dedupeId: 'x' })])).toEqual([{ status: 'duplicate' }]);
    expect(await second.renewLeases([lease])).toEqual([]);
  });

  it('takes the entry of the time index along when a message leaves', async () => {
    const store = await lmdb.open();
    await store.registerGroup(key(), { timeOrder: true });
    const lease = await hold(store);
    await store.append(many(3));
    const { messages } = await store.fetchByTime(key(), {}, undefined, ALL);
    expect(await lmdb.count(Kind.Time)).toBe(3);
    await settle(store, lease, messages.slice(0, 2));
    expect(await lmdb.count(Kind.Time)).toBe(1);
    await settle(store, lease, messages.slice(2));
    expect(await lmdb.count(Kind.Time, Kind.Message)).toBe(0);
  });

  it('works for several stores of one process, whichever closes first', async () => {
    const stores = await Promise.all([lmdb.open(), lmdb.open(), lmdb.open()]);
    await Promise.all(stores.map((store) => store.append(many(10))));
    await stores[0]!.close();
    await stores[1]!.append(many(1));
    await Promise.all([stores[1]!.close(), stores[2]!.close()]);
    // Opened while the last is still closing.
    const [a, b] = await Promise.all([lmdb.open(), lmdb.open()]);
    await b.close();
    expect((await a.stats(['s']))[0]?.buffered).toBe(31);
  });

  it('gives ids of one width', async () => {
    const store = await lmdb.open();
    const outcomes = await store.append(many(20));
    const ids = outcomes.map((outcome) => (outcome.status === 'stored' ? outcome.id : ''));
    expect(new Set(ids.map((id) => id.length)).size).toBe(1);
    expect([...ids].sort()).toEqual(ids);
  });

  it('fails only the message that can not be stored', async () => {
    const store = await lmdb.open();
    const outcomes = await store.append([
      message(1),
      message('x'.repeat(20 * 1024 * 1024)),
      message({ _bsontype: 'nonsense' }),
      message(2),
    ]);
    expect(outcomes).toMatchObject([
      { status: 'stored' },
      { status: 'failed', error: { code: ErrorCode.MessageTooLarge, stored: 'no' } },
      { status: 'failed', error: { code: ErrorCode.NotStorable, stored: 'no' } },
      { status: 'stored' },
    ]);
  });

  it('has no sessions', async () => {
    const store = await lmdb.open();
    await expect(store.append([message(1)], { session: {} })).rejects.toMatchObject({
      code: ErrorCode.StoreUnsupported,
      stored: 'no',
    });
  });

  it('names a position that it cannot store, and stores the others', async () => {
    await expectBadPositionNamed(await lmdb.open(), message(1));
  });

  it('stores a checkpoint in one step with its messages', async () => {
    const store = await lmdb.open();
    // What a transaction throws takes back what it wrote: nothing of the call is there.
    const environment = await LmdbEnvironment.open(lmdb.path, 126, 0o600);
    const failing = environment.write((view) => {
      view.put(META_KEY, Buffer.from('spoiled'));
      throw new Error('went wrong');
    });
    const good = store.append([message(1)], {
      checkpoints: [{ stream: 's', source: 'f', position: 1, from: 0, to: 1 }],
    });
    await expect(failing).rejects.toMatchObject({ code: ErrorCode.StoreUnavailable, stored: 'no' });
    await environment.close();
    expect(await good).toMatchObject([{ status: 'stored' }]);
    expect(await store.readCheckpoint('s', 'f')).toBe(1);
    await store.ensureStream('after');
  });

  it('finishes a removal that a process did not live to finish', async () => {
    const store = await lmdb.open();
    const lease = await hold(store);
    await store.append([...many(50), message(1, { dedupeId: 'x' })]);
    await store.bury(lease, (await store.fetch(key(), undefined, ALL)).messages.slice(0, 3).map(letterOf));
    const put = [{ slot: 'a', value: new Uint8Array(1), due: new Date() }];
    const commit = { finished: [1], progress: { lastSeq: 1, windows: 1, messages: 0 } };
    await store.commit(lease, { ...commit, effects: new Map([[1, { put }]]) });
    const environment = await LmdbEnvironment.open(lmdb.path, 126, 0o600);
    await environment.write((view) => dropStream(view, 's'));
    await environment.close();
    await store.close();
    expect(await lmdb.count(Kind.Message, Kind.Cleanup)).toBe(52);

    const next = await lmdb.open();
    expect(await next.describeStream('s')).toBeUndefined();
    const rest = Object.values(Kind).filter((kind) => kind !== Kind.Meta);
    expect(await lmdb.count(...rest)).toBe(0);
  });

  describe('what can go wrong', () => {
    it('says which path it can not use, and what to give', async () => {
      const file = join(lmdb.path, 'file');
      writeFileSync(file, '');
      for (const unusable of [file, join(file, 'below'), '/proc/minibatch']) {
        await expect(new LmdbStreamStore({ path: unusable }).open()).rejects.toMatchObject({
          code: ErrorCode.StorePath,
          message: expect.stringContaining(unusable) as unknown,
          details: { path: unusable },
        });
      }
    });

    it('refuses files that are not its own', async () => {
      const data = join(lmdb.path, 'data.mdb');
      // lmdb-js would end the process.
      for (const content of ['?', 'this is something else'.repeat(1000), Buffer.alloc(100_000)]) {
        writeFileSync(data, content);
        await expect(new LmdbStreamStore({ path: lmdb.path }).open()).rejects.toMatchObject({
          code: ErrorCode.StorePath,
        });
      }
      rmSync(data);
      mkdirSync(data);
      await expect(new LmdbStreamStore({ path: lmdb.path }).open()).rejects.toMatchObject({
        code: ErrorCode.StorePath,
      });
      rmSync(data, { recursive: true });
      // An empty file is what a process leaves that dies at the very first step.
      writeFileSync(data, '');
      await (await lmdb.open()).ensureStream('s');
    });

    it('opens after a failure once the cause is gone', async () => {
      const file = join(lmdb.path, 'file');
      writeFileSync(file, '');
      const store = new LmdbStreamStore({ path: file });
      await expect(store.open()).rejects.toMatchObject({ code: ErrorCode.StorePath });
      rmSync(file);
      await store.open();
      await store.ensureStream('s');
      await store.close();
    });

    it('refuses what a newer version wrote', async () => {
      const environment = await LmdbEnvironment.open(lmdb.path, 126, 0o600);
      await environment.write((view) => view.put(META_KEY, encodeRecord({ version: 99, lastStream: 0 })));
      await environment.close();
      await expect(new LmdbStreamStore({ path: lmdb.path }).open()).rejects.toMatchObject({
        code: ErrorCode.SchemaTooNew,
      });
    });

    it('says that it is not open', async () => {
      const store = new LmdbStreamStore({ path: lmdb.path });
      await expect(store.ensureStream('s')).rejects.toMatchObject({ code: ErrorCode.StoreUnavailable });
      await store.open();
      await store.close();
      await expect(store.describeStream('s')).rejects.toMatchObject({ code: ErrorCode.StoreUnavailable });
      await expect(store.append([message(1)])).rejects.toMatchObject({
        name: 'AppendError',
        code: ErrorCode.StoreUnavailable,
        stored: 'no',
      });
    });

    it('finishes what is in flight when it is closed', async () => {
      const store = await lmdb.open();
      const appends = Array.from({ length: 20 }, (_, n) => store.append([message({ n })]));
      await store.close();
      const outcomes = (await Promise.all(appends)).flat();
      expect(outcomes.every(({ status }) => status === 'stored')).toBe(true);
      expect((await (await lmdb.open()).stats(['s']))[0]?.buffered).toBe(20);
    });
  });
});

describe('lmdbStore', () => {
  it('makes a store of its own for each application', async () => {
    const definition = lmdbStore({ path: lmdb.path });
    expect(definition.kind).toBe('lmdb');
    const [a, b] = await Promise.all([definition.useFactory(), definition.useFactory()]);
    expect(a).not.toBe(b);
    expect(a.name).toBe('lmdb');
  });

  it('takes its options from a factory', async () => {
    const definition = lmdbStore({ inject: ['PATH'], useFactory: (given: string) => ({ path: given }) });
    expect(definition.inject).toEqual(['PATH']);
    const store = await definition.useFactory(lmdb.path as never);
    await store.open();
    await store.close();
  });

  it('refuses nonsense', () => {
    for (const options of [{}, { path: '' }, { path: 1 }, { path: lmdb.path, maxReaders: 0 }]) {
      expect(() => lmdbStore(options as never)).toThrow(expect.objectContaining({ code: ErrorCode.InvalidOptions }));
    }
  });
});
