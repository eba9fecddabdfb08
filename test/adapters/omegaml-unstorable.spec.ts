import 'reflect-metadata';
import type { Connection } from 'mongoose';
import { MinibatchModule, StreamService, Streaming, Window } from 'nestjs-minibatch';
import { DatasetSource, type DatasetSourceOptions } from 'nestjs-minibatch/omegaml';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Injectable } from '@nestjs/common';
import { closeAll, mongoose, SOON, start } from '../e2e/support/applications.js';
import { openDatabase, type TestDatabase } from '../support/mongo-server.js';

interface Row {
  readonly n: number;
  readonly key?: unknown;
  readonly text?: string;
}

type Options = Omit<DatasetSourceOptions<unknown, Row>, 'connection' | 'dataset'>;

const STREAM = 'rows';

describe('a dataset with rows that the stream can not take', () => {
  let database: TestDatabase;
  let connection: Connection;
  beforeEach(async () => {
    database = openDatabase();
    connection = await database.connect();
    await connection
      .collection('metadata')
      .insertOne({ name: 'odd', bucket: 'omegaml', prefix: 'data/', kind: 'pandas.rawdict', collection: 'odd_rows' });
  });
  afterEach(async () => {
    await closeAll();
    await database.dispose();
  });

  const put = (rows: readonly Row[]) => connection.collection('odd_rows').insertMany(rows.map((row) => ({ ...row })));

  async function feed(options: Options) {
    const source = new DatasetSource<unknown, Row>({ connection, dataset: 'odd', pollInterval: 20, ...options });
    @Injectable()
    class Rows {
      readonly seen: number[] = [];
      @Streaming(STREAM, { size: 100, interval: 20 })
      take({ data }: Window<Row>): void {
        this.seen.push(...data.map(({ n }) => n));
      }
    }
    const app = await start({ imports: [mongoose(database), MinibatchModule.forRoot()], providers: [Rows] });
    const stream = app.get(StreamService, { strict: false }).stream(STREAM);
    const attached = stream.attach(source, { name: 'rows', retry: { backoff: 50, maxBackoff: 50 } });
    const { seen } = app.get(Rows);
    return { app, source, attached, seen, has: (count: number) => vi.waitUntil(() => seen.length >= count, SOON) };
  }

  it.each<[string, Options, Partial<Row>]>([
    ['a key that is no text', { key: (row) => row.key as string }, { key: 42 }],
    ['a key that is half a character', { key: (row) => (row.key === 1 ? '\ud800' : 'k') }, { key: 1 }],
    ['a row that map fails for', { map: (row) => ({ ...row, key: (row.key as string).length }) }, { key: null }],
    [
      'a message that map makes too large',
      { map: (row) => ({ ...row, text: row.text?.repeat(2) }) },
      { text: 'x'.repeat(8_400_000) },
    ],
    [
      'a message with what can not be stored',
      { map: (row) => ({ ...row, key: row.key === 1 ? Symbol('s') : 0 }) },
      { key: 1 },
    ],
  ])('skips %s, and continues after it, also after a restart', async (_, options, odd) => {
    const row = (n: number): Row => (n === 2 || n === 5 ? { n, key: 'k', ...odd } : { n, key: 'k' });
    await put([0, 1, 2, 3].map(row));
    const first = await feed(options);
    await first.has(3);
    await put([4, 5, 6].map(row));
    await first.has(5);
    await vi.waitUntil(() => first.source.counters.unstorable === 2, SOON);
    expect(first.seen).toEqual([0, 1, 3, 4, 6]);
    expect(first.source.counters).toMatchObject({ skipped: 2, unstorable: 2 });
    expect(first.attached.status).toMatchObject({ state: 'running', failures: 0, appended: 5 });
    await first.app.close();
    const second = await feed(options);
    await put([row(7)]);
    await second.has(1);
    expect(second.seen).toEqual([7]);
    expect(second.attached.status.failures).toBe(0);
  });

  it('gives the document to a function, which may fail', async () => {
    await put([{ n: 0 }, { n: 1, key: 42 }, { n: 2 }]);
    const given: unknown[] = [];
    const { source, attached, seen, has } = await feed({
      key: (row) => row.key as string | undefined,
      unstorable: ({ n }, error) => {
        if (given.push([n, error.message]) < 3) throw new Error('no disk');
      },
    });
    await vi.waitUntil(() => given.length === 3, SOON);
    await put([{ n: 3 }]);
    await has(3);
    expect(seen).toEqual([0, 2, 3]);
    expect(given[2]).toEqual([1, expect.stringContaining('DatasetSource: the document ')]);
    expect(attached.status).toMatchObject({ failures: 2, lastError: { message: expect.stringContaining('no disk') } });
    expect(source.counters).toMatchObject({ skipped: 0, unstorable: 3 });
  });

  it("fails with unstorable: 'fail' until the row has gone", async () => {
    await put([{ n: 0 }, { n: 1, key: 42 }, { n: 2 }]);
    const { attached, seen, has } = await feed({ key: (row) => row.key as string | undefined, unstorable: 'fail' });
    await vi.waitUntil(() => attached.status.failures > 1, SOON);
    await connection.collection('odd_rows').deleteOne({ n: 1 });
    await put([{ n: 3 }]);
    await has(3);
    expect(seen).toEqual([0, 2, 3]);
  });
});
