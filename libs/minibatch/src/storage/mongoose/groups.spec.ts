import { describe, expect, it } from 'vitest';
import {
  appendAll,
  dataOf,
  keyOf,
  messageOf,
  useStore,
  RIVAL,
  takeLease,
  windowOf,
} from '../../../../../test/support/mongoose-store.js';
import { ErrorCode } from '../../errors/minibatch.error.js';
import type { Lease, StoredMessage } from '../stream-store.interface.js';
import { Collections, collectionNames } from './collections.js';
import { MessageRemoval } from './message-removal.js';
import { GroupCommits } from './group-commits.js';
import { GroupListVersions } from './group-list-versions.js';
import { Groups } from './groups.js';
import { Indexes } from './indexes.js';
import { MongooseStreamStore } from './mongoose.store.js';
import { Refusals } from './refusals.js';
import { stateRoles } from './state-roles.js';
import { Streams } from './streams.js';

const KEY = keyOf('flights');
const AUDIT = keyOf('flights', 'audit');
const LIMITS = { messages: 1000, bytes: 2 ** 24 };

describe('groups', () => {
  const test = useStore();

  async function consumeAll(lease: Lease, seq: number, keep = false): Promise<void> {
    const { store } = test;
    const { messages } = await store.fetch(lease.key, undefined, LIMITS);
    const window = windowOf(
      seq,
      messages.map(({ id }) => id),
    );
    await store.claim(lease, [window]);
    const progress = { lastSeq: seq, windows: seq, messages: messages.length };
    const groups = await store.commit(lease, { finished: [seq], progress });
    await store.settle(lease, [{ window, messages }], { groups, keep });
  }

  it('are in the commit point of consumers that knew nothing of them', async () => {
    const { store } = test;
    const lease = await takeLease(store, KEY);
    await store.registerGroup(AUDIT);
    const progress = { lastSeq: 0, windows: 0, messages: 0 };
    expect(await store.commit(lease, { finished: [], progress })).toEqual(['default', 'audit']);
    await store.removeGroup('flights', 'audit');
    expect(await store.commit(lease, { finished: [], progress })).toEqual(['default']);
  });

  it('do not come back in the copy of a consumer when an older list is written late', async () => {
    const { store, connection } = test;
    await store.registerGroup(KEY);
    await store.registerGroup(AUDIT);
    await store.removeGroup('flights', 'audit');
    const copy = { groups: ['default'], groupsVersion: 3 };
    expect(await connection.collection('consumer').findOne({ group: 'default' })).toMatchObject(copy);
    // What `registerGroup` of a process that slept since would do.
    await connection
      .collection('consumer')
      .updateMany({ stream: 'flights', groupsVersion: { $lt: 2 } }, { $set: { groups: ['default', 'audit'] } });
    expect(await connection.collection('consumer').findOne({ group: 'default' })).toMatchObject(copy);
  });

  it('stay known when a process that read the list before one came publishes it late', async () => {
    const { store, connection } = test;
    const lease = await takeLease(store, KEY);
    const collections = new Collections(connection, collectionNames());
    // A second process: it reads the list to register a group, and sleeps before it passes the list on.
    let [reached, goOn] = [(): void => undefined, (): void => undefined];
    const asleep = new Promise<void>((resolve) => (reached = resolve));
    const awake = new Promise<void>((resolve) => (goOn = resolve));
    const consumer = new Proxy(collections.consumer, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== 'function') return value;
        if (name !== 'updateMany') return value.bind(target) as unknown;
        return async (...args: unknown[]) => {
          reached();
          await awake;
          return Reflect.apply(value, target, args) as unknown;
        };
      },
    });
    const sleepy = Object.create(collections, { consumer: { value: consumer } }) as Collections;
    const indexes = new Indexes(sleepy);
    const state = stateRoles(sleepy, indexes, (messages) => store.append(messages));
    const groups = new Groups(
      sleepy,
      new Streams(sleepy, indexes, state.removal),
      new MessageRemoval(sleepy, new GroupCommits(), new Refusals()),
      new GroupListVersions(),
      state,
    );
    const registering = groups.register(keyOf('flights', 'sleepy'), {});
    await asleep;
    await store.registerGroup(AUDIT);
    goOn();
    await registering;
    const progress = { lastSeq: 0, windows: 0, messages: 0 };
    const named = await store.commit(lease, { finished: [], progress });
    expect([...named].sort()).toEqual(['audit', 'default', 'sleepy']);
  });

  it('that kept a message and are gone leave it kept, no matter who commits it last', async () => {
    const { store } = test;
    const audit = await takeLease(store, AUDIT);
    const lease = await takeLease(store, KEY);
    await appendAll(store, [messageOf('flights', 1)]);
    await consumeAll(audit, 1, true);
    await store.removeGroup('flights', 'audit');
    await consumeAll(lease, 1);
    expect(await dataOf(store, KEY)).toEqual([]);
    expect(await store.sweep('flights', { kept: new Date(Date.now() + 60_000) })).toMatchObject({ messages: 1 });
  });

  it('are all registered when many processes start at once', async () => {
    const { store } = test;
    const keys = Array.from({ length: 8 }, (_, i) => keyOf('flights', `group-${i % 4}`));
    await Promise.all(keys.map((key) => store.registerGroup(key)));
    const names = new Set(keys.map(({ group }) => group));
    for (const name of names) {
      const lease = await takeLease(store, keyOf('flights', name));
      const groups = await store.commit(lease, { finished: [], progress: { lastSeq: 0, windows: 0, messages: 0 } });
      expect(new Set(groups)).toEqual(names);
    }
  });

  it('let go of what only they held back when they are removed', async () => {
    const { store, connection } = test;
    const lease = await takeLease(store, KEY);
    const audit = await takeLease(store, AUDIT);
    await appendAll(store, [messageOf('flights', 1), messageOf('flights', 2, { dedupeId: 'a' })]);
    await consumeAll(lease, 1);
    await appendAll(store, [messageOf('flights', 3)]);
    await store.claim(audit, [windowOf(1, [])]);
    await store.removeGroup('flights', 'audit');
    expect(await dataOf(store, KEY)).toEqual([3]);
    const left = await connection.collection('buffer').find({}).sort({ _id: 1 }).toArray();
    expect(left.map(({ processed }) => processed)).toEqual([true, false]);
    expect(await connection.collection('window').countDocuments()).toBe(0);
    await expect(store.removeGroup('flights', 'audit')).rejects.toMatchObject({ code: ErrorCode.UnknownGroup });
    await expect(
      store.commit(audit, { finished: [], progress: { lastSeq: 0, windows: 0, messages: 0 } }),
    ).rejects.toMatchObject({ code: ErrorCode.LeaseLost });
  });

  it('leave the messages to the next when the only one is removed', async () => {
    const { store } = test;
    await store.registerGroup(KEY);
    await appendAll(store, [messageOf('flights', 1)]);
    await store.removeGroup('flights', 'default');
    expect(await dataOf(store, AUDIT)).toEqual([1]);
  });

  it('that are all gone leave to the next what some of them had committed', async () => {
    const { store } = test;
    const lease = await takeLease(store, KEY);
    await store.registerGroup(AUDIT);
    await appendAll(store, [messageOf('flights', 1)]);
    await consumeAll(lease, 1);
    for (const group of ['default', 'audit']) await store.removeGroup('flights', group);
    const report = keyOf('flights', 'report');
    await store.registerGroup(report);
    expect(await dataOf(store, report)).toEqual([1]);
  });

  it('removed between commit point and settle of another leave nothing behind', async () => {
    const { store, connection } = test;
    const lease = await takeLease(store, KEY);
    await store.registerGroup(AUDIT);
    await appendAll(store, [messageOf('flights', 1)]);
    const { messages } = await store.fetch(KEY, undefined, LIMITS);
    const window = windowOf(
      1,
      messages.map(({ id }) => id),
    );
    const groups = await store.commit(lease, { finished: [1], progress: { lastSeq: 1, windows: 1, messages: 1 } });
    await store.removeGroup('flights', 'audit');
    await store.settle(lease, [{ window, messages }], { groups, keep: false });
    await store.sweep('flights', {});
    expect(await connection.collection('buffer').countDocuments()).toBe(0);
  });

  it('hand over progress, open windows and done marks', async () => {
    const { store, connection } = test;
    const old = await takeLease(store, KEY);
    await store.registerGroup(AUDIT);
    await appendAll(store, [messageOf('flights', 1)]);
    await consumeAll(old, 1);
    const [id] = await appendAll(store, [messageOf('flights', 2)]);
    await store.claim(old, [windowOf(2, [id ?? ''])]);

    const heir = keyOf('flights', 'report');
    await store.registerGroup(heir, { replaces: 'default' });
    await store.registerGroup(heir, { replaces: 'default' });
    expect((await store.describeStream('flights'))?.groups.toSorted()).toEqual(['audit', 'report']);
    await expect(
      store.commit(old, { finished: [2], progress: { lastSeq: 2, windows: 2, messages: 2 } }),
    ).rejects.toMatchObject({ code: ErrorCode.LeaseLost });
    expect(await dataOf(store, heir)).toEqual([2]);

    const lease = await takeLease(store, heir, RIVAL);
    const recovery = await store.recover(lease);
    expect(recovery.progress.lastSeq).toBe(1);
    expect(recovery.open.map(({ seq, messageIds }) => [seq, messageIds])).toEqual([[2, [id]]]);
    await consumeAll(await takeLease(store, AUDIT), 1);
    expect(await connection.collection('buffer').countDocuments()).toBe(1);
    const settled = { window: recovery.open[0]!, messages: await store.load(heir, [id ?? '']) };
    const groups = await store.commit(lease, { finished: [2], progress: { lastSeq: 2, windows: 2, messages: 2 } });
    await store.settle(lease, [settled], { groups, keep: false });
    expect(await connection.collection('buffer').countDocuments()).toBe(0);
    expect(await connection.collection('window').countDocuments()).toBe(0);
  });

  it('keep their own progress when they have lived before they replace another', async () => {
    const { store } = test;
    const old = await takeLease(store, KEY);
    const heir = await takeLease(store, AUDIT);
    await appendAll(store, [messageOf('flights', 1)]);
    await store.claim(old, [windowOf(1, [])]);
    await store.registerGroup(AUDIT, { replaces: 'default' });
    const progress = { lastSeq: 7, windows: 7, messages: 7 };
    expect(await store.commit(heir, { finished: [7], progress })).toEqual(['audit']);
    expect((await store.recover(heir)).open).toEqual([]);
    expect(await dataOf(store, AUDIT)).toEqual([1]);
  });

  it('come back after their removal with a fence above that of their former holder', async () => {
    const { store } = test;
    const zombie = await takeLease(store, AUDIT);
    await store.registerGroup(KEY);
    await store.removeGroup('flights', 'audit');
    expect(await store.acquireLease(AUDIT, RIVAL, { fence: 2, counter: 2 })).toBeUndefined();
    await store.registerGroup(AUDIT);
    await store.claim(zombie, [windowOf(1, [])]);
    const lease = await takeLease(store, AUDIT, RIVAL);
    expect(lease.fence).toBeGreaterThan(zombie.fence);
    expect((await store.recover(lease)).open).toEqual([]);
  });

  it('that lag cost one that keeps up neither reads nor wake-ups', async () => {
    const { store, connection } = test;
    const lease = await takeLease(store, KEY);
    await store.registerGroup(AUDIT);
    await appendAll(
      store,
      Array.from({ length: 20 }, (_, i) => messageOf('flights', i)),
    );
    await consumeAll(lease, 1);
    // As the server sees it: what the group that keeps up asks for has no message in it.
    const asked: unknown[] = [];
    connection
      .getClient()
      .on('commandStarted', ({ command }) => asked.push(command.filter ?? command.pipeline?.[0].$match));
    expect((await store.fetch(KEY, undefined, LIMITS)).messages).toEqual([]);
    expect(await store.poll([KEY])).toEqual(['0']);
    expect(await store.poll([AUDIT])).not.toEqual(['0']);
    const examined = asked
      .slice(0, 2)
      .map((filter) => connection.collection('buffer').countDocuments(filter as object));
    expect(await Promise.all(examined)).toEqual([0, 0]);
    expect(await dataOf(store, AUDIT)).toHaveLength(20);
  });

  it('keep what an earlier version has marked, without naming the groups that wait', async () => {
    const { store, connection } = test;
    for (const key of [KEY, AUDIT]) await takeLease(store, key);
    await appendAll(store, [messageOf('flights', 1), messageOf('flights', 2)]);
    const buffer = connection.collection('buffer');
    await buffer.updateOne({ data: 1 }, { $set: { done: ['audit'] } });
    expect(await dataOf(store, KEY)).toEqual([1, 2]);
    expect(await dataOf(store, AUDIT)).toEqual([2]);
  });

  it('of two processes that commit at the same time are not led to what they have done', async () => {
    const { store, connection } = test;
    const REPORT = keyOf('flights', 'report');
    const other = new MongooseStreamStore(connection);
    const leases = [await takeLease(store, KEY), await takeLease(store, AUDIT)];
    await store.registerGroup(REPORT);
    await appendAll(store, [messageOf('flights', 1)]);
    // Both have read the message before either has marked it.
    const [first, second] = await Promise.all(leases.map(({ key }) => store.fetch(key, undefined, LIMITS)));
    const groups = ['default', 'audit', 'report'];
    const settle = (by: MongooseStreamStore, lease: Lease, messages: readonly StoredMessage[]) =>
      by.settle(lease, [{ window: windowOf(1, []), messages }], { groups, keep: false });
    await settle(store, leases[0]!, first!.messages);
    await settle(other, leases[1]!, second!.messages);
    expect(await connection.collection('buffer').findOne({})).toMatchObject({
      done: ['default', 'audit'],
      waits: ['report'],
    });
    expect(await dataOf(store, REPORT)).toEqual([1]);
  });

  it('are counted each for itself', async () => {
    const { store } = test;
    const lease = await takeLease(store, KEY);
    await store.registerGroup(AUDIT);
    await appendAll(store, [messageOf('flights', 1), messageOf('flights', 2, { partition: 1 })]);
    await consumeAll(lease, 1);
    await appendAll(store, [messageOf('flights', 3)]);
    await store.claim(lease, [windowOf(2, [])]);
    const [stats] = await store.stats(['flights', 'missing']);
    // Nobody reads the other partition.
    expect(stats).toMatchObject({ name: 'flights', buffered: 2, foreign: { documents: 1 } });
    expect(stats?.oldest).toBeInstanceOf(Date);
    expect(stats?.consumers.map(({ group, pending, openWindows }) => [group, pending, openWindows])).toEqual([
      ['audit', 2, 0],
      ['default', 1, 1],
    ]);
  });
});
