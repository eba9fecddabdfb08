import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AppendError, ErrorCode } from '../../errors/minibatch.error.js';
import { expectBadPositionNamed } from '../checkpoints.spec.support.js';
import { storeContract } from '../../testing/store-contract.js';
import { MemoryDatabase, MemoryStreamStore, memoryStore } from './index.js';

storeContract({ describe, it, beforeEach, afterEach }, 'MemoryStreamStore', () => {
  const database = new MemoryDatabase();
  return {
    store: new MemoryStreamStore(database),
    another: () => new MemoryStreamStore(database),
    dispose: () => undefined,
  };
});

describe('MemoryStreamStore', () => {
  const message = (data: unknown) => ({ stream: 's', data, created: new Date(0) });
  const key = { stream: 's', group: 'default', partition: 0 };
  const all = { messages: 1000, bytes: 1e9 };

  it('has data of its own unless it is given a database', async () => {
    const database = new MemoryDatabase();
    const stores = [memoryStore(), memoryStore(), memoryStore({ database }), memoryStore({ database })];
    const [a, b, c, d] = await Promise.all(stores.map(async (definition) => definition.useFactory()));
    await a?.ensureStream('s');
    await c?.ensureStream('s');
    expect(await b?.listStreams()).toEqual([]);
    expect(await d?.listStreams()).toHaveLength(1);
  });

  it('fails only the message that can not be stored', async () => {
    const store = new MemoryStreamStore();
    const outcomes = await store.append([
      message({ n: 1 }),
      message('x'.repeat(16 * 1024 * 1024)),
      message('x'.repeat(20 * 1024 * 1024)),
      message({ _bsontype: 'nonsense' }),
      message({ n: 2 }),
    ]);
    expect(outcomes.map(({ status }) => status)).toEqual(['stored', 'failed', 'failed', 'failed', 'stored']);
    const codes = outcomes.map((outcome) => outcome.status === 'failed' && (outcome.error as AppendError).code);
    expect(codes.slice(1, 4)).toEqual([ErrorCode.MessageTooLarge, ErrorCode.MessageTooLarge, ErrorCode.NotStorable]);
    const errors = outcomes.flatMap((outcome) => (outcome.status === 'failed' ? [outcome.error as AppendError] : []));
    // What says why is not wrapped in something that says less.
    expect(errors.filter(({ message: text }) => text.startsWith('append failed'))).toEqual([]);
    expect((await store.fetch(key, undefined, all)).messages.map(({ data }) => data)).toEqual([{ n: 1 }, { n: 2 }]);
  });

  it('has no sessions', async () => {
    const append = new MemoryStreamStore().append([message(1)], { session: {} });
    await expect(append).rejects.toMatchObject({ code: ErrorCode.StoreUnsupported, stored: 'no' });
  });

  it('names a position that it cannot store, and stores the others', async () => {
    await expectBadPositionNamed(new MemoryStreamStore(), message(1));
  });

  it('buries nothing for a lease that is lost', async () => {
    const store = new MemoryStreamStore();
    const owner = { id: 'a', host: '', bootId: '', pid: 1, startTime: '' };
    await store.registerGroup(key);
    await store.append([message(1)]);
    const lease = await store.acquireLease(key, owner, { fence: 0, counter: 0 });
    await store.acquireLease(key, { ...owner, id: 'b' }, { fence: 1, counter: 1 });
    const [stored] = (await store.fetch(key, undefined, all)).messages;
    const letter = { message: stored!, window: 'w', consumer: 'A.b', attempts: 1, error: 'no', died: new Date(0) };
    await expect(store.bury(lease!, [letter])).rejects.toMatchObject({ code: ErrorCode.LeaseLost });
    expect(await store.deadLetters('s', {}, undefined, 10)).toEqual([]);
  });

  it('buries no message again that came as a dead letter from a group that was replaced', async () => {
    const store = new MemoryStreamStore();
    const owner = { id: 'a', host: '', bootId: '', pid: 1, startTime: '' };
    const heir = { ...key, group: 'heir' };
    await store.registerGroup(key);
    await store.append([message(1)]);
    const [stored] = (await store.fetch(key, undefined, all)).messages;
    const letter = { message: stored!, window: 'w', consumer: 'A.b', attempts: 1, error: 'no', died: new Date(0) };
    const bury = async (consumer: typeof key) => {
      const [state] = await store.readLeases([consumer]);
      await store.bury((await store.acquireLease(consumer, owner, state!))!, [letter]);
      return (await store.deadLetters('s', {}, undefined, 10)).length;
    };
    expect(await bury(key)).toBe(1);
    await store.registerGroup(heir, { replaces: 'default' });
    expect(await bury(heir)).toBe(1);
    await store.discard('s', {});
    expect(await bury(heir)).toBe(1);
  });

  it('keeps a dead letter apart from what a caller does with it', async () => {
    const store = new MemoryStreamStore();
    const owner = { id: 'a', host: '', bootId: '', pid: 1, startTime: '' };
    await store.registerGroup(key);
    await store.append([message({ bytes: Buffer.from('abc') })]);
    const lease = await store.acquireLease(key, owner, { fence: 0, counter: 0 });
    const [stored] = (await store.fetch(key, undefined, all)).messages;
    const letter = { message: stored!, window: 'w', consumer: 'A.b', attempts: 1, error: 'no', died: new Date(0) };
    await store.bury(lease!, [letter]);
    const read = async () => {
      const [found] = await store.deadLetters('s', {}, undefined, 10);
      return found!.data as { bytes: Buffer };
    };
    (stored!.data as { bytes: Buffer }).bytes.fill(0);
    (await read()).bytes.fill(0);
    expect((await read()).bytes.toString()).toBe('abc');
  });

  it('stays fast while a long backlog is drained from the front', async () => {
    const store = new MemoryStreamStore();
    await store.registerGroup(key);
    const [state] = await store.readLeases([key]);
    const owner = { id: 'a', host: '', bootId: '', pid: 1, startTime: '' };
    const lease = await store.acquireLease(key, owner, state!);
    await store.append(Array.from({ length: 20_000 }, (_, n) => message(n)));
    let drained = 0;
    for (let reads = 0; reads < 200; reads += 1) {
      const { messages } = await store.fetch(key, undefined, { messages: 100, bytes: 1e9 });
      expect(messages[0]?.data).toBe(drained);
      drained += messages.length;
      await store.settle(lease!, [{ window: window(messages.map(({ id }) => id)), messages }], {
        groups: ['default'],
        keep: false,
      });
    }
    expect(drained).toBe(20_000);
    expect(await store.fetch(key, undefined, { messages: 100, bytes: 1e9 })).toEqual({ messages: [], full: false });
  });
});

function window(messageIds: readonly string[]) {
  return { seq: 1, id: 'w', messageIds, created: new Date(0), attempt: 1, recoveries: 0 };
}
