import { BSONRegExp } from 'bson';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startMongo, startReplicaSet } from '../../../../../scripts/servers/mongo/mongo.mjs';
import { RawValue } from '../../storage/mongoose/raw-value.js';
import { until, useSource } from './collection-source.spec.support.js';

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
  beforeAll(async () => {
    server = await startServer();
  });
  afterAll(() => server.stop());

  const test = useSource({ mode, pollInterval: 20 }, () => server.uri);
  const { start, arrived } = test;
  const tailing = () => until('a position', () => test.target.stored !== undefined);

  it('gives regular expressions of others as they are, and others as those of JavaScript', async () => {
    await test.orders.insertOne({ n: 0, like: [PYTHON, new BSONRegExp('a', 'i')] });
    start();
    await arrived(1);
    await tailing();
    await test.orders.insertOne({ n: 1, like: [PYTHON, new BSONRegExp('a', 'i')] });
    await arrived(2);
    expect(test.target.all('like')).toEqual([0, 1].map(() => [PYTHON, /a/i]));
    expect(test.source.counters.unstorable).toBe(0);
  });

  if (!keepsFlags) return;

  it('skips that one alone, wherever it is, and continues, also after a restart', async () => {
    await test.orders.insertMany([{ n: 0 }, { n: 1, odd: ODD }, { n: 2 }]);
    start();
    await arrived(2);
    await tailing();
    await test.orders.insertMany([{ n: 3, odd: ODD }, { n: 4 }, { n: 5, odd: ODD }, { n: 6, odd: ODD }, { n: 7 }]);
    await arrived(4);
    await test.orders.insertOne({ n: 8, odd: ODD });
    await until('all of them', () => test.source.counters.skipped === 5);
    expect(test.target.all('n')).toEqual([0, 2, 4, 7]);
    const line = /^error: CollectionSource: the document .* cannot be stored and was skipped \(\d so far\): .*decoded/;
    expect(test.target.lines).toEqual(Array.from({ length: 5 }, () => expect.stringMatching(line) as string));
    test.stop.abort();
    await test.running;
    start({});
    await test.orders.insertOne({ n: 9 });
    await arrived(5);
    expect(test.target.all('n')).toEqual([0, 2, 4, 7, 9]);
  });

  it('gives the fields that can be decoded to a function, at least the _id', async () => {
    const given: unknown[] = [];
    await test.orders.insertOne({ n: 0 });
    start({ unstorable: (document, error) => void given.push([document['_id'], error.message]) });
    await arrived(1);
    await tailing();
    const { insertedId } = await test.orders.insertOne({ n: 1, odd: ODD });
    await until('the document', () => given.length > 0);
    expect(given).toEqual([[insertedId, expect.stringContaining('cannot be decoded')]]);
  });
});
