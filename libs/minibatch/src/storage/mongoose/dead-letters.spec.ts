import { describe, expect, it } from 'vitest';
import {
  appendAll,
  dataOf,
  keyOf,
  messageOf,
  useStore,
  RIVAL,
  takeLease,
} from '../../../../../test/support/mongoose-store.js';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { MAX_DOCUMENT_MESSAGE_BYTES } from './message-limit.js';
import { buryAll, consume, DIED, letterOf } from './dead-letters.spec.support.js';

const KEY = keyOf('flights');
const AUDIT = keyOf('flights', 'audit');
const LIMITS = { messages: 1000, bytes: 2 ** 30 };

describe('dead letters', () => {
  const test = useStore();

  const count = (collection: string, filter = {}) => test.connection.collection(collection).countDocuments(filter);
  const list = (filter = {}, after?: string, limit = 1000) => test.store.deadLetters('flights', filter, after, limit);

  it('take as many commands for many as for one', async () => {
    const { store, commands } = test;
    const lease = await takeLease(store, KEY);
    await appendAll(
      store,
      Array.from({ length: 400 }, (_, i) => messageOf('flights', i)),
    );
    const { messages } = await store.fetch(KEY, undefined, LIMITS);
    commands();
    await store.bury(
      lease,
      messages.map((message) => letterOf(message)),
    );
    expect(commands()).toEqual(['find', 'insert']);
    expect(await list()).toHaveLength(400);
    expect(commands()).toEqual(['find']);
    expect(await store.redrive('flights', {})).toBe(400);
    expect(commands()).toEqual(['find', 'find', 'insert', 'update', 'find', 'update', 'delete', 'delete']);
    expect(await store.redrive('flights', {})).toBe(0);
    expect(commands()).toEqual(['find', 'find']);
    await store.bury(
      lease,
      messages.map((message) => letterOf(message)),
    );
    commands();
    expect(await store.discard('flights', {})).toBe(400);
    expect(commands()).toEqual(['find', 'delete', 'delete']);
  });

  it('are stored once for a message and a group, as they were first', async () => {
    const { store } = test;
    const [one, two] = [await takeLease(store, KEY), await takeLease(store, AUDIT)];
    await appendAll(store, [messageOf('flights', 1), messageOf('flights', 2)]);
    const [first, second] = (await store.fetch(KEY, undefined, LIMITS)).messages;
    await store.bury(one, [letterOf(first!)]);
    await store.bury(one, [letterOf(first!, { error: 'later' }), letterOf(second!)]);
    await store.bury(two, [letterOf(first!)]);
    expect((await list()).map(({ group, data, error }) => [group, data, error])).toEqual([
      ['audit', 1, 'boom'],
      ['default', 1, 'boom'],
      ['default', 2, 'boom'],
    ]);
    expect((await store.stats())[0]?.deadLetters).toBe(3);
  });

  it('are not stored for a former holder', async () => {
    const { store } = test;
    const former = await takeLease(store, KEY);
    await appendAll(store, [messageOf('flights', 1)]);
    const [message] = (await store.fetch(KEY, undefined, LIMITS)).messages;
    await takeLease(store, KEY, RIVAL);
    await expect(store.bury(former, [letterOf(message!)])).rejects.toMatchObject({ code: ErrorCode.LeaseLost });
    expect(await count('deadletter')).toBe(0);
  });

  it('take a message that is as large as one can be, with what fits of its error', async () => {
    const { store } = test;
    const lease = await takeLease(store, KEY);
    const [outcome] = await store.append([messageOf('flights', 'x'.repeat(MAX_DOCUMENT_MESSAGE_BYTES - 200))]);
    expect(outcome?.status).toBe('stored');
    const [message] = (await store.fetch(KEY, undefined, LIMITS)).messages;
    await store.bury(lease, [letterOf(message!, { error: 'é'.repeat(100_000), stack: 's'.repeat(100_000) })]);
    await consume(store, 'flights');
    const [letter] = await list();
    expect(letter?.error).toMatch(/^é+$/);
    expect(letter?.stack).toMatch(/^s+$/);
    expect(await store.redrive('flights', {})).toBe(1);
    expect((await dataOf(store, KEY))[0]).toHaveLength(MAX_DOCUMENT_MESSAGE_BYTES - 200);
  });

  it('keep short errors whole, next to a small message', async () => {
    const { store } = test;
    const lease = await takeLease(store, KEY);
    await appendAll(store, [
      messageOf('flights', { a: undefined, $ref: 'x', $id: 1 }, { key: 'k', headers: { h: 'v' } }),
    ]);
    const [message] = (await store.fetch(KEY, undefined, LIMITS)).messages;
    const stack = 's'.repeat(100_000);
    await store.bury(lease, [letterOf(message!, { stack })]);
    const [letter] = await list();
    expect(letter).toEqual({
      id: expect.any(String),
      stream: 'flights',
      group: 'default',
      messageId: message!.id,
      created: message!.created,
      data: { a: null, $ref: 'x', $id: 1 },
      key: 'k',
      headers: { h: 'v' },
      window: 'window-1',
      consumer: 'Report.run',
      attempts: 5,
      error: 'boom',
      stack,
      died: DIED,
    });
  });

  it('are found by pages, group, time and ids', async () => {
    const { store } = test;
    await buryAll(store, 'flights', [0, 1, 2, 3, 4]);
    await buryAll(store, 'other', [9]);
    const all = await list();
    const [foreign] = await store.deadLetters('other', {}, undefined, 10);
    expect(all.map(({ data }) => data)).toEqual([0, 1, 2, 3, 4]);
    expect(all.map(({ id }) => id).toSorted()).toEqual(all.map(({ id }) => id));
    expect((await list({}, all[1]?.id, 2)).map(({ data }) => data)).toEqual([2, 3]);
    expect(await list({}, all[4]?.id)).toEqual([]);
    expect(await list({}, undefined, 0)).toEqual([]);
    expect(await list({ group: 'audit' })).toEqual([]);
    expect(await list({ before: DIED })).toEqual([]);
    expect(await list({ before: new Date(DIED.getTime() + 1) })).toHaveLength(5);

    // Those that are not there, or elsewhere, leave no gap in a page.
    const missing = Array.from({ length: 5 }, (_, i) => `0000000000000000000000${i}0.x`);
    const ids = [all[3]!.id, ...missing, foreign!.id, all[1]!.id, all[2]!.id, all[1]!.id];
    expect((await list({ ids }, undefined, 2)).map(({ data }) => data)).toEqual([1, 2]);
    expect((await list({ ids }, all[2]?.id, 2)).map(({ data }) => data)).toEqual([3]);
    expect(await list({ ids: [] })).toEqual([]);
    expect(await list({ ids, group: 'audit' })).toEqual([]);

    expect(await store.redrive('flights', { ids: [all[0]!.id, foreign!.id] })).toBe(1);
    expect(await dataOf(store, KEY)).toEqual([0]);
    expect(await store.discard('flights', { ids: [all[1]!.id, foreign!.id], before: DIED })).toBe(0);
    expect(await store.discard('flights', { ids: [all[1]!.id, foreign!.id] })).toBe(1);
    expect((await list()).map(({ data }) => data)).toEqual([2, 3, 4]);
    expect((await store.stats()).map(({ name, deadLetters }) => [name, deadLetters])).toEqual([
      ['flights', 3],
      ['other', 1],
    ]);
  });

  it('go with their stream, and stay when their group is removed', async () => {
    const { store } = test;
    await store.registerGroup(AUDIT);
    await buryAll(store, 'flights', [1, 2]);
    await buryAll(store, 'other', [3]);
    await store.removeGroup('flights', 'default');
    expect(await store.redrive('flights', {})).toBe(0);
    expect(await store.redrive('missing', {})).toBe(0);
    expect(await list({ group: 'default' })).toHaveLength(2);
    await store.registerGroup(KEY);
    expect(await store.redrive('flights', { group: 'audit' })).toBe(0);
    expect(await store.redrive('flights', { group: 'default' })).toBe(2);
    await store.dropStream('flights');
    await store.dropStream('other');
    expect([await count('deadletter'), await count('buffer')]).toEqual([0, 0]);
  });

  it('are those of the group that replaces theirs', async () => {
    const { store } = test;
    await buryAll(store, 'flights', [1]);
    await store.registerGroup(AUDIT, { replaces: 'default' });
    expect((await list()).map(({ group }) => group)).toEqual(['audit']);
    expect(await store.redrive('flights', {})).toBe(1);
    expect(await dataOf(store, AUDIT)).toEqual([1]);
  });

  it('come back to the partition and the group they are of, as they were, and not deduped', async () => {
    const { store, connection } = test;
    await store.ensureStream('flights', { partitions: 3 });
    const key = keyOf('flights', 'default', 2);
    const lease = await takeLease(store, key);
    await store.registerGroup(AUDIT);
    const headers = { h: 'v' };
    const created = new Date(1_700_000_000_000);
    await store.append([messageOf('flights', { n: 1 }, { key: 'k', headers, dedupeId: 'd', partition: 2, created })]);
    const { messages } = await store.fetch(key, undefined, LIMITS);
    await store.bury(
      lease,
      messages.map((message) => letterOf(message)),
    );
    await connection.collection('buffer').deleteMany({});
    expect(await store.redrive('flights', {})).toBe(1);
    const [back] = (await store.fetch(key, undefined, LIMITS)).messages;
    expect({ ...back, ...back?.read() }).toEqual({
      id: expect.any(String),
      redriven: true,
      created,
      data: { n: 1 },
      key: 'k',
      headers,
      bytes: expect.any(Number),
      done: ['audit'],
    });
    expect(back!.id > messages[0]!.id).toBe(true);
    expect(await dataOf(store, keyOf('flights', 'audit', 2))).toEqual([]);
  });

  it('leave the messages that they are of when others have not committed them', async () => {
    const { store } = test;
    await store.registerGroup(AUDIT);
    await buryAll(store, 'flights', [1]);
    expect(await store.redrive('flights', {})).toBe(1);
    expect((await consume(store, 'flights', 'audit')).map(({ data }) => data)).toEqual([1]);
    expect((await consume(store, 'flights')).map(({ data }) => data)).toEqual([1]);
    expect(await count('buffer')).toBe(0);
  });

  it('change the token of a consumer that polls', async () => {
    const { store } = test;
    await buryAll(store, 'flights', [1]);
    const before = await store.poll([KEY]);
    await store.redrive('flights', {});
    expect(await store.poll([KEY])).not.toEqual(before);
  });
});
