import { beforeEach, describe, expect, it } from 'vitest';
import {
  appendAll,
  keyOf,
  messageOf,
  useStore,
  takeLease,
  windowOf,
} from '../../../../../test/support/mongoose-store.js';
import type { Block, ConsumerKey, Lease, MessageId } from '../stream-store.interface.js';

const KEY = keyOf('flights');
const AUDIT = keyOf('flights', 'audit');
const LIMITS = { messages: 3, bytes: 2 ** 24 };

describe('groups of one process that read the same', () => {
  const test = useStore();
  let leases: { readonly default: Lease; readonly audit: Lease };
  beforeEach(async () => {
    leases = { default: await takeLease(test.store, KEY), audit: await takeLease(test.store, AUDIT) };
    await append(0, 12);
  });

  const append = async (from: number, to: number) => {
    const numbers = Array.from({ length: to - from }, (_, index) => from + index);
    await appendAll(
      test.store,
      numbers.map((n) => messageOf('flights', n)),
    );
    test.commands();
  };
  const fetch = (key: ConsumerKey, after?: MessageId, messages = LIMITS.messages) =>
    test.store.fetch(key, after, { ...LIMITS, messages });
  const numbersOf = ({ messages }: Block) => messages.map((message) => message.read().data);
  const lastOf = ({ messages }: Block) => messages.at(-1)?.id;
  const both = (after?: MessageId) => Promise.all([fetch(KEY, after), fetch(AUDIT, after)]);

  /** One window of these messages, from its claim to its end. */
  async function settle(lease: Lease, { messages }: Block, seq = 1): Promise<void> {
    const window = windowOf(
      seq,
      messages.map(({ id }) => id),
    );
    await test.store.claim(lease, [window]);
    const progress = { lastSeq: seq, windows: 1, messages: messages.length };
    const groups = await test.store.commit(lease, { finished: [seq], progress });
    await test.store.settle(lease, [{ window, messages }], { groups, keep: false, closing: AbortSignal.abort() });
    test.commands();
  }

  it('send one command for what they ask for in the same turn', async () => {
    const blocks = await both();
    expect(blocks.map(numbersOf)).toEqual([
      [0, 1, 2],
      [0, 1, 2],
    ]);
    expect(test.commands()).toEqual(['find']);
    expect(blocks[0].messages[0]).not.toBe(blocks[1].messages[0]);
  });

  it('each get what waits for it, and as much as they have room for', async () => {
    await settle(leases.default, await fetch(KEY));
    const [mine, others] = await Promise.all([fetch(KEY, undefined, 2), fetch(AUDIT, undefined, 6)]);
    expect([numbersOf(mine), mine.full]).toEqual([[3, 4], true]);
    expect([numbersOf(others), others.full]).toEqual([[0, 1, 2, 3, 4, 5], true]);
    expect(test.commands()).toEqual(['find']);
  });

  it('ask for themselves where all that was found is for others', async () => {
    await settle(leases.default, await fetch(KEY));
    const [mine, others] = await both();
    expect([numbersOf(mine), numbersOf(others)]).toEqual([
      [3, 4, 5],
      [0, 1, 2],
    ]);
    expect(test.commands()).toEqual(['find', 'find']);
  });

  it('do not read a block of a backlog again that the other one has read from the same place', async () => {
    const [first] = await both();
    test.commands();
    const blocks = [await fetch(KEY, lastOf(first)), await fetch(AUDIT, lastOf(first))];
    expect(blocks.map(numbersOf)).toEqual([
      [3, 4, 5],
      [3, 4, 5],
    ]);
    expect(test.commands()).toEqual(['find']);
    // Once.
    await fetch(AUDIT, lastOf(first));
    expect(test.commands()).toEqual(['find']);
  });

  it('get nothing back that they have settled since the block was read', async () => {
    const [first] = await both();
    const ahead = await fetch(KEY, lastOf(first));
    await settle(leases.audit, ahead);
    expect(numbersOf(await fetch(AUDIT, lastOf(first)))).toEqual([6, 7, 8]);
    expect(test.commands()).toEqual(['find']);
  });

  it('get nothing back of a window that is settled without its messages', async () => {
    const [first] = await both();
    const { messages } = await fetch(KEY, lastOf(first));
    const ids = messages.map(({ id }) => id);
    // A former holder had marked them, and ended.
    await test.connection
      .collection('buffer')
      .updateMany({ data: { $in: [3, 4, 5] } }, { $set: { done: ['audit'], waits: ['default'] } });
    const window = windowOf(1, ids);
    await test.store.claim(leases.audit, [window]);
    await test.store.settle(leases.audit, [{ window, messages: [] }], { groups: ['default', 'audit'], keep: false });
    expect(numbersOf(await fetch(AUDIT, lastOf(first)))).toEqual([6, 7, 8]);
  });

  it('lose no block to somebody who inspects the stream', async () => {
    const [first] = await both();
    test.commands();
    await fetch(KEY, lastOf(first));
    const aside = { ...LIMITS, aside: true } as const;
    expect(numbersOf(await test.store.fetch(AUDIT, lastOf(first), aside))).toEqual([3, 4, 5]);
    expect(test.commands()).toEqual(['find', 'find']);
    expect(numbersOf(await fetch(AUDIT, lastOf(first)))).toEqual([3, 4, 5]);
    expect(test.commands()).toEqual([]);
  });

  it('are not given a block that is older than their look from the start', async () => {
    const [first] = await both();
    await fetch(KEY, lastOf(first));
    await test.store.updateStream('flights', { clear: true });
    await fetch(AUDIT);
    const { messages } = await fetch(AUDIT, lastOf(first));
    expect(messages.map(({ cleared }) => cleared)).toEqual([true, true, true]);
  });

  it('look for themselves where a block was the last one', async () => {
    const { messages } = await fetch(KEY, undefined, 9);
    const place = messages.at(-1)?.id;
    await fetch(AUDIT, undefined, 9);
    await fetch(KEY, place, 4);
    await append(12, 13);
    expect(numbersOf(await fetch(AUDIT, place, 4))).toEqual([9, 10, 11, 12]);
  });
});
