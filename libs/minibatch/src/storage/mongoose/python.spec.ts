import { mongo } from 'mongoose';
import { describe, expect, it } from 'vitest';
import {
  appendAll,
  keyOf,
  messageOf,
  useStore,
  takeLease,
  windowOf,
} from '../../../../../test/support/mongoose-store.js';

const KEY = keyOf('flights');
const LIMITS = { messages: 1000, bytes: 2 ** 24 };

describe('a database shared with Python', () => {
  const test = useStore();

  it('consumes what Python appended, and leaves alone what Python has claimed', async () => {
    const { store, connection } = test;
    const created = new Date(1_700_000_000_000);
    const buffer = connection.collection('buffer');
    await buffer.insertMany([
      { stream: 'flights', data: { delay: 1 }, processed: false, created },
      { stream: 'flights', data: { delay: 2 }, processed: true, created },
      { stream: 'flights', data: { delay: 3 }, processed: false },
    ]);
    const lease = await takeLease(store, KEY);
    const { messages, full } = await store.fetch(KEY, undefined, LIMITS);
    expect(full).toBe(false);
    // The library always sets `created`: without it there is no place for a document in the order of time.
    expect(messages.map(({ data }) => data)).toEqual([{ delay: 1 }]);
    expect(messages[0]?.created).toEqual(created);
    expect((await store.stats())[0]).toMatchObject({ buffered: 1, foreign: { documents: 1 } });
    expect(
      (await store.fetchByTime(KEY, { to: new Date(1_800_000_000_000) }, undefined, LIMITS)).messages,
    ).toHaveLength(1);

    const window = windowOf(
      1,
      messages.map(({ id }) => id),
    );
    const groups = await store.commit(lease, { finished: [1], progress: { lastSeq: 1, windows: 1, messages: 1 } });
    await store.settle(lease, [{ window, messages }], { groups, keep: false });
    await store.sweep('flights', { kept: new Date(Date.now() + 1000), tombstones: new Date(Date.now() + 1000) });
    expect((await buffer.find({}).toArray()).map(({ data }) => data as unknown)).toEqual([{ delay: 2 }, { delay: 3 }]);
  });

  it('reads integers that Python wrote as numbers, as long as they are exact, and bytes as a Buffer', async () => {
    const { store, connection } = test;
    const data = { at: 1_700_000_000_000n, most: 2n ** 53n - 1n, id: 2n ** 53n + 1n, bytes: Buffer.from('abc') };
    // Of another process within the same second, its id might be behind those of ours.
    const _id = new mongo.ObjectId('65a000000000000000000001');
    const document = { _id, stream: 'flights', data, processed: false, created: new Date() };
    await connection.collection('buffer').insertOne(document);
    await appendAll(store, [messageOf('flights', data), messageOf('flights', { n: 5 })]);
    const { messages } = await store.fetch(KEY, undefined, LIMITS);
    expect(messages.map((message) => message.data)).toEqual([
      { ...data, at: 1_700_000_000_000, most: 2 ** 53 - 1 },
      data,
      { n: 5 },
    ]);
    const documents = await connection.collection('buffer').find({}).sort({ _id: 1 }).toArray();
    expect(documents.map((document) => document['bigints'] as unknown)).toEqual([undefined, true, undefined]);
  });

  it('keeps integers that Python wrote what they were, in a dead letter and when they come back', async () => {
    const { store, connection } = test;
    const data = { at: 1_700_000_000_000n, id: 2n ** 53n + 1n };
    await connection.collection('buffer').insertOne({ stream: 'flights', data, processed: false, created: new Date() });
    const lease = await takeLease(store, KEY);
    const { messages } = await store.fetch(KEY, undefined, LIMITS);
    const window = windowOf(1, [messages[0]!.id]);
    const note = { window: 'w', consumer: 'A.b', attempts: 1, error: 'no', died: new Date() };
    await store.bury(lease, [{ message: messages[0]!, ...note }]);
    const groups = await store.commit(lease, { finished: [1], progress: { lastSeq: 1, windows: 1, messages: 1 } });
    await store.settle(lease, [{ window, messages }], { groups, keep: false });
    const expected = { at: 1_700_000_000_000, id: 2n ** 53n + 1n };
    expect((await store.deadLetters('flights', {}, undefined, 10)).map((letter) => letter.data)).toEqual([expected]);
    expect(await store.redrive('flights', {})).toBe(1);
    expect((await store.fetch(KEY, undefined, LIMITS)).messages.map((message) => message.data)).toEqual([expected]);
  });

  it('opens a stream that Python has made', async () => {
    const { store, connection } = test;
    const created = new Date(1_700_000_000_000);
    await connection
      .collection('stream')
      .insertOne({ name: 'flights', status: 'initialize', created, interval: 10, last_read: created });
    expect(await store.describeStream('flights')).toMatchObject({ status: 'init', groups: [] });
    expect(await store.ensureStream('flights')).toMatchObject({ status: 'open', created });
    await store.registerGroup(KEY);
    expect(await connection.collection('stream').findOne({})).toMatchObject({ interval: 10, schemaVersion: 1 });
  });

  it('writes the fields that Python reads', async () => {
    const { store, connection } = test;
    const lease = await takeLease(store, KEY);
    const ids = await appendAll(store, [messageOf('flights', { delay: 1 })]);
    await store.claim(lease, [windowOf(1, ids)]);
    expect(await connection.collection('buffer').findOne({})).toEqual({
      _id: new mongo.ObjectId(ids[0]),
      stream: 'flights',
      created: expect.any(Date),
      data: { delay: 1 },
      processed: false,
    });
    expect(await connection.collection('window').findOne({})).toMatchObject({
      stream: 'flights',
      created: expect.any(Date),
      data: [],
      processed: false,
      query: [],
    });
    expect(await connection.collection('stream').findOne({})).toMatchObject({
      name: 'flights',
      status: 'open',
      created: expect.any(Date),
      interval: 10,
      last_read: expect.any(Date),
    });
  });
});
