import { describe, expect, it } from 'vitest';
import { appendAll, keyOf, messageOf, OWNER, useStore, windowOf } from '../../../../../test/support/mongoose-store.js';
import type { Lease } from '../stream-store.interface.js';

const KEYS = Array.from({ length: 20 }, (_, n) => keyOf(`stream-${n}`));
const LIMITS = { messages: 100, bytes: 2 ** 24 };

describe('consumers that begin in one turn', () => {
  const test = useStore();

  it('take as many commands as a few', async () => {
    const { store, commands } = test;
    const each = <R>(work: (key: (typeof KEYS)[number]) => Promise<R>) => Promise.all(KEYS.map(work));

    await each(({ stream }) => store.ensureStream(stream));
    await each((key) => store.registerGroup(key));
    expect(commands().length).toBeLessThan(KEYS.length);

    const states = await store.readLeases(KEYS);
    commands();
    const leases = (await Promise.all(
      KEYS.map((key, index) => store.acquireLease(key, OWNER, states[index]!)),
    )) as readonly Lease[];
    expect(commands()).toEqual(['update', 'find']);

    await each(({ stream }) => store.listStreams([stream]));
    expect(commands()).toEqual(['find']);

    await Promise.all(leases.map((lease) => store.recover(lease)));
    expect(commands()).toEqual(['update', 'find', 'find']);

    await appendAll(
      store,
      KEYS.map(({ stream }) => messageOf(stream, 1)),
    );
    commands();
    const blocks = await each((key) => store.fetch(key, undefined, LIMITS));
    expect(commands()).toEqual(['find']);

    const settled = leases.map((lease, index) => {
      const { messages = [] } = blocks[index] ?? {};
      const ids = messages.map(({ id }) => id);
      return { lease, messages, window: windowOf(1, ids) };
    });
    await Promise.all(settled.map(({ lease, window }) => store.claim(lease, [window])));
    expect(commands()).toEqual(['insert']);
    await Promise.all(
      settled.map(async ({ lease, window, messages }) => {
        const groups = await store.commit(lease, { finished: [1], progress: { lastSeq: 1, windows: 1, messages: 1 } });
        await store.settle(lease, [{ window, messages }], { groups, keep: false });
      }),
    );
    expect(commands()).toEqual(['update', 'find', 'delete', 'delete']);
    expect(await test.connection.collection('buffer').countDocuments()).toBe(0);

    await Promise.all(leases.map((lease) => store.releaseLease(lease)));
    expect(commands().filter((name) => name !== 'aggregate')).toEqual(['update']);
  });

  it('read each for themselves if together they have more than one reply', async () => {
    const { store } = test;
    for (const key of KEYS.slice(0, 5)) await store.registerGroup(key);
    const many = Array.from({ length: 13_000 }, (_, n) => messageOf('stream-0', n));
    await appendAll(store, [...many, messageOf('stream-1', 'one')]);
    const blocks = await Promise.all(KEYS.slice(0, 5).map((key) => store.fetch(key, undefined, LIMITS)));
    expect(blocks.map(({ messages, full }) => [messages.length, full])).toEqual([
      [100, true],
      [1, false],
      [0, false],
      [0, false],
      [0, false],
    ]);
  });
});
