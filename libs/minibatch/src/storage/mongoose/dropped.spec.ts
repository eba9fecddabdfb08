import { beforeEach, describe, expect, it } from 'vitest';
import {
  appendAll,
  dataOf,
  keyOf,
  messageOf,
  useStore,
  takeLease,
  windowOf,
} from '../../../../../test/support/mongoose-store.js';

const KEY = keyOf('flights');

describe('what was dropped', () => {
  const test = useStore();
  beforeEach(async () => {
    await test.store.registerGroup(KEY);
    await test.store.registerGroup(keyOf('flights', 'audit'));
  });

  const dedupeIndex = async () => {
    const indexes = await test.connection.collection('buffer').listIndexes().toArray();
    return indexes.find(({ name }: { name?: string }) => name === 'minibatch_dedupe');
  };

  it('is made again with its indexes when a stream is, after the database was dropped', async () => {
    const { store, connection } = test;
    await connection.dropDatabase();
    await store.ensureStream('flights');
    expect(await dedupeIndex()).toMatchObject({ unique: true, sparse: true });
    const [, second] = await store.append([
      messageOf('flights', 1, { dedupeId: 'x' }),
      messageOf('flights', 2, { dedupeId: 'x' }),
    ]);
    expect(second?.status).toBe('duplicate');
  });

  it('may have let dedupe ids be stored twice: the messages stay, and the next one is a duplicate', async () => {
    const { store, connection } = test;
    await connection.dropDatabase();
    const twice = () => messageOf('flights', 'x', { dedupeId: 'x' });
    await appendAll(store, [twice()]);
    await appendAll(store, [twice()]);
    await store.registerGroup(KEY);
    expect(await dedupeIndex()).toBeDefined();
    expect(await store.append([twice()])).toEqual([{ status: 'duplicate' }]);
    expect(await dataOf(store, KEY)).toEqual(['x', 'x']);
  });

  it('is told by the leases', async () => {
    const { store, connection } = test;
    const lease = await takeLease(store, KEY);
    await connection.collection('consumer').drop();
    expect(await store.renewLeases([lease])).toEqual([lease]);
    expect(await store.readLeases([KEY])).toMatchObject([{ fence: 0, missing: true }]);
    await store.registerGroup(KEY);
    expect((await store.readLeases([KEY]))[0]).not.toHaveProperty('missing');
  });

  it('leaves no windows to a consumer that begins again', async () => {
    const { store, connection } = test;
    const ids = await appendAll(store, [messageOf('flights', 1), messageOf('flights', 2)]);
    const lease = await takeLease(store, KEY);
    await store.claim(lease, [windowOf(1, ids.slice(0, 1))]);
    await connection.collection('consumer').drop();
    const again = await takeLease(store, KEY);
    expect(await store.recover(again)).toMatchObject({ open: [], finished: [] });
    await store.claim(again, [windowOf(1, ids)]);
    const { open } = await store.recover(await takeLease(store, KEY));
    expect(open.map(({ messageIds }) => messageIds)).toEqual([ids]);
  });

  it('gets its groups back from their consumers, and takes others', async () => {
    const { store, connection } = test;
    await connection.collection('stream').drop();
    expect((await store.ensureStream('flights')).groups.toSorted()).toEqual(['audit', 'default']);
    const lease = await takeLease(store, KEY);
    await store.registerGroup(keyOf('flights', 'late'));
    const progress = { lastSeq: 0, windows: 0, messages: 0 };
    expect((await store.commit(lease, { finished: [], progress })).toSorted()).toEqual(['audit', 'default', 'late']);
  });
});
