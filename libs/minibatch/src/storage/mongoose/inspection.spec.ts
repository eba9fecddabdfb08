import { mongo } from 'mongoose';
import { beforeEach, describe, expect, it } from 'vitest';
import {
  appendAll,
  keyOf,
  messageOf,
  useStore,
  takeLease,
  windowOf,
} from '../../../../../test/support/mongoose-store.js';
import { SystemClock } from '../../common/clock.js';
import { StreamHub } from '../../streams/stream-hub.js';
import { consume } from './dead-letters.spec.support.js';

const KEY = keyOf('flights');
const ALL = { messages: 1000, bytes: 2 ** 24 };
const LOG = { log: () => undefined, warn: () => undefined, error: () => undefined };

describe('inspecting what is stored in MongoDB', () => {
  const test = useStore();
  beforeEach(async () => {
    await takeLease(test.store, KEY);
  });

  const stream = () =>
    new StreamHub({ store: test.store, clock: new SystemClock(), log: LOG, retry: {} as never }).stream('flights');
  const messages = async () => {
    const found = [];
    for await (const message of stream().messages()) found.push(message);
    return found;
  };

  it('passes over what others have put there, and what Python has claimed or kept', async () => {
    const created = new Date(1_000);
    await appendAll(test.store, [messageOf('flights', 'mine')]);
    await consume(test.store, 'flights', 'default', { keep: true });
    await appendAll(test.store, [messageOf('flights', 'waits')]);
    const kept = { processed: true, keep: true, settled: new Date(), created };
    await test.connection.collection('buffer').insertMany(
      [
        // A text for an id, no date, an old claim, a tombstone, a copy that is hidden.
        { _id: 'text', ...kept },
        { _id: new mongo.ObjectId(), ...kept, created: 'x' },
        { _id: new mongo.ObjectId(), processed: true, created },
        { _id: new mongo.ObjectId(), processed: true, keep: true, created },
        { _id: new mongo.ObjectId(), processed: true, settled: new Date(), created },
        { _id: new mongo.ObjectId(), processed: true, redrives: ['a', new mongo.ObjectId()], created },
        { _id: 5, processed: false, created },
      ].map((each) => ({ stream: 'flights', data: 'foreign', ...each })) as never,
    );
    const window = { processed: true, consumer: 'flights/default/0', settled: new Date(), created, fence: 1 };
    await test.connection.collection('window').insertMany(
      [
        { _id: 5, ...window },
        { _id: 'no number', ...window },
        { _id: 'no ids', ...window, seq: 7 },
        { _id: 'ids of another kind', ...window, seq: 8, ids: 'x' },
        { _id: new mongo.ObjectId(), stream: 'flights', processed: true, data: [1], query: [], created },
      ].map((each) => ({ stream: 'flights', ...each })) as never,
    );
    expect((await messages()).map(({ data, state }) => [data, state])).toEqual([
      ['mine', 'kept'],
      ['waits', 'waiting'],
    ]);
    const found = [];
    for await (const { id, state } of stream().windows()) found.push([id, state]);
    expect(found).toEqual([]);
  });

  it('leaves out windows of a former holder that came too late', async () => {
    const { store, connection } = test;
    const ids = await appendAll(store, [messageOf('flights', 1), messageOf('flights', 2)]);
    const old = await takeLease(store, KEY);
    await store.claim(old, [windowOf(1, ids.slice(0, 1))]);
    const lease = await takeLease(store, KEY, { ...old.owner, id: 'next' });
    await store.recover(lease);
    await connection.collection('window').insertOne({
      ...(await connection.collection('window').findOne({})),
      _id: 'late' as never,
      seq: 2,
      fence: old.fence,
    });
    const { windows } = await store.readWindows(KEY, 'claimed', undefined, 100);
    expect(windows.map(({ seq }) => seq)).toEqual([1]);
  });

  it('replays what is missing of a replay that died, and is told from nothing but its copies', async () => {
    const { store, connection } = test;
    const rows = Array.from({ length: 1_200 }, (_, n) => n);
    await appendAll(
      store,
      rows.map((n) => messageOf('flights', n)),
    );
    await takeLease(store, keyOf('flights', 'other'));
    for (const group of ['default', 'other']) await consume(store, 'flights', group, { keep: true });
    expect(await store.replay('flights', 'default', {})).toBe(1_200);
    // As if it had died in the middle of an insert.
    const lost = await connection
      .collection('buffer')
      .deleteMany({ replayOf: { $exists: true }, data: { $in: [3, 499, 700, 1_199] } });
    expect(lost.deletedCount).toBe(4);
    expect(await store.replay('flights', 'default', {})).toBe(4);
    const copies = await consume(store, 'flights', 'default', { keep: true });
    expect(copies.map(({ data }) => data).toSorted((a, b) => Number(a) - Number(b))).toEqual(rows);
    expect(await consume(store, 'flights', 'other')).toEqual([]);
    expect(await connection.collection('buffer').countDocuments()).toBe(1_200);
  });

  it('takes few commands for a page of messages, and none that writes', async () => {
    const { store, commands } = test;
    await appendAll(store, [messageOf('flights', 1)]);
    const hub = stream();
    commands();
    for await (const _ of hub.messages()) void _;
    const sent = commands();
    expect(new Set(sent)).toEqual(new Set(['find']));
    await store.readKept('flights', undefined, ALL);
    // The groups of the stream first.
    expect(commands()).toEqual(['find', 'find']);
  });
});
