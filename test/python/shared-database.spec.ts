import 'reflect-metadata';
import { Int32 } from 'bson';
import type { Connection } from 'mongoose';
import { ErrorCode, MinibatchError, StatusService } from 'nestjs-minibatch';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { closeAll, Log, SOON, useDatabase } from '../e2e/support/applications.js';
import { endProcesses } from '../e2e/support/node-process.js';
import type { TestDatabase } from '../support/mongo-server.js';
import { Peer } from './support/peer.js';
import { dataOf, startApp, streamOf, takerOf } from './support/taker.js';

/** As Python names and makes them. */
const PYTHON_INDEXES = {
  stream: [
    { name: 'created_1', key: { created: 1 } },
    { name: 'name_1', key: { name: 1 }, unique: true },
  ],
  buffer: [
    { name: 'created_1', key: { created: 1 } },
    { name: 'stream_1', key: { stream: 1 } },
  ],
  window: [
    { name: 'created_1', key: { created: 1 } },
    { name: 'stream_1', key: { stream: 1 } },
  ],
};

afterEach(async () => {
  await endProcesses();
  await closeAll();
});

describe('one database for Python and TypeScript', { timeout: 120_000 }, () => {
  let database: TestDatabase;
  let connection: Connection;
  beforeEach(async () => {
    database = useDatabase();
    connection = await database.connect();
  });

  const documents = (collection: string) => connection.collection(collection).find().sort({ _id: 1 }).toArray();

  describe('indexes', () => {
    /** Both sides work, on what both have made. */
    async function expectBoth(): Promise<void> {
      for (const [collection, wanted] of Object.entries(PYTHON_INDEXES)) {
        const indexes = await connection.collection(collection).listIndexes().toArray();
        for (const index of wanted) {
          const same = indexes.filter(({ key }) => JSON.stringify(key) === JSON.stringify(index.key));
          // One on a mongod; a server that only speaks the protocol may make the same one twice.
          expect(same).toContainEqual(expect.objectContaining(index));
          expect(new Set(same.map(({ name, unique }) => `${name} ${unique === true}`)).size).toBe(1);
        }
        const names = indexes.map(({ name }) => String(name));
        if (collection !== 'stream') expect(names.some((name) => name.startsWith('minibatch_'))).toBe(true);
      }
      const streams = await documents('stream');
      expect(streams.map(({ name }) => name as unknown)).toEqual(['rows']);
    }

    it('of Python first, then ours', async () => {
      await Peer.run(database, 'open', { stream: 'rows' });
      const Rows = takerOf('rows', { interval: 10, relaxed: false });
      const app = await startApp(database, [Rows]);
      await expectBoth();
      await Peer.run(database, 'produce', { stream: 'rows', messages: 1 });
      await vi.waitUntil(() => dataOf(app, Rows).length === 1, SOON);
    });

    it('ours first, then those of Python', async () => {
      const Rows = takerOf('rows', { interval: 10, relaxed: false });
      const app = await startApp(database, [Rows]);
      await Peer.run(database, 'open', { stream: 'rows' });
      await expectBoth();
      await Peer.run(database, 'produce', { stream: 'rows', messages: 1 });
      await vi.waitUntil(() => dataOf(app, Rows).length === 1, SOON);
      // And an application that finds both.
      await app.close();
      const again = await startApp(database, [Rows]);
      await Peer.run(database, 'produce', { stream: 'rows', messages: 1 });
      await vi.waitUntil(() => dataOf(again, Rows).length === 1, SOON);
    });
  });

  describe('streams', () => {
    it('of Python are opened by ours, with what Python needs of them left alone', async () => {
      await Peer.run(database, 'open', { stream: 'rows' });
      const [before] = await documents('stream');
      const app = await startApp(database, [takerOf('rows', { size: 1 })]);
      await streamOf(app, 'rows').append({ n: 0 });
      const [after] = await documents('stream');
      expect(after).toMatchObject(before ?? {});
      expect(await streamOf(app, 'rows').describe()).toMatchObject({ status: 'open', created: before?.['created'] });
    });

    it('of ours are opened by Python, and its report of them is right', async () => {
      const app = await startApp(database);
      const rows = streamOf(app, 'rows');
      await rows.append({ n: 0 }, { key: 'k', headers: { a: 'b' }, dedupeId: 'id' });
      const peer = await Peer.run(database, 'read', { stream: 'rows' });
      const info = await rows.describe();
      expect(peer.said('stream')).toEqual([
        {
          name: 'rows',
          status: 'open',
          created: info?.created,
          closed: null,
          interval: new Int32(10),
          last_read: info?.created,
        },
      ]);
      expect(peer.said('buffer')).toEqual([
        [{ data: { n: new Int32(0) }, processed: false, created: expect.any(Date) }],
      ]);
    });

    it('that Python has closed take nothing more from ours, and are emptied', async () => {
      await Peer.run(database, 'produce', { stream: 'rows', messages: 3 });
      await Peer.run(database, 'close', { stream: 'rows' });
      const Rows = takerOf('rows', { size: 1 });
      const app = await startApp(database, [Rows]);
      const error: unknown = await streamOf(app, 'rows')
        .append({ n: 3 })
        .catch((cause: unknown) => cause);
      expect(error).toBeInstanceOf(MinibatchError);
      expect(error).toMatchObject({ code: ErrorCode.StreamClosed, stored: 'no' });
      expect(await streamOf(app, 'rows').describe()).toMatchObject({ status: 'closed', closed: expect.any(Date) });
      await vi.waitUntil(async () => (await documents('buffer')).length === 0, SOON);
      expect(dataOf(app, Rows)).toEqual([0, 1, 2].map((n) => ({ n, by: 'python' })));
    });

    it('that ours has closed are closed for Python to see', async () => {
      const app = await startApp(database);
      await streamOf(app, 'rows').append({ n: 0 });
      await streamOf(app, 'rows').close();
      const peer = await Peer.run(database, 'read', { stream: 'rows' });
      expect(peer.said('stream')).toMatchObject([{ status: 'closed', closed: expect.any(Date) }]);
    });

    it('that Python has made and not opened are opened by ours', async () => {
      const now = new Date();
      await connection
        .collection('stream')
        .insertOne({ name: 'rows', status: 'initialize', created: now, interval: 10, last_read: now });
      const Rows = takerOf('rows', { size: 1 });
      const app = await startApp(database, [Rows]);
      expect(await streamOf(app, 'rows').describe()).toMatchObject({ status: 'open' });
      const peer = await Peer.run(database, 'read', { stream: 'rows' });
      expect(peer.said('stream')).toMatchObject([{ status: 'open' }]);
    });
  });

  describe('both sides consume', () => {
    it('health says so, and who', async () => {
      const Rows = takerOf('rows', { size: 2 });
      const app = await startApp(database, [Rows]);
      const status = app.get(StatusService, { strict: false });
      const reasons = async () => (await status.health()).reasons.map(({ what, stream }) => ({ what, stream }));
      // The stream has been there for a while.
      const created = new Date(Date.now() - 60_000);
      await connection.collection('stream').updateOne({ name: 'rows' }, { $set: { created, last_read: created } });
      await Peer.run(database, 'produce', { stream: 'rows', messages: 2 });
      await vi.waitUntil(() => dataOf(app, Rows).length === 2, SOON);
      // Until it is committed, Python would take it too.
      await vi.waitUntil(async () => (await documents('buffer')).length === 0, SOON);
      expect(await reasons()).toEqual([]);

      await streamOf(app, 'rows').pause();
      await Peer.run(database, 'produce', { stream: 'rows', messages: 2 });
      await Peer.run(database, 'consume', { stream: 'rows', size: 2, until: 2 });
      expect(await reasons()).toEqual([{ what: 'stream-read-elsewhere', stream: 'rows' }]);
      expect((await status.stream('rows')).stored?.readElsewhere).toMatch(/^20..-/);
    });
  });

  describe('what Python has claimed', () => {
    it('is never taken by ours, and its window is left alone; what it gives back is', async () => {
      const Rows = takerOf('rows', { size: 1 });
      await Peer.run(database, 'produce', { stream: 'rows', messages: 4 });
      const peer = await Peer.start(database, 'consume', { stream: 'rows', size: 2, until: 2, hold: true });
      await peer.process.line(/^claimed/);
      const claimed = peer.said('claimed').flat() as { n: Int32 }[];
      const [window] = await documents('window');
      expect(window).toMatchObject({ stream: 'rows', processed: false, data: expect.any(Array) });
      // It claims the second window before the first is done.
      await vi.waitUntil(async () => (await documents('buffer')).every(({ processed }) => processed), SOON);
      const ended = await peer.process.kill();
      expect(ended).toMatchObject({ signal: 'SIGKILL' });
      expect(claimed).toHaveLength(2);

      const log = new Log();
      const app = await startApp(database, [Rows], log);
      // Without them, a warning after a second says that nothing listens for SIGTERM.
      app.enableShutdownHooks();
      await streamOf(app, 'rows').append({ n: 100 });
      await vi.waitUntil(() => dataOf(app, Rows).length === 1, SOON);
      const left = () => documents('buffer').then((found) => found.map(({ data }) => (data as { n: number }).n));
      await vi.waitUntil(async () => (await left()).length === 4, SOON);
      expect(await left()).toEqual([0, 1, 2, 3]);
      expect(dataOf(app, Rows)).toEqual([{ n: 100 }]);
      // Nor does ours count them, or warn of them.
      expect((await streamOf(app, 'rows').stats()).buffered).toBe(0);
      expect(await documents('window')).toContainEqual(window);
      expect(log.lines.filter((line) => /^(warn|error)/.test(line))).toEqual([]);

      // What docs/python.md says to do with the claims of a Python program that is dead.
      await connection
        .collection('buffer')
        .updateMany({ stream: 'rows', processed: true, settled: null, redrives: null }, { $set: { processed: false } });
      await connection.collection('window').deleteMany({ stream: 'rows', processed: false, consumer: null });
      await vi.waitUntil(() => dataOf(app, Rows).length === 5, SOON);
      expect(
        dataOf(app, Rows)
          .slice(1)
          .map((row) => (row as { n: number }).n),
      ).toEqual([0, 1, 2, 3]);
      await vi.waitUntil(async () => (await documents('window')).length === 0, SOON);
    });

    it('survives an application of ours that is restarted next to it, and is committed by Python', async () => {
      const Rows = takerOf('rows', { size: 1 });
      await Peer.run(database, 'produce', { stream: 'rows', messages: 2 });
      const peer = await Peer.start(database, 'consume', { stream: 'rows', size: 2, until: 2, hold: true });
      await peer.process.line(/^claimed/);
      for (let round = 0; round < 2; round += 1) {
        const app = await startApp(database, [Rows]);
        await streamOf(app, 'rows').append({ n: round });
        await vi.waitUntil(() => dataOf(app, Rows).length === 1, SOON);
        await app.close();
      }
      peer.process.say('a result');
      await peer.process.line(/^window/);
      expect(peer.said('window')).toEqual(['a result']);
      await vi.waitUntil(async () => (await documents('buffer')).length === 0, SOON);
      expect(await documents('window')).toEqual([]);
    });
  });

  it('an open window of ours can be read by Python', async () => {
    const Rows = takerOf('rows', { size: 2 });
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    vi.spyOn(Rows.prototype as { take(): Promise<void> }, 'take').mockReturnValue(held);
    const app = await startApp(database, [Rows]);
    await streamOf(app, 'rows').appendMany([{ n: 0 }, { n: 1 }]);
    await vi.waitUntil(async () => (await documents('window')).length === 1, SOON);
    const peer = await Peer.run(database, 'read', { stream: 'rows' });
    // The messages stay in the buffer until it is committed.
    expect(peer.said('window')).toEqual([[{ data: [], processed: false, created: expect.any(Date), query: [] }]]);
    expect(peer.said('buffer')).toMatchObject([[{ processed: false }, { processed: false }]]);
    release();
    await vi.waitUntil(async () => (await documents('buffer')).length === 0, SOON);
  });

  it('what ours remembers of a dedupe id is seen by fixed windows of Python alone, as an empty message', async () => {
    const Rows = takerOf('rows', { size: 1 });
    const app = await startApp(database, [Rows]);
    await streamOf(app, 'rows').append({ n: 0 }, { dedupeId: 'row 0' });
    await vi.waitUntil(async () => (await documents('buffer')).every(({ processed }) => processed), SOON);
    await app.close();
    const relaxed = await Peer.start(database, 'consume', { stream: 'rows', size: 1, until: 1 });
    await Peer.run(database, 'produce', { stream: 'rows', messages: 1 });
    await relaxed.success();
    expect(relaxed.windows()).toEqual([{ n: new Int32(0), by: 'python' }]);
    // Each begins where the stream was read last, which was after that message; it was made in the first moment.
    const [stream] = await documents('stream');
    await connection.collection('stream').updateOne({}, { $set: { last_read: stream?.['created'] as Date } });
    const fixed = await Peer.run(database, 'consume', { stream: 'rows', interval: 2, relaxed: false, until: 1 });
    expect(fixed.windows()).toEqual([{}]);
  });

  describe('kept windows', () => {
    it('of ours are read by Python, messages and all', async () => {
      const Rows = takerOf('rows', { size: 2, keep: true });
      const app = await startApp(database, [Rows]);
      await streamOf(app, 'rows').appendMany([0, 1, 2, 3].map((n) => ({ n, at: new Date(n) })));
      await vi.waitUntil(
        async () => (await documents('window')).filter(({ processed }) => processed).length === 2,
        SOON,
      );
      const peer = await Peer.run(database, 'read', { stream: 'rows' });
      const data = [0, 1, 2, 3].map((n) => ({ n: new Int32(n), at: new Date(n) }));
      expect(peer.said('window')).toEqual([
        [data.slice(0, 2), data.slice(2)].map((part) => ({
          data: part,
          processed: true,
          created: expect.any(Date),
          query: [],
        })),
      ]);
      expect(peer.said('buffer')).toEqual([
        data.map((part) => ({ data: part, processed: true, created: expect.any(Date) })),
      ]);
      // And Python does not take them for new.
      const next = await Peer.start(database, 'consume', { stream: 'rows', size: 1, until: 1 });
      await streamOf(app, 'other').append({});
      await app.close();
      await Peer.run(database, 'produce', { stream: 'rows', messages: 1 });
      await next.success();
      expect(next.windows()).toEqual([{ n: new Int32(0), by: 'python' }]);
    });

    it('of Python are read by ours, and do not disturb a consumer', async () => {
      await Peer.run(database, 'produce', { stream: 'rows', messages: 4 });
      await Peer.run(database, 'consume', { stream: 'rows', size: 2, until: 4, keep: true });
      const kept = await documents('window');
      expect(kept).toMatchObject(
        [
          [0, 1],
          [2, 3],
        ].map((numbers) => ({
          stream: 'rows',
          processed: true,
          created: expect.any(Date),
          data: numbers.map((n) => ({ n, by: 'python' })),
        })),
      );
      const Rows = takerOf('rows', { size: 1, keep: true });
      const app = await startApp(database, [Rows]);
      await Peer.run(database, 'produce', { stream: 'rows', messages: 1 });
      await vi.waitUntil(async () => (await documents('window')).length === 3, SOON);
      await vi.waitUntil(async () => (await documents('window')).every(({ processed }) => processed), SOON);
      expect(dataOf(app, Rows)).toEqual([{ n: 0, by: 'python' }]);
      for (const window of kept) expect(await documents('window')).toContainEqual(window);
      expect(await documents('buffer')).toHaveLength(5);
      expect((await streamOf(app, 'rows').stats()).buffered).toBe(0);
    });
  });
});
