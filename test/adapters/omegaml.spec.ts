import 'reflect-metadata';
import { Long } from 'bson';
import { type Connection } from 'mongoose';
import {
  ErrorCode,
  MinibatchModule,
  type Source,
  StatusService,
  type Stream,
  StreamService,
  Streaming,
  Window,
} from 'nestjs-minibatch';
import {
  DatasetKind,
  DatasetSink,
  type DatasetSinkOptions,
  DatasetSource,
  type DatasetSourceOptions,
} from 'nestjs-minibatch/omegaml';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { Injectable } from '@nestjs/common';
import { closeAll, mongoose, SOON, start, STOP_LIMIT, uriOf } from '../e2e/support/applications.js';
import { endProcesses, NodeProcess } from '../e2e/support/node-process.js';
import { openDatabase, type TestDatabase } from '../support/mongo-server.js';
import { repository } from '../support/workspace.js';
import { OmegaMl } from './support/omegaml.js';

/** Its `put` is called as the engine does. */
const window = (id: string) => ({ id }) as Window;

/** Datasets of all tests lie in one database, as Python takes seconds to start. */
describe('datasets of omega|ml', { timeout: 60_000 }, () => {
  let database: TestDatabase;
  let connection: Connection;
  let python: OmegaMl;
  beforeAll(async () => {
    database = openDatabase();
    connection = await database.connect();
    python = await OmegaMl.start(database);
  }, 600_000);
  afterEach(closeAll);
  afterAll(async () => {
    await endProcesses();
    await database.dispose();
  });

  /** An application with a stream that a source feeds, and what its consumer has got. */
  async function feed(source: Source, stream: string) {
    @Injectable()
    class Rows {
      readonly seen: unknown[] = [];
      @Streaming(stream, { size: 100, interval: 20 })
      take({ data }: Window): void {
        this.seen.push(...data);
      }
    }
    const app = await start({ imports: [mongoose(database), MinibatchModule.forRoot()], providers: [Rows] });
    const handle: Stream = app.get(StreamService, { strict: false }).stream(stream);
    const attached = handle.attach(source, { name: 'rows', retry: { backoff: 50, maxBackoff: 50 } });
    const { seen } = app.get(Rows);
    return { app, attached, seen, has: (count: number) => vi.waitUntil(() => seen.length >= count, SOON) };
  }

  const sink = (options: Omit<DatasetSinkOptions, 'connection'>) => new DatasetSink({ connection, ...options });
  const source = (options: Omit<DatasetSourceOptions<unknown>, 'connection'>) =>
    new DatasetSource<unknown>({ connection, pollInterval: 20, ...options });
  const documents = async (name: string) => {
    const entry = await connection.collection('metadata').findOne({ name });
    return connection.collection(String(entry?.['collection'])).find().toArray();
  };

  describe('the sink', () => {
    it('makes a dataset that Python reads, with equal values', async () => {
      const rows = [
        {
          n: 1,
          large: 2 ** 40,
          most: Number.MAX_SAFE_INTEGER,
          half: 0.5,
          text: 'Ünï💥',
          none: null,
          at: new Date(5),
          deep: { a: 1 },
        },
        {
          n: -2,
          large: 3,
          most: -(2 ** 53 - 1),
          half: 2.5,
          text: '',
          none: null,
          at: new Date(86_400_000),
          deep: { a: 2 ** 33 },
        },
      ];
      await sink({ dataset: 'made' }).put(rows, window('w1'));
      expect(await python.ask({ do: 'names' })).toContain('made');
      const frame = await python.frame('made');
      expect(frame.columns).toEqual(['n', 'large', 'most', 'half', 'text', 'none', 'at', 'deep.a']);
      expect(frame.dtypes).toEqual([
        'int64',
        'int64',
        'int64',
        'float64',
        'object',
        'object',
        'datetime64[ns]',
        'int64',
      ]);
      expect(frame.rows).toEqual(rows.map(({ deep, ...row }) => ({ ...row, 'deep.a': deep.a })));
      expect(await python.ask({ do: 'meta', name: 'made' })).toMatchObject({
        kind: 'pandas.rawdict',
        kind_meta: {},
        attributes: {},
      });
    });

    it('makes a python.data, of any values', async () => {
      const rows = [{ a: [1, { b: null }] }, 'text', 5, 2 ** 40, 0.5, true, null, [1, 2]];
      const data = sink({ dataset: 'folder/data', kind: DatasetKind.PythonData });
      await data.put(rows, window('w1'));
      await data.put(2n ** 62n, window('w2'));
      const seen = (await python.ask({ do: 'get', name: 'folder/data' })) as unknown[];
      expect(seen.slice(0, -1)).toEqual(rows);
      expect(seen.at(-1)).toBe(2n ** 62n);
    });

    it('puts a result into the collection that Python would have made', async () => {
      const names = ['mydata', 'a/b', 'über', 'a..b', 'x.datastore', 'a b', '../x', 'a...b/c'];
      for (const name of names) await sink({ dataset: name }).put({ a: 1 }, window('w'));
      const entries = await connection
        .collection('metadata')
        .find({ name: { $in: names } })
        .toArray();
      const made = names.map((name) => entries.find((entry) => entry['name'] === name)?.['collection'] as unknown);
      for (const name of names) await python.ask({ do: 'drop', name });
      // Without metadata Python says what it would name the collection.
      expect(await python.ask({ do: 'collections', names })).toEqual(made);
    });

    it.each([
      ['raw', [{ n: 0 }, { n: 1 }], 'pandas.rawdict'],
      ['data', [{ n: 0 }, { n: 1 }], 'python.data'],
      ['frame', [{ n: 0 }, { n: 1 }], 'pandas.dfrows'],
    ] as const)('appends to one that Python has made: %s', async (as, rows, kind) => {
      const name = `appended-${as}`;
      await python.put(name, as, rows);
      await sink({ dataset: name }).put([{ n: 2 }, { n: 3 }], window('w1'));
      await python.put(name, as, [{ n: 4 }]);
      expect(await python.ask({ do: 'meta', name })).toMatchObject({ kind });
      const seen = await python.ask({ do: 'get', name });
      const all = [0, 1, 2, 3, 4].map((n) => ({ n }));
      if (as === 'data') expect(seen).toEqual(all);
      else expect((seen as { rows: unknown }).rows).toEqual(all);
    });

    it('numbers the rows of a DataFrame, fills what they lack, and gives its columns their types', async () => {
      await python.put('frame', 'frame', [
        { n: 0, f: 0.5, text: 'a', at: new Date(0) },
        { n: 1, f: 1.5, text: 'b', at: new Date(1000) },
      ]);
      await sink({ dataset: 'frame' }).put([{ n: 2, f: 2, text: 'c', at: new Date(2000) }, { n: 3 }], window('w1'));
      const frame = await python.frame('frame');
      expect(frame).toMatchObject({
        columns: ['n', 'f', 'text', 'at'],
        dtypes: ['int64', 'float64', 'object', 'datetime64[ns]'],
        index: [0, 1, 2, 3],
      });
      expect(frame.rows.slice(1)).toEqual([
        { n: 1, f: 1.5, text: 'b', at: new Date(1000) },
        { n: 2, f: 2, text: 'c', at: new Date(2000) },
        { n: 3, f: NaN, text: null, at: null },
      ]);
      expect((await documents('frame')).map((row) => row['_om#rowid'] as unknown)).toEqual([0, 1, 2, 3]);
    });

    it('takes the named index of a DataFrame from the rows, and refuses rows without', async () => {
      await python.put('indexed', 'frame', [{ city: 'SAT', day: new Date(0), n: 1 }], { index: ['city', 'day'] });
      const indexed = sink({ dataset: 'indexed' });
      await indexed.put({ city: 'LAX', day: new Date(86_400_000), n: 2 }, window('w1'));
      expect(await python.frame('indexed')).toMatchObject({
        names: ['city', 'day'],
        index: [
          ['SAT', new Date(0)],
          ['LAX', new Date(86_400_000)],
        ],
        rows: [{ n: 1 }, { n: 2 }],
      });
      for (const row of [{ city: 'JFK', n: 3 }, 5]) {
        await expect(indexed.put(row, window('w2'))).rejects.toMatchObject({ code: ErrorCode.ResultRefused });
      }
      expect(await documents('indexed')).toHaveLength(2);
    });

    it.each(['raw', 'data', 'frame'] as const)('doubles nothing when a result is written again: %s', async (as) => {
      const name = `again-${as}`;
      await python.put(name, as, [{ n: 0 }]);
      const again = sink({ dataset: name });
      await again.put([{ n: 1 }, undefined, { n: 2 }], window('w1'));
      await again.put({ n: 3 }, window('w2'));
      await again.put([{ n: 1 }, undefined, { n: 2 }], window('w1'));
      // Another process after a crash.
      await sink({ dataset: name }).put({ n: 3 }, window('w2'));
      const stored = await documents(name);
      expect(stored.map(({ _id }) => String(_id)).slice(1)).toEqual(['w1:0', 'w1:2', 'w2:0']);
      if (as === 'frame') expect(stored.map((row) => row['_om#rowid'] as unknown)).toEqual([0, 1, 2, 3]);
      const seen = await python.ask({ do: 'get', name });
      const rows = as === 'data' ? seen : (seen as { rows: unknown }).rows;
      expect(rows).toEqual([0, 1, 2, 3].map((n) => ({ n })));
    });

    it('gives rows of one DataFrame that are written at the same time numbers of their own', async () => {
      await python.put('busy', 'frame', [{ n: 0 }]);
      const busy = sink({ dataset: 'busy' });
      await Promise.all(Array.from({ length: 10 }, (_, n) => busy.put([{ n }, { n }], window(`w${n}`))));
      const numbers = (await documents('busy')).map((row) => Number(row['_om#rowid'])).toSorted((a, b) => a - b);
      expect(numbers).toEqual(Array.from({ length: 21 }, (_, n) => n));
    });

    it('makes a dataset once, no matter who else does at the same time', async () => {
      const sinks = Array.from({ length: 5 }, () => sink({ dataset: 'raced' }));
      await Promise.all(sinks.map((each, n) => each.put({ n }, window(`w${n}`))));
      expect(await connection.collection('metadata').countDocuments({ name: 'raced' })).toBe(1);
      expect(await documents('raced')).toHaveLength(5);
      const indexes = await connection.collection('metadata').listIndexes().toArray();
      expect(indexes).toContainEqual(expect.objectContaining({ name: 'name_1_bucket_1_prefix_1', unique: true }));
    });

    it('makes it anew after Python has dropped it', async () => {
      const dropped = sink({ dataset: 'dropped' });
      await dropped.put({ n: 1 }, window('w1'));
      await python.ask({ do: 'drop', name: 'dropped' });
      await dropped.put({ n: 2 }, window('w2'));
      expect((await python.frame('dropped')).rows).toEqual([{ n: 2 }]);
    });

    it('refuses a dataset of another kind, and one it can not make, and writes nothing', async () => {
      await python.put('kinds', 'data', [{ n: 0 }]);
      const refused = await sink({ dataset: 'kinds', kind: DatasetKind.RawDict })
        .put({ n: 1 }, window('w1'))
        .catch((e: unknown) => e);
      expect(refused).toMatchObject({
        code: ErrorCode.WrongDataset,
        details: { dataset: 'kinds', kind: 'python.data' },
      });
      expect(String(refused)).toContain("is of kind 'python.data', and 'pandas.rawdict' is asked for");
      expect(await documents('kinds')).toHaveLength(1);

      const frame = sink({ dataset: 'no frame', kind: DatasetKind.DataFrame });
      await expect(frame.put({ n: 1 }, window('w1'))).rejects.toMatchObject({ code: ErrorCode.UnknownDataset });
      expect(await python.ask({ do: 'names' })).not.toContain('no frame');

      await connection
        .collection('metadata')
        .insertOne({ name: 'model', bucket: 'omegaml', prefix: 'data/', kind: 'pandas.hdf' });
      for (const options of [{ dataset: 'model' }, { dataset: 'model', kind: DatasetKind.RawDict }]) {
        await expect(sink(options).put({ n: 1 }, window('w1'))).rejects.toMatchObject({ code: ErrorCode.WrongDataset });
      }
    });

    it('takes what a consumer returns', async () => {
      class Sums extends DatasetSink<{ sum: number }> {
        constructor() {
          super({ connection, dataset: 'totals' });
        }
      }
      @Injectable()
      class Adding {
        @Streaming('added', { size: 100, sink: Sums })
        add(window: Window<number>) {
          return { sum: window.data.reduce((sum, n) => sum + n, 0) };
        }
      }
      const app = await start({ imports: [mongoose(database), MinibatchModule.forRoot()], providers: [Adding, Sums] });
      const numbers = app.get(StreamService, { strict: false }).stream<number>('added');
      await numbers.appendMany(Array.from({ length: 2000 }, (_, n) => n));
      await vi.waitUntil(async () => (await numbers.stats()).buffered === 0, { ...SOON, interval: 200 });
      const { rows } = await python.frame('totals');
      expect(rows).toHaveLength(20);
      expect(rows.reduce((sum, row) => sum + Number(row['sum']), 0)).toBe((2000 * 1999) / 2);
    });
  });

  describe('the source', () => {
    it.each([
      [
        'raw',
        [
          { n: 0, deep: { a: [1] } },
          { n: 1, deep: null },
        ],
      ],
      ['data', [{ n: 0 }, { deep: [1, { b: 2 ** 40 }] }, [1, 'text']]],
      [
        'frame',
        [
          { n: 0, text: 'a', at: new Date(0) },
          { n: 1, text: 'b', at: new Date(1000) },
        ],
      ],
    ] as const)('feeds what is there, then what Python appends: %s', async (as, rows) => {
      const name = `read-${as}`;
      await python.put(name, as, rows);
      const { seen, has, attached } = await feed(source({ dataset: name }), `stream-${as}`);
      await has(rows.length);
      await python.put(name, as, rows);
      await has(rows.length * 2);
      expect(seen).toEqual([...rows, ...rows]);
      expect(attached.status).toMatchObject({ state: 'running', failures: 0 });
    });

    it('has the named index of a DataFrame in its rows, and numbers beyond 32 bits', async () => {
      await python.put('read-indexed', 'frame', [{ city: 'SAT', day: new Date(0), n: Long.fromNumber(2 ** 40) }], {
        index: ['city', 'day'],
      });
      const { seen, has } = await feed(source({ dataset: 'read-indexed' }), 'stream-indexed');
      await has(1);
      expect(seen).toEqual([{ city: 'SAT', day: new Date(0), n: 2 ** 40 }]);
    });

    it('resumes where it was after a restart, and maps, keys and filters rows', async () => {
      await python.put(
        'resumed',
        'data',
        Array.from({ length: 30 }, (_, n) => ({ n })),
      );
      class Evens extends DatasetSource<number, { n: number }> {
        constructor() {
          super({
            connection,
            dataset: 'resumed',
            pollInterval: 20,
            filter: { 'data.n': { $lt: 100 } },
            map: ({ n }) => (n % 2 === 0 ? n : undefined),
            key: ({ n }) => `row ${n}`,
          });
        }
      }
      const first = await feed(new Evens(), 'resumed');
      await first.has(15);
      await first.app.close();
      await python.put('resumed', 'data', [{ n: 30 }, { n: 31 }, { n: 200 }, { n: 32 }]);
      const second = await feed(new Evens(), 'resumed');
      await second.has(2);
      expect([...first.seen, ...second.seen]).toEqual([...Array.from({ length: 15 }, (_, n) => n * 2), 30, 32]);
    });

    it('waits for a dataset that is not there, and stops at once if it is told to', async () => {
      const { seen, has, attached } = await feed(source({ dataset: 'later' }), 'stream-later');
      const never = await feed(source({ dataset: 'never' }), 'stream-never');
      await python.put('later', 'raw', [{ n: 1 }]);
      await has(1);
      expect(seen).toEqual([{ n: 1 }]);
      expect(attached.status.failures).toBe(0);
      const begin = performance.now();
      await never.attached.detach();
      expect(performance.now() - begin).toBeLessThan(STOP_LIMIT);
      expect(never.attached.status).toMatchObject({ state: 'stopped', failures: 0 });
    });

    it('says so if a dataset that is to be there is not, or is of another kind, and is started again', async () => {
      const { app, attached, has } = await feed(source({ dataset: 'absent', missing: 'fail' }), 'stream-absent');
      await vi.waitUntil(() => attached.status.failures > 1, SOON);
      expect(attached.status.lastError).toMatchObject({
        code: ErrorCode.UnknownDataset,
        message: expect.stringContaining("there is no dataset 'absent' in bucket 'omegaml'"),
      });
      expect((await app.get(StatusService, { strict: false }).snapshot()).streams).toBeDefined();
      await python.put('absent', 'raw', [{ n: 1 }]);
      await has(1);

      await connection
        .collection('metadata')
        .insertOne({ name: 'hdf', bucket: 'omegaml', prefix: 'data/', kind: 'pandas.hdf' });
      const other = await feed(source({ dataset: 'hdf' }), 'stream-hdf');
      await vi.waitUntil(() => other.attached.status.failures > 0, SOON);
      expect(other.attached.status.lastError?.code).toBe(ErrorCode.WrongDataset);
    });

    it('says that a cursor can not follow the ids of a sink, and follows the row numbers', async () => {
      await python.put('sunk', 'frame', [{ n: 0 }]);
      await sink({ dataset: 'sunk' }).put([{ n: 1 }, { n: 2 }], window('w1'));
      const cursor = await feed(source({ dataset: 'sunk', mode: 'cursor' }), 'stream-sunk-cursor');
      await vi.waitUntil(() => cursor.attached.status.failures > 0, SOON);
      expect(cursor.attached.status.lastError?.code).toBe(ErrorCode.SourceFailed);
      const byNumber = await feed(source({ dataset: 'sunk', field: '_om#rowid' }), 'stream-sunk');
      await byNumber.has(3);
      await sink({ dataset: 'sunk' }).put({ n: 3 }, window('w2'));
      await byNumber.has(4);
      expect(byNumber.seen).toEqual([0, 1, 2, 3].map((n) => ({ n })));
    });

    it('the example adds up what Python puts, for Python to get', async () => {
      const env = { MONGODB_URI: uriOf(database), NO_COLOR: '1', MINIBATCH_CONSUMERS: undefined };
      const example = new NodeProcess(repository('examples/omegaml/main.mjs'), [], { env });
      await python.put('numbers', 'raw', [{ n: 1 }, { n: 2 }, { n: 4 }]);
      await example.line(/^3 rows, sum 7$/);
      await vi.waitUntil(async () => (await python.ask({ do: 'meta', name: 'sums' })) !== null, SOON);
      await example.kill('SIGTERM');
      expect((await python.frame('sums')).rows).toContainEqual({ rows: 3, sum: 7 });
    });

    it('2,000 rows from Python, none lost', async () => {
      await python.put(
        'many',
        'frame',
        Array.from({ length: 1000 }, (_, n) => ({ n })),
      );
      const { seen, has } = await feed(source({ dataset: 'many' }), 'stream-many');
      await python.put(
        'many',
        'frame',
        Array.from({ length: 1000 }, (_, n) => ({ n: 1000 + n })),
      );
      await has(2000);
      expect(new Set(seen.map((row) => (row as { n: number }).n)).size).toBe(2000);
      expect(seen).toHaveLength(2000);
    });
  });
});
