import { BSONRegExp } from 'bson';
import type { Connection, mongo } from 'mongoose';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startMongo, startReplicaSet } from '../../../../../scripts/servers/mongo/mongo.mjs';
import { openDatabase, type TestDatabase } from '../../../../../test/support/mongo-server.js';
import { RawValue } from '../../storage/mongoose/raw-value.js';
import { CollectionSource } from './collection.source.js';
import { MemoryTarget, until } from './collection-source.spec.support.js';
import type { CollectionReading } from './collection-source.options.js';

/** With flags that BSON does not know, so that the driver refuses to make a `BSONRegExp` of it, and JavaScript a `RegExp`. */
const ODD = new RawValue(11, Buffer.from('(?P<n>x)\0z\0'));
const PYTHON = new BSONRegExp('(?P<n>x)', 'u');

/** What reads them, how, whether the server keeps such flags as they are, and the server. */
const SERVERS = [
  ['a cursor', 'cursor', true, () => startMongo({ oplog: true })],
  ['a change stream of a single server with an oplog', 'changeStream', true, () => startMongo({ oplog: true })],
  ['a change stream of a replica set', 'changeStream', false, () => startReplicaSet()],
] as const;

describe.each(SERVERS)("documents that JavaScript can't decode, by %s", (_, mode, keepsFlags, startServer) => {
  let server: Awaited<ReturnType<typeof startServer>>;
  let database: TestDatabase;
  let connection: Connection;
  let orders: mongo.Collection;
  let target: MemoryTarget;
  let stop: AbortController;
  let running: Promise<void>;
  let source: CollectionSource;

  beforeAll(async () => {
    server = await startServer();
  });
  afterAll(() => server.stop());
  beforeEach(async () => {
    database = openDatabase(server.uri);
    connection = await database.connect();
    orders = connection.collection('orders');
    target = new MemoryTarget();
  });
  afterEach(async () => {
    stop.abort();
    await running;
    await database.dispose();
  });

  function start(options: CollectionReading = {}): void {
    stop = new AbortController();
    source = new CollectionSource({ connection, collection: 'orders', mode, pollInterval: 20, ...options });
    running = source.stream(target, stop.signal);
    running.catch(() => undefined);
  }

  const arrived = (count: number) => until(`${count} messages`, () => target.messages.length >= count);
  const tailing = () => until('a position', () => target.stored !== undefined);

  it('gives regular expressions of others as they are, and others as those of JavaScript', async () => {
    await orders.insertOne({ n: 0, like: [PYTHON, new BSONRegExp('a', 'i')] });
    start();
    await arrived(1);
    await tailing();
    await orders.insertOne({ n: 1, like: [PYTHON, new BSONRegExp('a', 'i')] });
    await arrived(2);
    expect(target.all('like')).toEqual([0, 1].map(() => [PYTHON, /a/i]));
    expect(source.counters.unstorable).toBe(0);
  });

  if (!keepsFlags) return;

  it('leaves one out alone, wherever it stands, and goes on, also after a restart', async () => {
    await orders.insertMany([{ n: 0 }, { n: 1, odd: ODD }, { n: 2 }]);
    start();
    await arrived(2);
    await tailing();
    await orders.insertMany([{ n: 3, odd: ODD }, { n: 4 }, { n: 5, odd: ODD }, { n: 6, odd: ODD }, { n: 7 }]);
    await arrived(4);
    await orders.insertOne({ n: 8, odd: ODD });
    await until('all of them', () => source.counters.skipped === 5);
    expect(target.all('n')).toEqual([0, 2, 4, 7]);
    const line = /^error: CollectionSource: the document .* cannot be stored and was skipped \(\d so far\): .*decoded/;
    expect(target.lines).toEqual(Array.from({ length: 5 }, () => expect.stringMatching(line) as string));
    stop.abort();
    await running;
    start({});
    await orders.insertOne({ n: 9 });
    await arrived(5);
    expect(target.all('n')).toEqual([0, 2, 4, 7, 9]);
  });

  it('gives the fields that can be decoded to a function, at least the _id', async () => {
    const given: unknown[] = [];
    await orders.insertOne({ n: 0 });
    start({ unstorable: (document, error) => void given.push([document['_id'], error.message]) });
    await arrived(1);
    await tailing();
    const { insertedId } = await orders.insertOne({ n: 1, odd: ODD });
    await until('the document', () => given.length > 0);
    expect(given).toEqual([[insertedId, expect.stringContaining('cannot be decoded')]]);
  });
});
