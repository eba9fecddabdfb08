import { describe, expect, it } from 'vitest';
import { Kind } from './keys.js';
import { ALL, hold, key, many, message, settle, useLmdb } from './lmdb.spec.support.js';

const lmdb = useLmdb();

describe('groups of the LMDB store', () => {
  it('leaves no marks behind when the last of several groups has committed', async () => {
    const store = await lmdb.open();
    const [a, b] = [await hold(store, key('a')), await hold(store, key('b'))];
    await store.append(many(300));
    const { messages } = await store.fetch(key('a'), undefined, ALL);
    await settle(store, a, messages.slice(100, 200));
    expect(await lmdb.count(Kind.Done)).toBe(100);
    await settle(store, a, messages.slice(0, 100));
    // Without a gap from the front on: one number says it.
    expect(await lmdb.count(Kind.Done)).toBe(0);
    await settle(store, b, messages.slice(50, 150));
    await settle(store, a, messages.slice(250));
    await settle(store, b, messages.slice(150));
    await settle(store, b, messages.slice(0, 50));
    await settle(store, a, messages.slice(200, 250));
    expect(await lmdb.count(Kind.Done, Kind.Message)).toBe(0);
    const [stats] = await store.stats(['s']);
    expect([stats?.buffered, ...(stats?.consumers ?? []).map(({ pending }) => pending)]).toEqual([0, 0, 0]);
  });

  it('keeps a message that one of several groups wants to keep, whichever commits last', async () => {
    const store = await lmdb.open();
    const leases = [await hold(store, key('keeper')), await hold(store, key('other'))];
    await store.append(many(2));
    const { messages } = await store.fetch(key('keeper'), undefined, ALL);
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
    const store = await lmdb.open();
    const [keeper, other] = [await hold(store, key('keeper')), await hold(store, key('other'))];
    await store.append(many(3));
    const { messages } = await store.fetch(key('keeper'), undefined, ALL);
    const window = { seq: 1, id: 'w', messageIds: [], created: new Date(), attempt: 1, recoveries: 0 };
    const groups = ['keeper', 'other'];
    await store.settle(keeper, [{ window, messages: messages.slice(0, 2) }], { groups, keep: true });
    await store.removeGroup('s', 'keeper');
    expect(await lmdb.count(Kind.Position, Kind.Done)).toBeGreaterThan(0);
    await settle(store, other, messages);
    await store.close();
    // What was left to clean up.
    const again = await lmdb.open();
    expect(await lmdb.count(Kind.Cleanup, Kind.Done, Kind.Position)).toBe(0);
    expect(await again.sweep('s', { kept: new Date(Date.now() + 60_000) })).toMatchObject({ messages: 2 });
  });

  it('lets more messages go than fit into one transaction when a group is removed', async () => {
    const store = await lmdb.open();
    const lease = await hold(store, key('fast'));
    await hold(store, key('dead'));
    await store.append(many(12_000));
    await store.append([message({ n: 'deduped' }, { dedupeId: 'x' }), message({ n: 'left' })]);
    const { messages } = await store.fetch(key('fast'), undefined, ALL);
    await settle(store, lease, messages.slice(0, -1));
    expect((await store.stats(['s']))[0]?.buffered).toBe(12_002);
    await store.removeGroup('s', 'dead');
    const [stats] = await store.stats(['s']);
    expect([stats?.buffered, stats?.consumers[0]?.pending]).toEqual([1, 1]);
    expect(await lmdb.count(Kind.Message, Kind.Cleanup)).toBe(1);
    expect(await lmdb.count(Kind.Tombstone)).toBe(1);
    expect(await store.append([message({}, { dedupeId: 'x' })])).toEqual([{ status: 'duplicate' }]);
  });
});
