import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { storeContract } from '../../testing/store-contract.js';
import type { ConsumerKey, Lease, NewDeadLetter, StoredMessage } from '../stream-store.interface.js';
import { dropStream } from './streams.js';
import { LmdbEnvironment } from './environment.js';
import { lmdbStore, LmdbStreamStore } from './index.js';
import { Kind, META_KEY, prefixRange } from './keys.js';
import { encodeRecord } from './records.js';
import { redriveLetters } from './redrive.js';

let path: string;
beforeEach(() => {
  path = mkdtempSync(join(tmpdir(), 'minibatch-lmdb-'));
});
afterEach(() => rmSync(path, { recursive: true, force: true }));

storeContract({ describe, it, beforeEach, afterEach }, 'LmdbStreamStore', () => ({
  store: new LmdbStreamStore({ path }),
  another: () => new LmdbStreamStore({ path }),
  dispose: () => undefined,
}));

describe('LmdbStreamStore', () => {
  const opened: LmdbStreamStore[] = [];
  const open = async (): Promise<LmdbStreamStore> => {
    const store = new LmdbStreamStore({ path });
    await store.open();
    opened.push(store);
    return store;
  };
  afterEach(async () => {
    for (const store of opened.splice(0)) await store.close();
  });

  const all = { messages: 100_000, bytes: Number.MAX_SAFE_INTEGER };
  const key = (group = 'default'): ConsumerKey => ({ stream: 's', group, partition: 0 });
  const message = (data: unknown, extra: object = {}) => ({ stream: 's', data, created: new Date(), ...extra });
  const many = (count: number) => Array.from({ length: count }, (_, n) => message({ n }));
  const owner = { id: 'a', host: '', bootId: '', pid: 1, startTime: '' };

  const hold = async (store: LmdbStreamStore, consumer = key()): Promise<Lease> => {
    await store.registerGroup(consumer);
    const [state] = await store.readLeases([consumer]);
    return (await store.acquireLease(consumer, owner, state!))!;
  };
  const settle = async (store: LmdbStreamStore, lease: Lease, messages: readonly StoredMessage[]) => {
    const groups = await store.commit(lease, { finished: [1], progress: { lastSeq: 1, windows: 1, messages: 1 } });
    const window = { seq: 1, id: 'w', messageIds: [], created: new Date(), attempt: 1, recoveries: 0 };
    await store.settle(lease, [{ window, messages }], { groups, keep: false });
  };

  const letterOf = (given: StoredMessage): NewDeadLetter => ({
    message: given,
    window: 'w',
    consumer: 'A.b',
    attempts: 2,
    error: 'no',
    died: new Date(),
  });

  /** How many records of a kind there are, by a second environment on the same files. */
  const count = async (...kinds: Kind[]): Promise<number> => {
    const environment = await LmdbEnvironment.open(path, 126, 0o600);
    try {
      return environment.read((view) =>
        kinds.reduce((sum, kind) => sum + view.count(prefixRange(Buffer.from([kind]))), 0),
      );
    } finally {
      await environment.close();
    }
  };

  it('keeps everything when it is closed and opened again', async () => {
    const first = await open();
    const lease = await hold(first);
    await first.append([message({ n: 1 }, { dedupeId: 'x', key: 'k' })], {
      checkpoints: [{ stream: 's', source: 'f', position: 7, from: 0, to: 1 }],
    });
    await first.close();

    const second = await open();
    expect((await second.fetch(key(), undefined, all)).messages).toMatchObject([{ data: { n: 1 }, key: 'k' }]);
    expect(await second.readCheckpoint('s', 'f')).toBe(7);
    expect(await second.append([message({}, { dedupeId: 'x' })])).toEqual([{ status: 'duplicate' }]);
    expect(await second.renewLeases([lease])).toEqual([]);
  });

  it('takes the entry of the time index along when a message leaves', async () => {
    const store = await open();
    await store.registerGroup(key(), { timeOrder: true });
    const lease = await hold(store);
    await store.append(many(3));
    const { messages } = await store.fetchByTime(key(), {}, undefined, all);
    expect(await count(Kind.Time)).toBe(3);
    await settle(store, lease, messages.slice(0, 2));
    expect(await count(Kind.Time)).toBe(1);
    await settle(store, lease, messages.slice(2));
    expect(await count(Kind.Time, Kind.Message)).toBe(0);
  });

  it('leaves a letter alone that dies again while a redrive is on its way', async () => {
    const store = await open();
    const lease = await hold(store);
    await store.append(many(1_002));
    const { messages } = await store.fetch(key(), undefined, all);
    const late = messages.at(-1)!;
    // More than one transaction moves.
    await store.bury(lease, messages.slice(0, -1).map(letterOf));
    const environment = await LmdbEnvironment.open(path, 126, 0o600);
    try {
      let writes = 0;
      const interrupted = new Proxy(environment, {
        get(target, name) {
          if (name !== 'write') return Reflect.get(target, name, target) as unknown;
          return async (change: Parameters<LmdbEnvironment['write']>[0]) => {
            const answer = await target.write(change);
            if ((writes += 1) === 1) await store.bury(lease, [letterOf(late)]);
            return answer;
          };
        },
      });
      expect(await redriveLetters(interrupted, 's', {})).toBe(1_001);
      expect(writes).toBeGreaterThan(1);
    } finally {
      await environment.close();
    }
    const left = await store.deadLetters('s', {}, undefined, 10);
    expect(left.map(({ messageId }) => messageId)).toEqual([late.id]);
  });

  it('works for several stores of one process, whichever closes first', async () => {
    const stores = await Promise.all([open(), open(), open()]);
    await Promise.all(stores.map((store) => store.append(many(10))));
    await stores[0]!.close();
    await stores[1]!.append(many(1));
    await Promise.all([stores[1]!.close(), stores[2]!.close()]);
    // Opened while the last is still closing.
    const [a, b] = await Promise.all([open(), open()]);
    await b.close();
    expect((await a.stats(['s']))[0]?.buffered).toBe(31);
  });

  it('gives ids of one width', async () => {
    const store = await open();
    const outcomes = await store.append(many(20));
    const ids = outcomes.map((outcome) => (outcome.status === 'stored' ? outcome.id : ''));
    expect(new Set(ids.map((id) => id.length)).size).toBe(1);
    expect([...ids].sort()).toEqual(ids);
  });

  it('fails only the message that can not be stored', async () => {
    const store = await open();
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
    const store = await open();
    await expect(store.append([message(1)], { session: {} })).rejects.toMatchObject({
      code: ErrorCode.StoreUnsupported,
      stored: 'no',
    });
  });

  it('names a position that it can not store, and stores the others', async () => {
    const store = await open();
    const place = { stream: 's', from: 0, to: 1 };
    const append = store.append([message(1)], {
      checkpoints: [
        { ...place, source: 'bad', position: { 'a\0': 1 } },
        { ...place, source: 'good', position: 1 },
      ],
    });
    await expect(append).rejects.toMatchObject({
      code: ErrorCode.CheckpointFailed,
      outcomes: [{ status: 'stored' }],
      details: { checkpoints: [{ stream: 's', source: 'bad' }] },
    });
    expect(await store.readCheckpoint('s', 'good')).toBe(1);
    expect(await store.readCheckpoint('s', 'bad')).toBeUndefined();
  });

  it('stores a checkpoint in one step with its messages', async () => {
    const store = await open();
    // What a transaction throws takes back what it wrote: nothing of the call is there.
    const environment = await LmdbEnvironment.open(path, 126, 0o600);
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

  describe('groups', () => {
    it('leaves no marks behind when the last of several groups has committed', async () => {
      const store = await open();
      const [a, b] = [await hold(store, key('a')), await hold(store, key('b'))];
      await store.append(many(300));
      const { messages } = await store.fetch(key('a'), undefined, all);
      await settle(store, a, messages.slice(100, 200));
      expect(await count(Kind.Done)).toBe(100);
      await settle(store, a, messages.slice(0, 100));
      // Without a gap from the front on: one number says it.
      expect(await count(Kind.Done)).toBe(0);
      await settle(store, b, messages.slice(50, 150));
      await settle(store, a, messages.slice(250));
      await settle(store, b, messages.slice(150));
      await settle(store, b, messages.slice(0, 50));
      await settle(store, a, messages.slice(200, 250));
      expect(await count(Kind.Done, Kind.Message)).toBe(0);
      const [stats] = await store.stats(['s']);
      expect([stats?.buffered, ...(stats?.consumers ?? []).map(({ pending }) => pending)]).toEqual([0, 0, 0]);
    });

    it('keeps a message that one of several groups wants to keep, whichever commits last', async () => {
      const store = await open();
      const leases = [await hold(store, key('keeper')), await hold(store, key('other'))];
      await store.append(many(2));
      const { messages } = await store.fetch(key('keeper'), undefined, all);
      const window = { seq: 1, id: 'w', messageIds: [], created: new Date(), attempt: 1, recoveries: 0 };
      for (const [n, lease] of leases.entries()) {
        const groups = await store.commit(lease, { finished: [], progress: { lastSeq: 1, windows: 1, messages: 2 } });
        await store.settle(lease, [{ window, messages }], { groups, keep: n === 0 });
      }
      expect((await store.stats(['s']))[0]?.buffered).toBe(0);
      const later = new Date(Date.now() + 60_000);
      expect(await store.sweep('s', { kept: later })).toMatchObject({ messages: 2 });
    });

    it('remembers what a removed group has kept for as long as others wait for it', async () => {
      const store = await open();
      const [keeper, other] = [await hold(store, key('keeper')), await hold(store, key('other'))];
      await store.append(many(3));
      const { messages } = await store.fetch(key('keeper'), undefined, all);
      const window = { seq: 1, id: 'w', messageIds: [], created: new Date(), attempt: 1, recoveries: 0 };
      const groups = ['keeper', 'other'];
      await store.settle(keeper, [{ window, messages: messages.slice(0, 2) }], { groups, keep: true });
      await store.removeGroup('s', 'keeper');
      expect(await count(Kind.Position, Kind.Done)).toBeGreaterThan(0);
      await settle(store, other, messages);
      await store.close();
      // What was left to clean up.
      const again = await open();
      expect(await count(Kind.Cleanup, Kind.Done)).toBe(0);
      expect(await again.sweep('s', { kept: new Date(Date.now() + 60_000) })).toMatchObject({ messages: 2 });
    });

    it('lets more messages go than fit into one transaction when a group is removed', async () => {
      const store = await open();
      const lease = await hold(store, key('fast'));
      await hold(store, key('dead'));
      await store.append(many(12_000));
      await store.append([message({ n: 'deduped' }, { dedupeId: 'x' }), message({ n: 'left' })]);
      const { messages } = await store.fetch(key('fast'), undefined, all);
      await settle(store, lease, messages.slice(0, -1));
      expect((await store.stats(['s']))[0]?.buffered).toBe(12_002);
      await store.removeGroup('s', 'dead');
      const [stats] = await store.stats(['s']);
      expect([stats?.buffered, stats?.consumers[0]?.pending]).toEqual([1, 1]);
      expect(await count(Kind.Message, Kind.Cleanup)).toBe(1);
      expect(await count(Kind.Tombstone)).toBe(1);
      expect(await store.append([message({}, { dedupeId: 'x' })])).toEqual([{ status: 'duplicate' }]);
    });
  });

  describe('dead letters', () => {
    const letters = (store: LmdbStreamStore) => store.deadLetters('s', {}, undefined, 100_000);

    it('go over to the group that replaces theirs without a write of their own, for good', async () => {
      const first = await open();
      const lease = await hold(first);
      await first.append(many(3_000));
      const { messages } = await first.fetch(key(), undefined, all);
      await first.bury(lease, messages.map(letterOf));
      const before = await letters(first);
      await first.registerGroup(key('heir'), { replaces: 'default' });
      await first.close();

      const second = await open();
      expect(await letters(second)).toEqual(before.map((letter) => ({ ...letter, group: 'heir' })));
      // The new holder handles the window again, for it was not committed: nothing is buried twice.
      await second.bury(await hold(second, key('heir')), messages.map(letterOf));
      expect(await count(Kind.Letter, Kind.Buried)).toBe(6_000);
      expect((await second.stats(['s']))[0]?.deadLetters).toBe(3_000);
      expect(await second.redrive('s', { group: 'heir' })).toBe(3_000);
      expect(await count(Kind.Letter, Kind.Buried)).toBe(0);
    });

    it('keep their group when it is replaced while they are redriven', async () => {
      const store = await open();
      const lease = await hold(store);
      await store.append(many(2_500));
      const { messages } = await store.fetch(key(), undefined, all);
      await store.bury(lease, messages.map(letterOf));
      await settle(store, lease, messages);
      const [moved] = await Promise.all([
        store.redrive('s', {}),
        store.registerGroup(key('heir'), { replaces: 'default' }),
      ]);
      const rest = await store.redrive('s', { group: 'heir' });
      expect(moved + rest).toBe(2_500);
      expect((await store.fetch(key('heir'), undefined, all)).messages).toHaveLength(2_500);
    });
    const bury = async (store: LmdbStreamStore, lease: Lease) => {
      const { messages } = await store.fetch(lease.key, undefined, all);
      await store.bury(lease, messages.map(letterOf));
      await settle(store, lease, messages);
    };

    it('keeps them when it is closed and opened again', async () => {
      const first = await open();
      const lease = await hold(first);
      await first.append(many(3));
      await bury(first, lease);
      const before = await letters(first);
      await first.close();

      const second = await open();
      expect(await letters(second)).toEqual(before);
      expect((await second.stats(['s']))[0]?.deadLetters).toBe(3);
      await second.redrive('s', { ids: [before[1]!.id] });
      await second.close();
      const third = await open();
      expect((await third.fetch(key(), undefined, all)).messages.map(({ data }) => data)).toEqual([{ n: 1 }]);
      expect((await letters(third)).map(({ data }) => data)).toEqual([{ n: 0 }, { n: 2 }]);
    });

    it('buries nothing for a lease that is lost', async () => {
      const store = await open();
      const lease = await hold(store);
      await store.append(many(2));
      const { messages } = await store.fetch(key(), undefined, all);
      const [state] = await store.readLeases([key()]);
      await store.acquireLease(key(), { ...owner, id: 'b' }, state!);
      const late = store.bury(lease, messages.map(letterOf));
      await expect(late).rejects.toMatchObject({ code: ErrorCode.LeaseLost });
      expect(await count(Kind.Letter, Kind.Buried, Kind.DeadLetterCounter)).toBe(0);
    });

    it('leaves no records behind when they were redriven and committed, or discarded', async () => {
      const store = await open();
      await hold(store, key('idle'));
      const [a, b] = [await hold(store, key('a')), await hold(store, key('b'))];
      await store.append(many(30));
      for (const lease of [a, b]) await bury(store, lease);
      await store.removeGroup('s', 'idle');
      expect(await store.redrive('s', {})).toBe(60);
      expect(await count(Kind.Message)).toBe(60);
      for (const lease of [b, a]) {
        const { messages } = await store.fetch(lease.key, undefined, all);
        expect(messages).toHaveLength(30);
        await settle(store, lease, messages);
      }
      expect(await count(Kind.Message, Kind.Done, Kind.Letter, Kind.Buried)).toBe(0);
      const [stats] = await store.stats(['s']);
      expect(stats?.consumers.map(({ pending }) => pending)).toEqual([0, 0]);
      await store.append(many(5));
      await bury(store, a);
      expect(await count(Kind.Letter, Kind.Buried)).toBe(10);
      expect(await store.discard('s', { group: 'a' })).toBe(5);
      expect(await count(Kind.Letter, Kind.Buried)).toBe(0);
    });

    it('passes marks without a gap in one number when messages come back to another group', async () => {
      const store = await open();
      const [a, b] = [await hold(store, key('a')), await hold(store, key('b'))];
      await store.append(many(100));
      await bury(store, a);
      await settle(store, b, (await store.fetch(key('b'), undefined, all)).messages);
      expect(await store.redrive('s', {})).toBe(100);
      expect(await count(Kind.Done)).toBe(0);
      expect((await store.fetch(key('b'), undefined, all)).messages).toEqual([]);
      expect((await store.fetch(key('a'), undefined, all)).messages).toHaveLength(100);
    });

    it('moves more than one transaction should hold', async () => {
      const store = await open();
      const lease = await hold(store);
      const large = 'x'.repeat(3 * 1024 * 1024);
      for (let n = 0; n < 12; n += 1) await store.append([message({ n, large })]);
      await bury(store, lease);
      expect(await store.redrive('s', {})).toBe(12);
      const { messages } = await store.fetch(key(), undefined, all);
      expect(messages.map(({ data }) => (data as { n: number }).n)).toEqual([...Array(12).keys()]);
      expect(await letters(store)).toEqual([]);
    });

    it('keeps times of any kind, and picks by them', async () => {
      const store = await open();
      const lease = await hold(store);
      const times = [-8.64e15, -1, 0, 1, 1.7e12, 8.64e15].map((time) => new Date(time));
      await store.append(many(times.length));
      const { messages } = await store.fetch(key(), undefined, all);
      await store.bury(
        lease,
        messages.map((each, n) => ({ ...letterOf(each), died: times[n]! })),
      );
      expect((await letters(store)).map(({ died }) => died)).toEqual(times);
      for (const [n, before] of times.entries()) {
        expect(await store.deadLetters('s', { before }, undefined, 10)).toHaveLength(n);
      }
    });
  });

  it('goes on with a removal that a process did not live to finish', async () => {
    const store = await open();
    const lease = await hold(store);
    await store.append([...many(50), message(1, { dedupeId: 'x' })]);
    await store.bury(lease, (await store.fetch(key(), undefined, all)).messages.slice(0, 3).map(letterOf));
    const environment = await LmdbEnvironment.open(path, 126, 0o600);
    await environment.write((view) => dropStream(view, 's'));
    await environment.close();
    await store.close();
    expect(await count(Kind.Message, Kind.Cleanup)).toBe(52);

    const next = await open();
    expect(await next.describeStream('s')).toBeUndefined();
    const rest = Object.values(Kind).filter((kind) => kind !== Kind.Meta);
    expect(await count(...rest)).toBe(0);
  });

  describe('what can go wrong', () => {
    it('says which path it can not use, and what to give', async () => {
      const file = join(path, 'file');
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
      const data = join(path, 'data.mdb');
      // lmdb-js would end the process.
      for (const content of ['?', 'this is something else'.repeat(1000), Buffer.alloc(100_000)]) {
        writeFileSync(data, content);
        await expect(new LmdbStreamStore({ path }).open()).rejects.toMatchObject({ code: ErrorCode.StorePath });
      }
      rmSync(data);
      mkdirSync(data);
      await expect(new LmdbStreamStore({ path }).open()).rejects.toMatchObject({ code: ErrorCode.StorePath });
      rmSync(data, { recursive: true });
      // An empty file is what a process leaves that dies at the very first step.
      writeFileSync(data, '');
      await (await open()).ensureStream('s');
    });

    it('opens after a failure once the cause is gone', async () => {
      const file = join(path, 'file');
      writeFileSync(file, '');
      const store = new LmdbStreamStore({ path: file });
      await expect(store.open()).rejects.toMatchObject({ code: ErrorCode.StorePath });
      rmSync(file);
      await store.open();
      opened.push(store);
      await store.ensureStream('s');
    });

    it('refuses what a newer version wrote', async () => {
      const environment = await LmdbEnvironment.open(path, 126, 0o600);
      await environment.write((view) => view.put(META_KEY, encodeRecord({ version: 99, lastStream: 0 })));
      await environment.close();
      await expect(new LmdbStreamStore({ path }).open()).rejects.toMatchObject({ code: ErrorCode.SchemaTooNew });
    });

    it('says that it is not open', async () => {
      const store = new LmdbStreamStore({ path });
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

    it('finishes what is under way when it is closed', async () => {
      const store = await open();
      const appends = Array.from({ length: 20 }, (_, n) => store.append([message({ n })]));
      await store.close();
      const outcomes = (await Promise.all(appends)).flat();
      expect(outcomes.every(({ status }) => status === 'stored')).toBe(true);
      expect((await (await open()).stats(['s']))[0]?.buffered).toBe(20);
    });
  });
});

describe('lmdbStore', () => {
  it('makes a store of its own for each application', async () => {
    const definition = lmdbStore({ path });
    expect(definition.kind).toBe('lmdb');
    const [a, b] = await Promise.all([definition.useFactory(), definition.useFactory()]);
    expect(a).not.toBe(b);
    expect(a.name).toBe('lmdb');
  });

  it('takes its options from a factory', async () => {
    const definition = lmdbStore({ inject: ['PATH'], useFactory: (given: string) => ({ path: given }) });
    expect(definition.inject).toEqual(['PATH']);
    const store = await definition.useFactory(path as never);
    await store.open();
    await store.close();
  });

  it('refuses nonsense', () => {
    for (const options of [{}, { path: '' }, { path: 1 }, { path, maxReaders: 0 }]) {
      expect(() => lmdbStore(options as never)).toThrow(expect.objectContaining({ code: ErrorCode.InvalidOptions }));
    }
  });
});
