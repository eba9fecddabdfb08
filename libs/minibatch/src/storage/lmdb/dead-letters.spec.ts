import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../../errors/minibatch.error.js';
import type { Lease } from '../stream-store.interface.js';
import { LmdbEnvironment } from './environment.js';
import { Kind } from './keys.js';
import type { LmdbStreamStore } from './lmdb.store.js';
import { redriveLetters } from './redrive.js';
import { ALL, hold, key, letterOf, many, message, OWNER, settle, useLmdb } from './lmdb.spec.support.js';

const lmdb = useLmdb();

describe('dead letters of the LMDB store', () => {
  const letters = (store: LmdbStreamStore) => store.deadLetters('s', {}, undefined, 100_000);

  it('go over to the group that replaces theirs without a write of their own, for good', async () => {
    const first = await lmdb.open();
    const lease = await hold(first);
    await first.append(many(3_000));
    const { messages } = await first.fetch(key(), undefined, ALL);
    await first.bury(lease, messages.map(letterOf));
    const before = await letters(first);
    await first.registerGroup(key('heir'), { replaces: 'default' });
    await first.close();

    const second = await lmdb.open();
    expect(await letters(second)).toEqual(before.map((letter) => ({ ...letter, group: 'heir' })));
    // The new holder handles the window again, for it was not committed: nothing is buried twice.
    await second.bury(await hold(second, key('heir')), messages.map(letterOf));
    expect(await lmdb.count(Kind.Letter, Kind.Buried)).toBe(6_000);
    expect((await second.stats(['s']))[0]?.deadLetters).toBe(3_000);
    expect(await second.redrive('s', { group: 'heir' })).toBe(3_000);
    expect(await lmdb.count(Kind.Letter, Kind.Buried)).toBe(0);
  });

  it('keep their group when it is replaced while they are redriven', async () => {
    const store = await lmdb.open();
    const lease = await hold(store);
    await store.append(many(2_500));
    const { messages } = await store.fetch(key(), undefined, ALL);
    await store.bury(lease, messages.map(letterOf));
    await settle(store, lease, messages);
    const [moved] = await Promise.all([
      store.redrive('s', {}),
      store.registerGroup(key('heir'), { replaces: 'default' }),
    ]);
    const rest = await store.redrive('s', { group: 'heir' });
    expect(moved + rest).toBe(2_500);
    expect((await store.fetch(key('heir'), undefined, ALL)).messages).toHaveLength(2_500);
  });
  const bury = async (store: LmdbStreamStore, lease: Lease) => {
    const { messages } = await store.fetch(lease.key, undefined, ALL);
    await store.bury(lease, messages.map(letterOf));
    await settle(store, lease, messages);
  };

  it('keeps them when it is closed and opened again', async () => {
    const first = await lmdb.open();
    const lease = await hold(first);
    await first.append(many(3));
    await bury(first, lease);
    const before = await letters(first);
    await first.close();

    const second = await lmdb.open();
    expect(await letters(second)).toEqual(before);
    expect((await second.stats(['s']))[0]?.deadLetters).toBe(3);
    await second.redrive('s', { ids: [before[1]!.id] });
    await second.close();
    const third = await lmdb.open();
    expect((await third.fetch(key(), undefined, ALL)).messages.map(({ data }) => data)).toEqual([{ n: 1 }]);
    expect((await letters(third)).map(({ data }) => data)).toEqual([{ n: 0 }, { n: 2 }]);
  });

  it('buries nothing for a lease that is lost', async () => {
    const store = await lmdb.open();
    const lease = await hold(store);
    await store.append(many(2));
    const { messages } = await store.fetch(key(), undefined, ALL);
    const [state] = await store.readLeases([key()]);
    await store.acquireLease(key(), { ...OWNER, id: 'b' }, state!);
    const late = store.bury(lease, messages.map(letterOf));
    await expect(late).rejects.toMatchObject({ code: ErrorCode.LeaseLost });
    expect(await lmdb.count(Kind.Letter, Kind.Buried, Kind.DeadLetterCounter)).toBe(0);
  });

  it('leaves no records behind when they were redriven and committed, or discarded', async () => {
    const store = await lmdb.open();
    await hold(store, key('idle'));
    const [a, b] = [await hold(store, key('a')), await hold(store, key('b'))];
    await store.append(many(30));
    for (const lease of [a, b]) await bury(store, lease);
    await store.removeGroup('s', 'idle');
    expect(await store.redrive('s', {})).toBe(60);
    expect(await lmdb.count(Kind.Message)).toBe(60);
    for (const lease of [b, a]) {
      const { messages } = await store.fetch(lease.key, undefined, ALL);
      expect(messages).toHaveLength(30);
      await settle(store, lease, messages);
    }
    expect(await lmdb.count(Kind.Message, Kind.Done, Kind.Letter, Kind.Buried)).toBe(0);
    const [stats] = await store.stats(['s']);
    expect(stats?.consumers.map(({ pending }) => pending)).toEqual([0, 0]);
    await store.append(many(5));
    await bury(store, a);
    expect(await lmdb.count(Kind.Letter, Kind.Buried)).toBe(10);
    expect(await store.discard('s', { group: 'a' })).toBe(5);
    expect(await lmdb.count(Kind.Letter, Kind.Buried)).toBe(0);
  });

  it('passes marks without a gap in one number when messages come back to another group', async () => {
    const store = await lmdb.open();
    const [a, b] = [await hold(store, key('a')), await hold(store, key('b'))];
    await store.append(many(100));
    await bury(store, a);
    await settle(store, b, (await store.fetch(key('b'), undefined, ALL)).messages);
    expect(await store.redrive('s', {})).toBe(100);
    expect(await lmdb.count(Kind.Done)).toBe(0);
    expect((await store.fetch(key('b'), undefined, ALL)).messages).toEqual([]);
    expect((await store.fetch(key('a'), undefined, ALL)).messages).toHaveLength(100);
  });

  it('moves more than one transaction should hold', async () => {
    const store = await lmdb.open();
    const lease = await hold(store);
    const large = 'x'.repeat(3 * 1024 * 1024);
    for (let n = 0; n < 12; n += 1) await store.append([message({ n, large })]);
    await bury(store, lease);
    expect(await store.redrive('s', {})).toBe(12);
    const { messages } = await store.fetch(key(), undefined, ALL);
    expect(messages.map(({ data }) => (data as { n: number }).n)).toEqual([...Array(12).keys()]);
    expect(await letters(store)).toEqual([]);
  });

  it('keeps times of any kind, and picks by them', async () => {
    const store = await lmdb.open();
    const lease = await hold(store);
    const times = [-8.64e15, -1, 0, 1, 1.7e12, 8.64e15].map((time) => new Date(time));
    await store.append(many(times.length));
    const { messages } = await store.fetch(key(), undefined, ALL);
    await store.bury(
      lease,
      messages.map((each, n) => ({ ...letterOf(each), died: times[n]! })),
    );
    expect((await letters(store)).map(({ died }) => died)).toEqual(times);
    for (const [n, before] of times.entries()) {
      expect(await store.deadLetters('s', { before }, undefined, 10)).toHaveLength(n);
    }
  });

  it('leaves a letter alone that dies again while a redrive is on its way', async () => {
    const store = await lmdb.open();
    const lease = await hold(store);
    await store.append(many(1_002));
    const { messages } = await store.fetch(key(), undefined, ALL);
    const late = messages.at(-1)!;
    // More than one transaction moves.
    await store.bury(lease, messages.slice(0, -1).map(letterOf));
    const environment = await LmdbEnvironment.open(lmdb.path, 126, 0o600);
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
});
