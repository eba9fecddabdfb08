import { mongo } from 'mongoose';
import { describe, expect, it, vi } from 'vitest';
import {
  appendAll,
  dataOf,
  keyOf,
  messageOf,
  openStore,
  useStore,
  RIVAL,
  takeLease,
  windowOf,
} from '../../../../../test/support/mongoose-store.js';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { NO_PROGRESS, type Lease, type SettledWindow } from '../stream-store.interface.js';

const KEY = keyOf('flights');
const AUDIT = keyOf('flights', 'audit');
const LIMITS = { messages: 1000, bytes: 2 ** 24 };

describe('claim, commit and settle', () => {
  const test = useStore();

  const count = (collection: string, filter = {}) => test.connection.collection(collection).countDocuments(filter);

  /** Reads what waits for the consumer and claims it as one window. */
  async function claimAll(lease: Lease, seq = 1): Promise<SettledWindow> {
    const { messages } = await test.store.fetch(lease.key, undefined, LIMITS);
    const window = windowOf(
      seq,
      messages.map(({ id }) => id),
    );
    await test.store.claim(lease, [window]);
    return { window, messages };
  }

  async function commit(lease: Lease, { window, messages }: SettledWindow): Promise<readonly string[]> {
    const progress = { lastSeq: window.seq, windows: 1, messages: messages.length };
    return test.store.commit(lease, { finished: [window.seq], progress });
  }

  const keptData = async () =>
    (await test.store.readKept('flights', undefined, LIMITS)).messages.map(({ data }) => data);

  it('may repeat a claim whose answer was lost', async () => {
    const lease = await takeLease(test.store, KEY);
    await appendAll(test.store, [messageOf('flights', 1)]);
    const { window } = await claimAll(lease);
    await test.store.claim(lease, [window, windowOf(2, [])]);
    expect(await count('window')).toBe(2);
  });

  it('finishes a settle that died half-way without giving its messages back', async () => {
    const { store } = test;
    const first = await takeLease(store, KEY);
    await appendAll(
      store,
      Array.from({ length: 100 }, (_, i) => messageOf('flights', i)),
    );
    const settled = await claimAll(first);
    await commit(first, settled);
    // 40 of 100 messages have left when the process dies.
    const gone = settled.messages.slice(0, 40);
    await store.settle(first, [{ window: windowOf(99, []), messages: gone }], { groups: ['default'], keep: false });

    const second = await takeLease(store, KEY, RIVAL);
    const recovery = await store.recover(second);
    expect(recovery.open).toEqual([]);
    expect(recovery.finished.map(({ seq }) => seq)).toEqual([1]);
    const [window] = recovery.finished;
    if (!window) throw new Error('no window');
    const messages = await store.load(KEY, window.messageIds);
    expect(messages).toHaveLength(60);
    await store.settle(second, [{ window, messages }], { groups: recovery.groups, keep: false });
    expect([await count('buffer'), await count('window')]).toEqual([0, 0]);
  });

  it('finishes the last of several groups, which died after it had marked its messages', async () => {
    const { store } = test;
    const other = await takeLease(store, AUDIT);
    const first = await takeLease(store, KEY);
    await appendAll(store, [messageOf('flights', 1), messageOf('flights', 2, { dedupeId: 'a' })]);
    const settled = await claimAll(first);
    const audited = await claimAll(other);
    const closing = AbortSignal.abort();
    await store.settle(other, [audited], { groups: await commit(other, audited), keep: false, closing });

    // In another process, which does not know that the other group is done: it marks, and ends before it removes.
    const dying = await openStore({ database: test.database });
    const groups = await commit(first, settled);
    // The look at the marks.
    const look = vi.spyOn(mongo.Collection.prototype, 'find').mockImplementation(() => {
      throw new Error('killed');
    });
    try {
      await expect(dying.store.settle(first, [settled], { groups, keep: false })).rejects.toThrow('killed');
    } finally {
      look.mockRestore();
    }
    expect(await count('buffer', { done: { $all: ['default', 'audit'] }, processed: false })).toBe(2);

    const second = await takeLease(store, KEY, RIVAL);
    const recovery = await store.recover(second);
    const windows = recovery.finished.map((window) => ({ window, messages: [] }));
    expect(await store.load(KEY, settled.window.messageIds)).toEqual([]);
    await store.settle(second, windows, { groups: recovery.groups, keep: false });
    expect([await count('buffer', { processed: false }), await count('window')]).toEqual([0, 0]);
    expect(await count('buffer', { processed: true, dedupeKey: 'flights\0a' })).toBe(1);
    await dying.store.close();
  });

  it('lets a former holder neither commit, reschedule nor take windows away, and its late claim is void', async () => {
    const { store } = test;
    const first = await takeLease(store, KEY);
    await appendAll(store, [messageOf('flights', 1)]);
    const claimed = await claimAll(first);
    const second = await takeLease(store, KEY, RIVAL);
    expect((await store.recover(second)).open).toHaveLength(1);

    await expect(commit(first, claimed)).rejects.toMatchObject({ code: ErrorCode.LeaseLost });
    await expect(store.reschedule(first, claimed.window)).rejects.toMatchObject({ code: ErrorCode.LeaseLost });
    await expect(store.recover(first)).rejects.toMatchObject({ code: ErrorCode.LeaseLost });
    await store.claim(first, [windowOf(2, [])]);
    await store.claim(second, [windowOf(2, claimed.window.messageIds)]);
    expect((await store.stats(['flights']))[0]).toMatchObject({ consumers: [{ openWindows: 2 }] });

    const third = await takeLease(store, KEY);
    const { open } = await store.recover(third);
    expect(open.map(({ seq, messageIds }) => [seq, messageIds.length])).toEqual([
      [1, 1],
      [2, 1],
    ]);
    expect(await count('window')).toBe(2);
  });

  it('removes adopted windows, whose ids carry another fence', async () => {
    const { store } = test;
    const first = await takeLease(store, KEY);
    await appendAll(store, [messageOf('flights', 1)]);
    await claimAll(first);
    const second = await takeLease(store, KEY, RIVAL);
    const { open } = await store.recover(second);
    const [window] = open;
    if (!window) throw new Error('no window');
    const settled = { window, messages: await store.load(KEY, window.messageIds) };
    await store.settle(second, [settled], { groups: await commit(second, settled), keep: false });
    expect([await count('buffer'), await count('window')]).toEqual([0, 0]);
  });

  it('turns a deduped message into a tombstone that is swept later', async () => {
    const { store } = test;
    const lease = await takeLease(store, KEY);
    await appendAll(store, [messageOf('flights', 'secret', { dedupeId: 'a', key: 'k', headers: { h: 'v' } })]);
    const settled = await claimAll(lease);
    await store.settle(lease, [settled], { groups: await commit(lease, settled), keep: false });
    const tombstone = await test.connection.collection('buffer').findOne({});
    expect(tombstone).toMatchObject({ processed: true, dedupeKey: 'flights\0a' });
    expect(tombstone).not.toHaveProperty('data');
    expect(tombstone).not.toHaveProperty('key');
    expect(await dataOf(store, KEY)).toEqual([]);
    expect((await store.append([messageOf('flights', 1, { dedupeId: 'a' })]))[0]?.status).toBe('duplicate');

    expect((await store.sweep('flights', { tombstones: new Date(0) })).tombstones).toBe(0);
    expect((await store.sweep('flights', { tombstones: new Date(Date.now() + 1000) })).tombstones).toBe(1);
    expect((await store.append([messageOf('flights', 1, { dedupeId: 'a' })]))[0]?.status).toBe('stored');
  });

  it('keeps messages and windows, and a swept message is still remembered by its dedupe id', async () => {
    const { store } = test;
    const lease = await takeLease(store, KEY);
    await appendAll(store, [messageOf('flights', 1), messageOf('flights', 2, { dedupeId: 'a' })]);
    const settled = await claimAll(lease);
    await store.settle(lease, [settled], { groups: await commit(lease, settled), keep: true });
    expect(await dataOf(store, KEY)).toEqual([]);
    expect(await count('buffer', { processed: true, data: { $exists: true } })).toBe(2);
    expect(await test.connection.collection('window').findOne({})).toMatchObject({ processed: true, data: [1, 2] });
    expect((await store.recover(await takeLease(store, KEY, RIVAL))).open).toEqual([]);

    const later = new Date(Date.now() + 1000);
    expect(await store.sweep('flights', { kept: later })).toEqual({ tombstones: 0, messages: 2, windows: 1 });
    expect((await store.append([messageOf('flights', 3, { dedupeId: 'a' })]))[0]?.status).toBe('duplicate');
    expect(await store.sweep('flights', { kept: later, tombstones: later })).toMatchObject({ tombstones: 1 });
  });

  it('keeps for one group what another group commits last', async () => {
    const { store } = test;
    const keeper = await takeLease(store, KEY);
    const audit = await takeLease(store, AUDIT);
    await appendAll(store, [messageOf('flights', 1)]);
    const kept = await claimAll(keeper);
    await store.settle(keeper, [kept], { groups: await commit(keeper, kept), keep: true });
    expect(await dataOf(store, AUDIT)).toEqual([1]);
    const last = await claimAll(audit);
    await store.settle(audit, [last], { groups: await commit(audit, last), keep: false });
    expect(await count('buffer', { processed: true, keep: true })).toBe(1);
  });

  it('marks nothing that leaves as kept while the mark waits for its turn', async () => {
    const { store } = test;
    const keeper = await takeLease(store, KEY);
    const audit = await takeLease(store, AUDIT);
    await appendAll(store, [messageOf('flights', 1), messageOf('flights', 2, { dedupeId: 'a' })]);
    const [kept, other] = [await claimAll(keeper), await claimAll(audit)];
    const groups = await commit(audit, other);
    await commit(keeper, kept);
    test.commands();
    await Promise.all([
      store.settle(audit, [other], { groups, keep: false, closing: AbortSignal.abort() }),
      store.settle(keeper, [kept], { groups, keep: true }),
    ]);
    expect(await keptData()).toEqual([1, 2]);
    expect(await count('buffer', { done: { $exists: true } })).toBe(0);
    // The update that keeps the messages and the one that keeps the window.
    expect(test.commands().filter((name) => name === 'update')).toHaveLength(2);
  });

  it('shows what is kept also while a former holder in another process marks it', async () => {
    const { store } = test;
    const keeper = await takeLease(store, KEY);
    const audit = await takeLease(store, AUDIT);
    await appendAll(store, [messageOf('flights', 1)]);
    const [kept, other] = [await claimAll(keeper), await claimAll(audit)];
    const former = await openStore({ database: test.database });
    const messages = await former.store.load(AUDIT, other.window.messageIds);
    const groups = await commit(audit, other);
    await commit(keeper, kept);
    await store.settle(audit, [other], { groups, keep: false, closing: AbortSignal.abort() });
    await store.settle(keeper, [kept], { groups, keep: true });

    // It marks, and ends before it finds that the message has left.
    const look = vi.spyOn(mongo.Collection.prototype, 'find').mockImplementation(() => {
      throw new Error('killed');
    });
    try {
      const late = former.store.settle(audit, [{ ...other, messages }], { groups, keep: false });
      await expect(late).rejects.toThrow('killed');
    } finally {
      look.mockRestore();
    }
    expect(await count('buffer', { processed: true, waits: { $exists: true } })).toBe(1);
    expect(await keptData()).toEqual([1]);
    expect(await store.replay('flights', 'audit', {})).toBe(1);
    await former.store.close();
  });

  it('does not keep what is only a tombstone by now', async () => {
    const { store } = test;
    const keeper = await takeLease(store, KEY);
    const audit = await takeLease(store, AUDIT);
    await appendAll(store, [messageOf('flights', 1, { dedupeId: 'a' })]);
    const [late, other] = [await claimAll(keeper), await claimAll(audit)];
    const groups = await commit(keeper, late);
    await store.removeGroup('flights', 'default');
    await store.settle(audit, [other], { groups: await commit(audit, other), keep: false });
    await store.settle(keeper, [late], { groups, keep: true });
    expect(await keptData()).toEqual([]);
    const later = new Date(Date.now() + 1000);
    expect(await store.sweep('flights', { kept: later, tombstones: later })).toMatchObject({
      messages: 0,
      tombstones: 1,
    });
  });

  it('shows again, after the next sweep, what an earlier version kept and then marked', async () => {
    const { store, connection } = test;
    const lease = await takeLease(store, KEY);
    await appendAll(
      store,
      [1, 2, 3, 4].map((n) => messageOf('flights', n)),
    );
    const settled = await claimAll(lease);
    await store.settle(lease, [settled], { groups: await commit(lease, settled), keep: true });
    const buffer = connection.collection('buffer');
    await buffer.updateMany({ data: { $lt: 3 } }, { $set: { done: ['b'], waits: ['a', 'c'] } });
    await buffer.updateMany({ data: 4 }, { $set: { waits: [] } });
    // A dead letter's copy that is still hidden has such lists, too.
    const hidden = { stream: 'flights', processed: true, redrives: ['letter'], done: ['b'], waits: ['a'], data: 5 };
    await buffer.insertOne(hidden);
    expect(await keptData()).toEqual([3]);
    await store.sweep('flights', {});
    expect(await keptData()).toEqual([1, 2, 3, 4]);
    expect(await buffer.findOne({ data: 5 })).toMatchObject({ done: ['b'], waits: ['a'] });
  });

  it('removes a message with the last of two groups that commit at the same time', async () => {
    const { store } = test;
    const one = await takeLease(store, KEY);
    const two = await takeLease(store, AUDIT);
    await appendAll(
      store,
      Array.from({ length: 50 }, (_, i) => messageOf('flights', i)),
    );
    const [a, b] = [await claimAll(one), await claimAll(two)];
    await Promise.all([
      store.settle(one, [a], { groups: await commit(one, a), keep: false }),
      store.settle(two, [b], { groups: await commit(two, b), keep: false }),
    ]);
    expect(await count('buffer')).toBe(0);
  });

  it('removes at once what was read with the marks of all others', async () => {
    const { store, commands } = test;
    const one = await takeLease(store, KEY);
    const two = await takeLease(store, AUDIT);
    await appendAll(store, [messageOf('flights', 1)]);
    const a = await claimAll(one);
    await store.settle(one, [a], { groups: await commit(one, a), keep: false });
    const b = await claimAll(two);
    expect(await test.connection.collection('buffer').findOne({})).toMatchObject({ waits: ['audit'] });
    const groups = await commit(two, b);
    commands();
    await store.settle(two, [b], { groups, keep: false });
    expect(commands()).toEqual(['delete', 'delete']);
  });

  it('begins anew with a window that an earlier version has taken apart', async () => {
    const { store } = test;
    const lease = await takeLease(store, KEY);
    await store.claim(lease, [windowOf(1, [])]);
    const split = { pending: [{ from: 0, to: 2, failures: 1 }], failed: [{ index: 3, error: 'boom' }] };
    await test.connection.collection('window').updateOne({}, { $set: { split, attempt: 5 } });
    const [window] = (await store.recover(lease)).open;
    expect(window).toMatchObject({ seq: 1, attempt: 5 });
    expect(window).not.toHaveProperty('split');
    await store.reschedule(lease, windowOf(1, [], { attempt: 6 }));
    expect(await test.connection.collection('window').findOne({})).not.toHaveProperty('split');
  });

  it('stores attempt, error, next try and split, and forgets them', async () => {
    const { store } = test;
    const lease = await takeLease(store, KEY);
    await store.claim(lease, [windowOf(1, [], { start: new Date(0), end: new Date(1000), part: 1, late: true })]);
    const nextTry = new Date(5000);
    const split = { pending: [{ from: 0, to: 2 }], alone: [], again: [{ from: 3, to: 4 }], last: false };
    const aside = new Date(6000);
    await store.reschedule(lease, windowOf(1, [], { attempt: 2, recoveries: 1, nextTry, error: 'boom', split, aside }));
    const failing = await store.recover(lease);
    expect(failing.open[0]).toMatchObject({ attempt: 2, recoveries: 1, nextTry, error: 'boom', part: 1, late: true });
    expect(failing.open[0]).toMatchObject({ split, aside });
    await store.reschedule(lease, windowOf(1, [], { attempt: 3 }));
    const [window] = (await store.recover(lease)).open;
    expect(window).not.toHaveProperty('nextTry');
    expect(window).not.toHaveProperty('error');
    expect(window).not.toHaveProperty('split');
    expect(window).not.toHaveProperty('aside');
    const stored = await test.connection.collection('window').findOne({});
    for (const field of ['nextTry', 'error', 'apart', 'aside']) expect(stored).not.toHaveProperty(field);
    expect(failing.progress).toEqual(NO_PROGRESS);
  });
});
