import { describe, expect, it } from 'vitest';
import {
  appendAll,
  keyOf,
  messageOf,
  useStore,
  takeLease,
  windowOf,
} from '../../../../../test/support/mongoose-store.js';
import type { Lease, StreamStore } from '../stream-store.interface.js';

async function commitAll(store: StreamStore, lease: Lease) {
  const { messages } = await store.fetch(lease.key, undefined, LIMITS);
  const window = windowOf(
    1,
    messages.map(({ id }) => id),
  );
  await store.claim(lease, [window]);
  const progress = { lastSeq: 1, windows: 1, messages: messages.length };
  const groups = await store.commit(lease, { finished: [1], progress });
  return {
    settle: (closing?: AbortSignal) =>
      store.settle(lease, [{ window, messages }], { groups, keep: false, ...(closing && { closing }) }),
  };
}

const KEY = keyOf('flights');
const LIMITS = { messages: 1000, bytes: 2 ** 24 };

describe('commands per operation', () => {
  const test = useStore();

  it('takes six for a block of messages from append to removal', async () => {
    const { store, commands } = test;
    const lease = await takeLease(store, KEY);
    commands();

    await store.append(Array.from({ length: 990 }, (_, i) => messageOf('flights', { i })));
    expect(commands()).toEqual(['insert']);

    const { messages, full } = await store.fetch(KEY, undefined, { ...LIMITS, messages: 990 });
    expect([messages.length, full]).toEqual([990, true]);
    expect(commands()).toEqual(['find']);

    const windows = Array.from({ length: 10 }, (_, i) => {
      const part = messages.slice(i * 99, (i + 1) * 99);
      return {
        window: windowOf(
          i + 1,
          part.map(({ id }) => id),
        ),
        messages: part,
      };
    });
    await store.claim(
      lease,
      windows.map(({ window }) => window),
    );
    expect(commands()).toEqual(['insert']);

    const finished = windows.map(({ window }) => window.seq);
    const groups = await store.commit(lease, { finished, progress: { lastSeq: 10, windows: 10, messages: 990 } });
    expect(groups).toEqual(['default']);
    expect(commands()).toEqual(['findAndModify']);

    await store.settle(lease, windows, { groups, keep: false });
    expect(commands()).toEqual(['delete', 'delete']);
    expect(await test.connection.collection('buffer').countDocuments()).toBe(0);
    expect(await test.connection.collection('window').countDocuments()).toBe(0);
  });

  it('takes one for what many consumers need at once', async () => {
    const { store, commands } = test;
    const keys = ['a', 'b', 'c'].map((stream) => keyOf(stream));
    const leases = [];
    for (const key of keys) leases.push(await takeLease(store, key));
    commands();

    expect(await store.renewLeases(leases)).toEqual([]);
    expect(commands()).toEqual(['update']);
    expect(await store.readLeases(keys)).toHaveLength(3);
    expect(commands()).toEqual(['find']);
    expect(await store.poll(keys)).toEqual(['0', '0', '0']);
    expect(commands()).toEqual(['aggregate']);
  });

  it('counts all streams in five', async () => {
    const { store, commands } = test;
    for (const stream of ['a', 'b', 'c']) await takeLease(store, keyOf(stream));
    commands();
    expect((await store.stats()).map(({ name }) => name)).toEqual(['a', 'b', 'c']);
    expect(commands().toSorted()).toEqual(['aggregate', 'aggregate', 'aggregate', 'find', 'find']);
  });

  it('marks and looks for a group that is not the last', async () => {
    const { store, commands } = test;
    const lease = await takeLease(store, KEY);
    await takeLease(store, keyOf('flights', 'audit'));
    await appendAll(store, [messageOf('flights', 1)]);
    const { messages } = await store.fetch(KEY, undefined, LIMITS);
    const window = windowOf(
      1,
      messages.map(({ id }) => id),
    );
    await store.claim(lease, [window]);
    const groups = await store.commit(lease, { finished: [1], progress: { lastSeq: 1, windows: 1, messages: 1 } });
    commands();
    await store.settle(lease, [{ window, messages }], { groups, keep: false });
    expect(commands()).toEqual(['update', 'find', 'delete']);
  });

  it.each([
    ['removes at once what other groups of the process have marked since it was read', false, ['delete', 'delete'], 0],
    ['looks, where one of them keeps what it commits', true, ['update', 'find', 'update', 'delete'], 2],
  ])('%s', async (_, keep, expected, left) => {
    const { store, commands } = test;
    const keys = [KEY, keyOf('flights', 'audit')];
    const leases = [];
    for (const key of keys) leases.push(await takeLease(store, key));
    await appendAll(store, [messageOf('flights', 1), messageOf('flights', 2)]);
    // Side by side: both have read before either has marked.
    const settled = [];
    for (const lease of leases) {
      const { messages } = await store.fetch(lease.key, undefined, LIMITS);
      const window = windowOf(
        1,
        messages.map(({ id }) => id),
      );
      await store.claim(lease, [window]);
      const groups = await store.commit(lease, { finished: [1], progress: { lastSeq: 1, windows: 1, messages: 2 } });
      settled.push({ lease, groups, windows: [{ window, messages }] });
    }
    const [first, second] = settled;
    if (!first || !second) throw new Error('two groups');
    await store.settle(first.lease, first.windows, { groups: first.groups, keep });
    commands();
    await store.settle(second.lease, second.windows, { groups: second.groups, keep: false });
    expect(commands()).toEqual(expected);
    expect(await test.connection.collection('buffer').countDocuments()).toBe(left);
  });

  it('removes what two groups commit side by side without a mark', async () => {
    const { store, commands } = test;
    const leases: Lease[] = [];
    for (const key of [KEY, keyOf('flights', 'audit')]) leases.push(await takeLease(store, key));
    await appendAll(store, [messageOf('flights', 1), messageOf('flights', 2)]);
    const settled = [];
    for (const lease of leases) settled.push(await commitAll(store, lease));
    commands();
    await Promise.all(settled.map((some) => some.settle()));
    // One for the messages, one for the windows of both.
    expect(commands()).toEqual(['delete', 'delete']);
    expect(await test.connection.collection('buffer').countDocuments()).toBe(0);
    expect(await test.connection.collection('window').countDocuments()).toBe(0);
  });

  it('marks what the other group of the process does not commit in time', async () => {
    const { store, connection } = test;
    const lease = await takeLease(store, KEY);
    const slow = await takeLease(store, keyOf('flights', 'audit'));
    await appendAll(store, [messageOf('flights', 1)]);
    await store.claim(slow, [windowOf(1, [])]);
    await (await commitAll(store, lease)).settle();
    expect(await connection.collection('buffer').findOne({})).toMatchObject({ waits: ['audit'] });
  });

  it('waits for nobody when the consumer stops', async () => {
    const { store, connection } = test;
    const lease = await takeLease(store, KEY);
    const slow = await takeLease(store, keyOf('flights', 'audit'));
    await appendAll(store, [messageOf('flights', 1)]);
    await store.claim(slow, [windowOf(1, [])]);
    const stopping = new AbortController();
    const settling = (await commitAll(store, lease)).settle(stopping.signal);
    stopping.abort();
    await settling;
    expect(await connection.collection('buffer').findOne({})).toMatchObject({ waits: ['audit'] });
  });

  it('ends a read at its bound of bytes', async () => {
    const { store, commands } = test;
    await appendAll(
      store,
      Array.from({ length: 5 }, () => messageOf('flights', 'x'.repeat(1000))),
    );
    commands();
    const block = await store.fetch(KEY, undefined, { messages: 1000, bytes: 2500 });
    expect([block.messages.length, block.full]).toEqual([3, true]);
    expect(commands()).toEqual(['find']);
  });
});
