import { mongo } from 'mongoose';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import {
  appendAll,
  keyOf,
  messageOf,
  openStore,
  useStore,
  RIVAL,
  takeLease,
  windowOf,
} from '../../../../../test/support/mongoose-store.js';
import { ErrorCode } from '../../errors/minibatch.error.js';
import type { Lease, SettledWindow } from '../stream-store.interface.js';
import type { WindowDocument } from './schemas/window.schema.js';

const KEY = keyOf('flights');
const LIMITS = { messages: 5000, bytes: 2 ** 24 };
const NOON = new Date('2024-01-01T12:00:00Z');

describe('windows that share a document', () => {
  const test = useStore();
  let lease: Lease;
  beforeEach(async () => {
    lease = await takeLease(test.store, KEY);
  });

  const documents = () => test.connection.collection<WindowDocument>('window').find().sort({ _id: 1 }).toArray();
  const seqs = async () => (await documents()).map(({ seq, windows }) => windows?.map((each) => each.seq) ?? seq);
  const open = async (holder: Lease) => (await test.store.recover(holder)).open.map(({ seq }) => seq);

  async function claim(count: number, size: number, created = NOON): Promise<readonly SettledWindow[]> {
    await appendAll(
      test.store,
      Array.from({ length: count * size }, (_, n) => messageOf('flights', n)),
    );
    const { messages } = await test.store.fetch(KEY, undefined, LIMITS);
    const settled = Array.from({ length: count }, (_, n) => {
      const part = messages.slice(n * size, (n + 1) * size);
      const ids = part.map(({ id }) => id);
      return { window: windowOf(n + 1, ids, { created }), messages: part };
    });
    await test.store.claim(
      lease,
      settled.map(({ window }) => window),
    );
    return settled;
  }

  async function finish(holder: Lease, settled: readonly SettledWindow[], keep = false): Promise<void> {
    const finished = settled.map(({ window }) => window.seq);
    const progress = { lastSeq: Math.max(...finished), windows: finished.length, messages: finished.length };
    const groups = await test.store.commit(holder, { finished, progress });
    await test.store.settle(holder, settled, { groups, keep, at: NOON });
  }

  it.each([
    ['windows of one, a hundred at a time', 250, 1, [100, 100, 50]],
    ['windows of ten, a hundred at a time', 101, 10, [100, 1]],
    ['larger windows, up to two thousand messages', 5, 800, [2, 2, 1]],
  ])('holds %s', async (_, count, size, expected) => {
    await claim(count, size);
    expect((await documents()).map(({ windows }) => windows?.length ?? 1)).toEqual(expected);
    expect(await open(lease)).toEqual(Array.from({ length: count }, (__, n) => n + 1));
  });

  it('names the last window of each document, for commits that are removed with fewest commands', async () => {
    const records = Array.from({ length: 205 }, (_, n) => windowOf(n + 1, [], { created: NOON }));
    const alone = windowOf(206, [], { created: NOON, attempt: 2 });
    expect(await test.store.claim(lease, [...records, alone])).toEqual([100, 200, 205, 206]);
    // A claim whose answer was lost is repeated, and nothing is written.
    expect(await test.store.claim(lease, records)).toEqual([]);
  });

  it('is not for windows that say something else of themselves than how they were claimed', async () => {
    const records = [
      windowOf(1, [], { created: NOON }),
      windowOf(2, [], { created: NOON, attempt: 2 }),
      windowOf(3, [], { created: NOON }),
      windowOf(4, [], { created: NOON, late: true, part: 1 }),
      windowOf(5, [], { created: new Date(NOON.getTime() + 1) }),
    ];
    await test.store.claim(lease, records);
    expect(await seqs()).toEqual([1, 2, [3, 4], 5]);
    expect((await test.store.recover(lease)).open).toEqual(records);
  });

  it('leaves in one command when all are done, and stays without those that are', async () => {
    const settled = await claim(250, 1);
    test.commands();
    await finish(lease, settled.slice(0, 200));
    expect(test.commands()).toEqual(['findAndModify', 'delete', 'delete']);
    await finish(lease, [...settled.slice(205, 207), ...settled.slice(210, 211)]);
    expect(test.commands()).toEqual(['findAndModify', 'delete', 'update']);
    expect((await seqs()).flat()).toHaveLength(47);
    test.commands();
    await finish(lease, [...settled.slice(200, 205), ...settled.slice(207, 210), ...settled.slice(211)]);
    expect(test.commands()).toEqual(['findAndModify', 'delete', 'delete']);
    expect(await documents()).toEqual([]);
  });

  it('is adopted as a whole, and leaves by its id', async () => {
    const settled = await claim(20, 1);
    const rival = await takeLease(test.store, KEY, RIVAL);
    expect(await open(rival)).toHaveLength(20);
    test.commands();
    await finish(rival, settled);
    expect(test.commands()).toEqual(['findAndModify', 'delete', 'delete']);
    expect(await documents()).toEqual([]);
  });

  it('is found by its windows where this process does not know of it', async () => {
    const settled = await claim(6, 1);
    await test.store.claim(lease, [windowOf(7, [], { created: NOON })]);
    const other = await openStore({ database: test.database });
    const some = [...settled.slice(1, 3), { window: windowOf(7, []), messages: [] }];
    await other.store.settle(lease, some, { groups: ['default'], keep: false });
    expect(await seqs()).toEqual([[1, 4, 5, 6]]);
    await other.store.settle(lease, [settled[0]!, ...settled.slice(3)], { groups: ['default'], keep: false });
    expect(await documents()).toEqual([]);
    await other.store.close();
  });

  it('gives a window that is tried again to a document of its own', async () => {
    const settled = await claim(3, 1);
    const again = { ...settled[1]!.window, attempt: 2, error: 'went wrong', nextTry: NOON };
    await test.store.reschedule(lease, again);
    expect(await seqs()).toEqual([[1, 3], 2]);
    expect((await test.store.recover(lease)).open).toEqual([settled[0]!.window, again, settled[2]!.window]);
    await finish(lease, [{ window: again, messages: settled[1]!.messages }]);
    expect(await seqs()).toEqual([[1, 3]]);
  });

  it('gives it what was said last, where the first attempt has ended halfway', async () => {
    const settled = await claim(2, 1);
    const again = (attempt: number) => ({ ...settled[0]!.window, attempt, nextTry: NOON, error: `attempt ${attempt}` });
    const updateOne = vi.spyOn(mongo.Collection.prototype, 'updateOne');
    updateOne.mockRejectedValueOnce(new mongo.MongoNetworkError('connection closed'));
    try {
      await expect(test.store.reschedule(lease, again(2))).rejects.toThrow('connection closed');
    } finally {
      updateOne.mockRestore();
    }
    await test.store.reschedule(lease, again(3));
    expect(await seqs()).toEqual([1, [2]]);
    expect((await test.store.recover(lease)).open).toEqual([again(3), settled[1]!.window]);
  });

  it('is gone when its last window gets a document of its own', async () => {
    const settled = await claim(3, 1);
    await finish(lease, settled.slice(0, 1));
    const again = settled.slice(1).map(({ window }) => ({ ...window, attempt: 2 }));
    await Promise.all(again.map((window) => test.store.reschedule(lease, window)));
    expect(await seqs()).toEqual([2, 3]);
  });

  it('is gone when several commits have taken its windows out of it at the same time', async () => {
    const settled = await claim(4, 1);
    const parts = [settled.slice(0, 1), settled.slice(1, 3), settled.slice(3)];
    await test.store.commit(lease, { finished: [1, 2, 3, 4], progress: { lastSeq: 4, windows: 4, messages: 4 } });
    await Promise.all(parts.map((part) => test.store.settle(lease, part, { groups: ['default'], keep: false })));
    expect(await documents()).toEqual([]);
  });

  it('is gone when a commit takes the others out while one moves to a document of its own', async () => {
    const settled = await claim(3, 1);
    await Promise.all([
      test.store.reschedule(lease, { ...settled[1]!.window, attempt: 2 }),
      finish(lease, [settled[0]!, settled[2]!]),
    ]);
    expect(await seqs()).toEqual([2]);
  });

  it('is gone after a takeover if an earlier version has left it behind without windows', async () => {
    await claim(2, 1);
    await test.connection.collection<WindowDocument>('window').updateOne({}, { $set: { windows: [] } });
    const rival = await takeLease(test.store, KEY, RIVAL);
    expect(await open(rival)).toEqual([]);
    expect(await documents()).toEqual([]);
  });

  it('does not count where a process died after it had written the document of its own', async () => {
    const [first, second] = await claim(2, 1);
    const before = await documents();
    await test.store.reschedule(lease, { ...first!.window, attempt: 2 });
    await test.store.reschedule(lease, { ...second!.window, attempt: 3 });
    // As if the shared one had not been changed yet.
    await test.connection.collection<WindowDocument>('window').deleteMany({ _id: before[0]!._id });
    await test.connection.collection<WindowDocument>('window').insertMany(before);

    const rival = await takeLease(test.store, KEY, RIVAL);
    const recovered = (await test.store.recover(rival)).open;
    expect(recovered.map(({ seq, attempt }) => [seq, attempt])).toEqual([
      [1, 2],
      [2, 3],
    ]);
    expect(await seqs()).toEqual([1, 2]);
  });

  it('is not changed by a former holder, whose own document is void', async () => {
    const [first] = await claim(3, 1);
    const other = await openStore({ database: test.database });
    const rival = await takeLease(other.store, KEY, RIVAL);
    expect((await other.store.recover(rival)).open).toHaveLength(3);
    await expect(test.store.reschedule(lease, { ...first!.window, attempt: 2 })).rejects.toMatchObject({
      code: ErrorCode.LeaseLost,
    });
    expect((await seqs()).toSorted()).toEqual([1, [1, 2, 3]]);
    await other.store.close();
    const third = await takeLease(test.store, KEY);
    const recovered = (await test.store.recover(third)).open;
    expect(recovered.map(({ seq, attempt }) => [seq, attempt])).toEqual([
      [1, 1],
      [2, 1],
      [3, 1],
    ]);
    expect(await seqs()).toEqual([[1, 2, 3]]);
  });

  /** Claims two empty windows together. Returns what settles one of them. */
  async function claimTwo() {
    await test.store.claim(
      lease,
      [1, 2].map((seq) => windowOf(seq, [], { created: NOON })),
    );
    test.commands();
    return (seq: number) =>
      test.store.settle(lease, [{ window: windowOf(seq, []), messages: [] }], { groups: ['default'], keep: false });
  }

  it('is deleted by one command when its windows are settled at the same time', async () => {
    const settle = await claimTwo();
    await Promise.all([settle(1), settle(2)]);
    expect(test.commands()).toEqual(['delete']);
    expect(await documents()).toEqual([]);
  });

  it('needs no search for a window of it that is settled after the others are gone', async () => {
    const settle = await claimTwo();
    let second: Promise<unknown> | undefined;
    const { bulkWrite } = mongo.Collection.prototype;
    const spy = vi.spyOn(mongo.Collection.prototype, 'bulkWrite').mockImplementationOnce(async function (
      this: mongo.Collection,
      ...given
    ) {
      // The other removal overtakes this one.
      await (second = settle(2));
      return bulkWrite.apply(this, given);
    });
    try {
      await settle(1);
      await second;
    } finally {
      spy.mockRestore();
    }
    expect(test.commands()).toEqual(['delete', 'update']);
    expect(await documents()).toEqual([]);
  });

  it('gives each kept window a document of its own, with its data', async () => {
    const settled = await claim(3, 2);
    await finish(lease, settled.slice(1), true);
    await test.store.settle(lease, settled.slice(1), { groups: ['default'], keep: true, at: NOON });
    const kept = (await documents()).filter(({ processed }) => processed);
    expect(kept.map(({ seq, data, settled: at, windowId }) => [seq, data, at, windowId])).toEqual([
      [2, [2, 3], NOON, 'window-2'],
      [3, [4, 5], NOON, 'window-3'],
    ]);
    expect(await open(lease)).toEqual([1]);
  });

  it('keeps a window once where a process died before the shared document had changed', async () => {
    const settled = await claim(3, 1);
    const committed = settled.slice(0, 2);
    await test.store.commit(lease, { finished: [1, 2], progress: { lastSeq: 2, windows: 2, messages: 2 } });
    const settle = (holder: Lease) =>
      test.store.settle(holder, committed, { groups: ['default'], keep: true, at: NOON });
    const bulkWrite = vi.spyOn(mongo.Collection.prototype, 'bulkWrite');
    try {
      // Then its successor dies there, too.
      for (const holder of [lease, await takeLease(test.store, KEY, RIVAL)]) {
        if (holder !== lease) await test.store.recover(holder);
        bulkWrite.mockRejectedValueOnce(new Error('died'));
        await expect(settle(holder)).rejects.toThrow('died');
      }
    } finally {
      bulkWrite.mockRestore();
    }
    const last = await takeLease(test.store, KEY);
    expect((await test.store.recover(last)).finished.map(({ seq }) => seq)).toEqual([1, 2]);
    await settle(last);
    expect(await open(last)).toEqual([3]);
    const { windows } = await test.store.readWindows(KEY, 'kept', undefined, 10);
    expect(windows.map(({ id }) => id)).toEqual(['window-1', 'window-2']);
  });
});
