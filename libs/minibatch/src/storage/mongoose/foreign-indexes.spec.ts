import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { keyOf, messageOf, openStore, takeLease, type TestStore } from '../../../../../test/support/mongoose-store.js';
import { bury, finish, read } from '../../testing/store-contract/fixtures.js';

const KEY = keyOf('flights', 'default');

/** An index of the application's own that one value may be in once. What violates it is no duplicate of ours: it must not pass for one. */
describe('a unique index of the application', () => {
  let test: TestStore;
  beforeEach(async () => {
    test = await openStore();
    await test.store.registerGroup(KEY);
  });
  afterEach(() => test.dispose());

  const unique = (collection: string) =>
    test.connection.collection(collection).createIndex({ 'data.order': 1 }, { name: 'one_order', unique: true });
  const order = (n: number, dedupeId?: string) => ({
    ...messageOf('flights', { order: n }),
    ...(dedupeId !== undefined && { dedupeId }),
  });
  const append = async (...messages: readonly ReturnType<typeof order>[]) =>
    (await test.store.append(messages)).map((outcome) =>
      outcome.status === 'failed' ? outcome.error.message.replace(/.*(one_order).*/s, '$1') : outcome.status,
    );

  it('refuses appends with its name, alone and among others, with a dedupe id and without', async () => {
    await unique('buffer');
    expect(await append(order(1))).toEqual(['stored']);
    expect(await append(order(1))).toEqual(['one_order']);
    expect(await append(order(2), order(1), order(3))).toEqual(['stored', 'one_order', 'stored']);
    expect(await append(order(4, 'four'))).toEqual(['stored']);
    expect(await append(order(4, 'another'))).toEqual(['one_order']);
    expect(await append(order(4, 'another'), order(5, 'five'))).toEqual(['one_order', 'stored']);
    // The same dedupe id is still a duplicate.
    expect(await append(order(6, 'four'), order(7, 'seven'))).toEqual(['duplicate', 'stored']);
    expect(await read(test.store, KEY)).toHaveLength(6);
  });

  it('keeps a message that no dead letter can be made of', async () => {
    await unique('deadletter');
    await append(order(1), order(1));
    const lease = await takeLease(test.store, KEY);
    const messages = await read(test.store, KEY);
    await bury(test.store, lease, messages.slice(0, 1));
    await expect(bury(test.store, lease, messages.slice(1))).rejects.toThrow('one_order');
    expect(await read(test.store, KEY)).toHaveLength(2);
  });

  it('keeps a dead letter that can not go back into the buffer', async () => {
    await append(order(1));
    const lease = await takeLease(test.store, KEY);
    const messages = await read(test.store, KEY);
    await bury(test.store, lease, messages);
    await finish(test.store, lease, 1, messages);
    await unique('buffer');
    await append(order(1));
    await expect(test.store.redrive('flights', {})).rejects.toThrow('one_order');
    expect(await test.store.deadLetters('flights', {}, undefined, 10)).toHaveLength(1);
  });
});
