import { ObjectId } from 'bson';
import type { Connection, mongo } from 'mongoose';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type MongoServer, startMongo, startReplicaSet } from '../../../../../scripts/servers/mongo/mongo.mjs';
import { openDatabase, type TestDatabase } from '../../../../../test/support/mongo-server.js';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { CollectionSource } from './collection.source.js';
import { dedupeId, messageId } from './dedupe-id.js';
import { MemoryTarget, STOP_LIMIT, until } from './collection-source.spec.support.js';
import type { CollectionReading } from './collection-source.options.js';

const ID = new ObjectId('650000000000000000000001');

/** Fails like a store that is down, once the condition holds. */
function interruptAt(before: MemoryTarget['before'], condition: () => boolean): MemoryTarget['before'] {
  return async (data) => {
    if (condition()) throw new Error('store is down');
    await before(data);
  };
}

const SERVERS = {
  'a single server with an oplog': () => startMongo({ oplog: true }),
  'a replica set': () => startReplicaSet(),
};

describe.each(Object.entries(SERVERS))('CollectionSource with a change stream of %s', (name, startServer) => {
  let server: MongoServer;
  let database: TestDatabase;
  let connection: Connection;
  let orders: mongo.Collection;
  let target: MemoryTarget;
  let stop: AbortController;
  let running: Promise<void>;

  beforeAll(async () => {
    server = await startServer();
  });

  afterAll(() => server.stop());

  beforeEach(async () => {
    database = openDatabase(server.uri);
    connection = await database.connect();
    orders = connection.collection('orders');
    target = new MemoryTarget();
    stop = new AbortController();
    running = Promise.resolve();
  });

  afterEach(async () => {
    await end();
    await database.dispose();
  });

  function source(options: CollectionReading = {}): CollectionSource {
    return new CollectionSource({ connection, collection: 'orders', mode: 'changeStream', ...options });
  }

  function start(options: CollectionReading = {}): void {
    stop = new AbortController();
    running = source(options).stream(target, stop.signal);
    running.catch(() => undefined);
  }

  async function end(): Promise<void> {
    stop.abort();
    await running.catch(() => undefined);
  }

  const arrived = (count: number) => until(`${count} messages`, () => target.messages.length >= count);
  const stored = () =>
    target.stored as {
      readonly mode?: string;
      readonly start?: string;
      readonly from?: string;
      readonly overlap?: true;
    };
  const tailing = () => until('the tail', () => stored()?.mode === 'changeStream' && !stored().overlap);

  it('gives what is there, then what comes', async () => {
    await orders.insertMany(Array.from({ length: 1200 }, (_, n) => ({ n })));
    start();
    await arrived(1200);
    await tailing();
    await orders.insertMany(Array.from({ length: 1200 }, (_, n) => ({ n: 1200 + n })));
    await arrived(2400);
    expect(target.all('n')).toEqual(Array.from({ length: 2400 }, (_, n) => n));
  });

  it('is chosen by itself', async () => {
    start({ mode: 'auto' });
    await tailing();
  });

  it('misses nothing that is inserted during the snapshot, below it or above', async () => {
    await orders.insertMany(Array.from({ length: 30 }, (_, n) => ({ n })));
    let first = true;
    target.before = async () => {
      if (!first) return;
      first = false;
      await orders.insertMany([{ _id: new ObjectId('000000000000000000000001'), n: 'below' }, { n: 'above' }]);
    };
    start({ batch: 10 });
    await arrived(32);
    await tailing();
    expect(new Set(target.all('n')).size).toBe(32);
    expect(target.messages).toHaveLength(32);
  });

  it('gives a document again that was deleted and inserted again under its _id', async () => {
    await orders.insertOne({ _id: ID, n: 1 });
    start();
    await tailing();
    for (const n of [2, 2, 3]) {
      await orders.deleteOne({ _id: ID });
      await orders.insertOne({ _id: ID, n });
    }
    await arrived(4);
    expect(target.all('n')).toEqual([1, 2, 2, 3]);
  });

  it('gives the last state of a document that was inserted again during the snapshot, also after a restart', async () => {
    await orders.insertMany([{ _id: ID, n: 1 }, { n: 2 }]);
    let reads = 0;
    target.before = async () => {
      reads += 1;
      // The first batch has been read with the document as it was.
      if (reads > 1) return;
      await orders.deleteOne({ _id: ID });
      await orders.insertOne({ _id: ID, n: 3 });
    };
    // Interrupted while it reads what came during the snapshot.
    target.before = interruptAt(target.before, () => stored()?.overlap === true);
    start({ batch: 10 });
    await expect(running).rejects.toThrow('store is down');
    expect(stored()).toMatchObject({ mode: 'changeStream', overlap: true });
    target.before = () => undefined;
    start({ batch: 10 });
    await tailing();
    expect(target.all('n')).toEqual([1, 2, 3]);
  });

  it('with the same names of collections on two servers collides in no stream', async () => {
    const ids = ['Here', 'There'].map((name) => messageId(name, dedupeId(`${connection.name}.orders`, ID)));
    expect(new Set(ids).size).toBe(2);
    target.source = 'Here';
    await orders.insertOne({ _id: ID, n: 1 });
    start();
    await arrived(1);
    expect(target.messages[0]?.dedupeId).toBe(ids[0]);
  });

  it('asks for majority reads, whatever the connection asks for', async () => {
    const local = await database.connect({ readConcern: { level: 'local' }, monitorCommands: true });
    const concerns: unknown[] = [];
    local.getClient().on('commandStarted', ({ command }) => {
      if ('aggregate' in command) concerns.push((command['readConcern'] as { level?: unknown } | undefined)?.level);
    });
    stop = new AbortController();
    running = new CollectionSource({ connection: local, collection: 'orders', mode: 'changeStream' }).stream(
      target,
      stop.signal,
    );
    await tailing();
    expect(concerns.length).toBeGreaterThan(0);
    expect(new Set(concerns)).toEqual(new Set(['majority']));
  });

  it('goes on with a snapshot that was interrupted', async () => {
    await orders.insertMany(Array.from({ length: 50 }, (_, n) => ({ n })));
    target.before = () => {
      if (target.messages.length >= 30) throw new Error('store is down');
    };
    start({ batch: 10 });
    await expect(running).rejects.toThrow('store is down');
    expect(stored().mode).toBe('snapshot');
    target.before = () => undefined;
    await orders.insertOne({ n: 50 });
    start({ batch: 10 });
    await arrived(51);
    await tailing();
    expect(target.all('n')).toEqual(Array.from({ length: 51 }, (_, n) => n));
  });

  it('goes on after the last event that was stored, and gives what came while it was stopped', async () => {
    start();
    await tailing();
    await orders.insertOne({ n: 1 });
    await arrived(1);
    await end();
    // Below what was read: a cursor alone would have to look back for it.
    await orders.insertOne({ _id: new ObjectId('000000000000000000000001'), n: 2 });
    await orders.insertOne({ n: 3 });
    target.given = 0;
    start();
    await arrived(3);
    expect(target.all('n')).toEqual([1, 2, 3]);
    expect(target.given).toBe(2);
  });

  it('loses nothing when it is killed between messages and position', async () => {
    start();
    await tailing();
    target.losePosition = true;
    await orders.insertMany([{ n: 1 }, { n: 2 }]);
    await expect(running).rejects.toThrow('killed');
    target.losePosition = false;
    start();
    await arrived(2);
    await orders.insertOne({ n: 3 });
    await arrived(3);
    expect(target.all('n')).toEqual([1, 2, 3]);
  });

  it('with snapshot: false gives what comes after the start, also if it is killed before the first message', async () => {
    await orders.insertOne({ n: 'old' });
    start({ snapshot: false });
    await tailing();
    await end();
    await orders.insertOne({ n: 'new' });
    start({ snapshot: false });
    await until('the new one', () => target.all('n').includes('new'));
  });

  it('with snapshot: false leaves out what is there', async () => {
    await orders.insertOne({ n: 'old' });
    start({ snapshot: false });
    await tailing();
    await orders.insertOne({ n: 'new' });
    await arrived(1);
    expect(target.all('n')).toEqual(['new']);
  });

  it('filters, projects, maps and keys in the snapshot and in the stream', async () => {
    const documents = (n: number) => [
      { n, state: { name: 'paid' }, secret: 'x' },
      { n: n + 1, state: { name: 'open' }, secret: 'x' },
      { n: n + 2, state: { name: 'paid' }, secret: 'x' },
    ];
    await orders.insertMany(documents(1));
    start({
      filter: { $or: [{ 'state.name': 'paid' }, { n: { $gt: 1000 } }] },
      projection: { n: 1, 'state.name': 1 },
      map: ({ n, state, secret }) => ({ n, state, secret }),
      key: ({ n }) => String(n),
    });
    await arrived(2);
    await tailing();
    await orders.insertMany(documents(11));
    await arrived(4);
    expect(target.messages.map(({ data, key }) => ({ data, key }))).toEqual(
      [1, 3, 11, 13].map((n) => ({ data: { n, state: { name: 'paid' }, secret: undefined }, key: String(n) })),
    );
  });

  it.each(['idle', 'appending'])('stops within a second while %s', async (state) => {
    start();
    await tailing();
    let appending = false;
    if (state === 'appending') {
      target.before = () => {
        appending = true;
        return new Promise(() => undefined);
      };
      await orders.insertOne({ n: 1 });
      await until('an append', () => appending);
    }
    const since = performance.now();
    stop.abort();
    await running;
    expect(performance.now() - since).toBeLessThan(STOP_LIMIT);
  });

  it('takes over from a cursor when the server has become a replica set', async () => {
    await orders.insertOne({ n: 1 });
    start({ mode: 'cursor' });
    await arrived(1);
    await end();
    await orders.insertOne({ n: 2 });
    start({ mode: 'auto' });
    await arrived(2);
    await tailing();
    await orders.insertOne({ n: 3 });
    await arrived(3);
    expect(target.all('n')).toEqual([1, 2, 3]);
  });

  // A token that is well-formed for a replica set can't be made up.
  describe.runIf(name === 'a single server with an oplog')('whose token is lost', () => {
    beforeEach(async () => {
      start();
      await tailing();
      await orders.insertOne({ n: 1 });
      await arrived(1);
      await end();
      const token = { value: { startAfter: { _data: '826512345600000001' } } };
      target.stored = { ...stored(), start: JSON.stringify(token) };
      await orders.insertOne({ n: 2 });
    });

    it('fails by default and says what to do', async () => {
      await expect(source().stream(target, new AbortController().signal)).rejects.toMatchObject({
        code: ErrorCode.SourceFailed,
        message: expect.stringMatching(/forgotten.*Set onLostToken: 'snapshot'/),
        details: { reason: 'LOST_POSITION' },
        cause: expect.objectContaining({ name: 'MongoServerError' }),
      });
    });

    it("reads the collection again with 'snapshot'", async () => {
      start({ onLostToken: 'snapshot' });
      await arrived(3);
      await tailing();
      await orders.insertOne({ n: 3 });
      await arrived(4);
      // The first one had come by the change stream.
      expect(target.all('n')).toEqual([1, 1, 2, 3]);
    });

    it("leaves out what came meanwhile with 'now'", async () => {
      const lost = target.stored;
      start({ onLostToken: 'now' });
      await until('a new position', () => target.stored !== lost);
      await orders.insertOne({ n: 3 });
      await arrived(2);
      expect(target.all('n')).toEqual([1, 3]);
    });
  });

  it.runIf(name === 'a replica set')("skips nothing with 'now' when the server is interrupted once", async () => {
    start();
    await tailing();
    await orders.insertOne({ n: 1 });
    await arrived(1);
    await end();
    await orders.insertOne({ n: 2 });
    await connection
      .getClient()
      .db('admin')
      .command({
        configureFailPoint: 'failCommand',
        mode: { times: 1 },
        data: { failCommands: ['aggregate'], errorCode: 11_601 },
      });
    start({ onLostToken: 'now' });
    await expect(running).rejects.toMatchObject({ message: expect.stringMatching(/kept and retried/) });
    start({ onLostToken: 'now' });
    await arrived(2);
    expect(target.all('n')).toEqual([1, 2]);
  });

  it('gives updates and replacements where they are asked for', async ({ skip }) => {
    // mongo-java-server tells neither the document nor its key with an update.
    if (server.kind === 'mongo-java-server') return skip('it needs a replica set: set MONGODB_URI');
    const { insertedId } = await orders.insertOne({ n: 1 });
    start({ operations: ['insert', 'update', 'replace'] });
    await arrived(1);
    await tailing();
    await orders.updateOne({ _id: insertedId }, { $set: { n: 2 } });
    await orders.replaceOne({ _id: insertedId }, { n: 3 });
    await arrived(3);
    expect(target.all('n')).toEqual([1, expect.any(Number), 3]);
  });
});
