import { ObjectId } from 'bson';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type MongoServer, startMongo, startReplicaSet } from '../../../../../scripts/servers/mongo/mongo.mjs';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { CollectionSource } from './collection.source.js';
import { dedupeId, messageId } from './dedupe-id.js';
import { MemoryTarget, STOP_LIMIT, until, useSource } from './collection-source.spec.support.js';

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
  beforeAll(async () => {
    server = await startServer();
  });
  afterAll(() => server.stop());

  const test = useSource({ mode: 'changeStream' }, () => server.uri);
  const { start, end, arrived } = test;
  const stored = () =>
    test.target.stored as {
      readonly mode?: string;
      readonly start?: string;
      readonly from?: string;
      readonly overlap?: true;
    };
  const tailing = () => until('the tail', () => stored()?.mode === 'changeStream' && !stored().overlap);

  it('gives what is there, then what comes', async () => {
    await test.orders.insertMany(Array.from({ length: 1200 }, (_, n) => ({ n })));
    start();
    await arrived(1200);
    await tailing();
    await test.orders.insertMany(Array.from({ length: 1200 }, (_, n) => ({ n: 1200 + n })));
    await arrived(2400);
    expect(test.target.all('n')).toEqual(Array.from({ length: 2400 }, (_, n) => n));
  });

  it('is the default where the server has one', async () => {
    start({ mode: 'auto' });
    await tailing();
  });

  it('misses nothing that is inserted during the snapshot, below it or above', async () => {
    await test.orders.insertMany(Array.from({ length: 30 }, (_, n) => ({ n })));
    let first = true;
    test.target.before = async () => {
      if (!first) return;
      first = false;
      await test.orders.insertMany([{ _id: new ObjectId('000000000000000000000001'), n: 'below' }, { n: 'above' }]);
    };
    start({ batch: 10 });
    await arrived(32);
    await tailing();
    expect(new Set(test.target.all('n')).size).toBe(32);
    expect(test.target.messages).toHaveLength(32);
  });

  it('gives a document again that was deleted and inserted again under its _id', async () => {
    await test.orders.insertOne({ _id: ID, n: 1 });
    start();
    await tailing();
    for (const n of [2, 2, 3]) {
      await test.orders.deleteOne({ _id: ID });
      await test.orders.insertOne({ _id: ID, n });
    }
    await arrived(4);
    expect(test.target.all('n')).toEqual([1, 2, 2, 3]);
  });

  it('gives the last state of a document that was inserted again during the snapshot, also after a restart', async () => {
    await test.orders.insertMany([{ _id: ID, n: 1 }, { n: 2 }]);
    let reads = 0;
    test.target.before = async () => {
      reads += 1;
      // The first batch has been read with the document as it was.
      if (reads > 1) return;
      await test.orders.deleteOne({ _id: ID });
      await test.orders.insertOne({ _id: ID, n: 3 });
    };
    // Interrupted while it reads what came during the snapshot.
    test.target.before = interruptAt(test.target.before, () => stored()?.overlap === true);
    start({ batch: 10 });
    await expect(test.running).rejects.toThrow('store is down');
    expect(stored()).toMatchObject({ mode: 'changeStream', overlap: true });
    test.target.before = () => undefined;
    start({ batch: 10 });
    await tailing();
    expect(test.target.all('n')).toEqual([1, 2, 3]);
  });

  it('with the same names of collections on two servers collides in no stream', async () => {
    const ids = ['Here', 'There'].map((name) => messageId(name, dedupeId(`${test.connection.name}.orders`, ID)));
    expect(new Set(ids).size).toBe(2);
    test.target.source = 'Here';
    await test.orders.insertOne({ _id: ID, n: 1 });
    start();
    await arrived(1);
    expect(test.target.messages[0]?.dedupeId).toBe(ids[0]);
  });

  it('asks for majority reads, whatever the connection asks for', async () => {
    const local = await test.database.connect({ readConcern: { level: 'local' }, monitorCommands: true });
    const concerns: unknown[] = [];
    local.getClient().on('commandStarted', ({ command }) => {
      if ('aggregate' in command) concerns.push((command['readConcern'] as { level?: unknown } | undefined)?.level);
    });
    test.stop = new AbortController();
    test.running = new CollectionSource({ connection: local, collection: 'orders', mode: 'changeStream' }).stream(
      test.target,
      test.stop.signal,
    );
    await tailing();
    expect(concerns.length).toBeGreaterThan(0);
    expect(new Set(concerns)).toEqual(new Set(['majority']));
  });

  it('resumes a snapshot that was interrupted', async () => {
    await test.orders.insertMany(Array.from({ length: 50 }, (_, n) => ({ n })));
    test.target.before = () => {
      if (test.target.messages.length >= 30) throw new Error('store is down');
    };
    start({ batch: 10 });
    await expect(test.running).rejects.toThrow('store is down');
    expect(stored().mode).toBe('snapshot');
    test.target.before = () => undefined;
    await test.orders.insertOne({ n: 50 });
    start({ batch: 10 });
    await arrived(51);
    await tailing();
    expect(test.target.all('n')).toEqual(Array.from({ length: 51 }, (_, n) => n));
  });

  it('resumes after the last event that was stored, and gives what came while it was stopped', async () => {
    start();
    await tailing();
    await test.orders.insertOne({ n: 1 });
    await arrived(1);
    await end();
    // Below what was read: a cursor alone would have to look back for it.
    await test.orders.insertOne({ _id: new ObjectId('000000000000000000000001'), n: 2 });
    await test.orders.insertOne({ n: 3 });
    test.target.given = 0;
    start();
    await arrived(3);
    expect(test.target.all('n')).toEqual([1, 2, 3]);
    expect(test.target.given).toBe(2);
  });

  it('loses nothing when it is killed between messages and position', async () => {
    start();
    await tailing();
    test.target.losePosition = true;
    await test.orders.insertMany([{ n: 1 }, { n: 2 }]);
    await expect(test.running).rejects.toThrow('killed');
    test.target.losePosition = false;
    start();
    await arrived(2);
    await test.orders.insertOne({ n: 3 });
    await arrived(3);
    expect(test.target.all('n')).toEqual([1, 2, 3]);
  });

  it('with snapshot: false gives what comes after the start, also if it is killed before the first message', async () => {
    await test.orders.insertOne({ n: 'old' });
    start({ snapshot: false });
    await tailing();
    await end();
    await test.orders.insertOne({ n: 'new' });
    start({ snapshot: false });
    await until('the new one', () => test.target.all('n').includes('new'));
  });

  it('with snapshot: false leaves out what is there', async () => {
    await test.orders.insertOne({ n: 'old' });
    start({ snapshot: false });
    await tailing();
    await test.orders.insertOne({ n: 'new' });
    await arrived(1);
    expect(test.target.all('n')).toEqual(['new']);
  });

  it('filters, projects, maps and keys in the snapshot and in the stream', async () => {
    const documents = (n: number) => [
      { n, state: { name: 'paid' }, secret: 'x' },
      { n: n + 1, state: { name: 'open' }, secret: 'x' },
      { n: n + 2, state: { name: 'paid' }, secret: 'x' },
    ];
    await test.orders.insertMany(documents(1));
    start({
      filter: { $or: [{ 'state.name': 'paid' }, { n: { $gt: 1000 } }] },
      projection: { n: 1, 'state.name': 1 },
      map: ({ n, state, secret }) => ({ n, state, secret }),
      key: ({ n }) => String(n),
    });
    await arrived(2);
    await tailing();
    await test.orders.insertMany(documents(11));
    await arrived(4);
    expect(test.target.messages.map(({ data, key }) => ({ data, key }))).toEqual(
      [1, 3, 11, 13].map((n) => ({ data: { n, state: { name: 'paid' }, secret: undefined }, key: String(n) })),
    );
  });

  it.each(['idle', 'appending'])('stops within a second while %s', async (state) => {
    start();
    await tailing();
    let appending = false;
    if (state === 'appending') {
      test.target.before = () => {
        appending = true;
        return new Promise(() => undefined);
      };
      await test.orders.insertOne({ n: 1 });
      await until('an append', () => appending);
    }
    const since = performance.now();
    test.stop.abort();
    await test.running;
    expect(performance.now() - since).toBeLessThan(STOP_LIMIT);
  });

  it('takes over from a cursor when the server has become a replica set', async () => {
    await test.orders.insertOne({ n: 1 });
    start({ mode: 'cursor' });
    await arrived(1);
    await end();
    await test.orders.insertOne({ n: 2 });
    start({ mode: 'auto' });
    await arrived(2);
    await tailing();
    await test.orders.insertOne({ n: 3 });
    await arrived(3);
    expect(test.target.all('n')).toEqual([1, 2, 3]);
  });

  // A token that is well-formed for a replica set can't be made up.
  if (name === 'a single server with an oplog') {
    describe('whose token is lost', () => {
      beforeEach(async () => {
        start();
        await tailing();
        await test.orders.insertOne({ n: 1 });
        await arrived(1);
        await end();
        const token = { value: { startAfter: { _data: '826512345600000001' } } };
        test.target.stored = { ...stored(), start: JSON.stringify(token) };
        await test.orders.insertOne({ n: 2 });
      });

      it('fails by default and says what to do', async () => {
        await expect(test.make().stream(test.target, new AbortController().signal)).rejects.toMatchObject({
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
        await test.orders.insertOne({ n: 3 });
        await arrived(4);
        // The first one had come by the change stream.
        expect(test.target.all('n')).toEqual([1, 1, 2, 3]);
      });

      it("leaves out what came meanwhile with 'now'", async () => {
        const lost = test.target.stored;
        start({ onLostToken: 'now' });
        await until('a new position', () => test.target.stored !== lost);
        await test.orders.insertOne({ n: 3 });
        await arrived(2);
        expect(test.target.all('n')).toEqual([1, 3]);
      });
    });
  }

  if (name === 'a replica set') {
    it("skips nothing with 'now' when the server is interrupted once", async () => {
      start();
      await tailing();
      await test.orders.insertOne({ n: 1 });
      await arrived(1);
      await end();
      await test.orders.insertOne({ n: 2 });
      await test.connection
        .getClient()
        .db('admin')
        .command({
          configureFailPoint: 'failCommand',
          mode: { times: 1 },
          data: { failCommands: ['aggregate'], errorCode: 11_601 },
        });
      start({ onLostToken: 'now' });
      await expect(test.running).rejects.toMatchObject({ message: expect.stringMatching(/kept and retried/) });
      start({ onLostToken: 'now' });
      await arrived(2);
      expect(test.target.all('n')).toEqual([1, 2]);
    });
  }

  // mongo-java-server tells neither the document nor its key with an update.
  if (name === 'a replica set') {
    it('gives updates and replacements where they are asked for', async () => {
      const { insertedId } = await test.orders.insertOne({ n: 1 });
      start({ operations: ['insert', 'update', 'replace'] });
      await arrived(1);
      await tailing();
      await test.orders.updateOne({ _id: insertedId }, { $set: { n: 2 } });
      await test.orders.replaceOne({ _id: insertedId }, { n: 3 });
      await arrived(3);
      expect(test.target.all('n')).toEqual([1, expect.any(Number), 3]);
    });
  }
});
