import { ObjectId } from 'bson';
import { type Connection, createConnection, Schema } from 'mongoose';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openDatabase, type TestDatabase } from '../../../../../test/support/mongo-server.js';
import { ErrorCode } from '../../errors/minibatch.error.js';
import type { Window } from '../../windows/window.js';
import { CollectionSink } from './collection.sink.js';
import type { CollectionWriting } from './collection-sink.options.js';

/** The part of a window that the sink looks at. */
const window = (id: string) => ({ id }) as Window;

describe('CollectionSink', () => {
  let database: TestDatabase;
  let connection: Connection;

  beforeEach(async () => {
    database = openDatabase();
    connection = await database.connect();
  });

  afterEach(() => database.dispose());

  const sink = (options: CollectionWriting = {}) =>
    new CollectionSink({ connection, collection: 'reports', ...options });

  const reports = () => connection.collection<{ _id: string }>('reports');
  const all = () => reports().find({}).sort({ _id: 1 }).toArray();

  it('stores a result under the id of its window, once', async () => {
    await sink().put({ flights: 1, worst: undefined }, window('w1'));
    await sink().put({ flights: 2 }, window('w1'));
    await sink().put({ flights: 3 }, window('w2'));
    expect(await all()).toEqual([
      { _id: 'w1', flights: 2 },
      { _id: 'w2', flights: 3 },
    ]);
  });

  it('replaces what is there of a result, and writes the rest', async () => {
    await sink().put([{ n: 0 }, { n: 1 }], window('w'));
    await sink({ batch: 2 }).put([{ n: 10 }, { n: 11 }, { n: 12 }, { _id: 'own', n: 13 }], window('w'));
    await sink().put({ _id: 'own', n: 14 }, window('v'));
    expect(await all()).toEqual([
      { _id: 'own', n: 14 },
      { _id: 'w:0', n: 10 },
      { _id: 'w:1', n: 11 },
      { _id: 'w:2', n: 12 },
    ]);
  });

  it('drops undefined properties, as JSON does', async () => {
    await sink().put({ a: 1, b: undefined }, window('w'));
    expect(await all()).toEqual([{ _id: 'w', a: 1 }]);
  });

  it('stores an array as one document for each element, once', async () => {
    for (let tries = 0; tries < 2; tries += 1) await sink().put([{ n: 0 }, undefined, { n: 2 }], window('w'));
    expect(await all()).toEqual([
      { _id: 'w:0', n: 0 },
      { _id: 'w:2', n: 2 },
    ]);
  });

  it('stores what is no document as value', async () => {
    const id = new ObjectId();
    const date = new Date(1);
    await sink().put([0, '', null, false, date, id, [1, 2], new Map([['a', 1]])], window('w'));
    expect(await all()).toEqual([
      { _id: 'w:0', value: 0 },
      { _id: 'w:1', value: '' },
      { _id: 'w:2', value: null },
      { _id: 'w:3', value: false },
      { _id: 'w:4', value: date },
      { _id: 'w:5', value: expect.objectContaining({ _bsontype: 'ObjectId' }) },
      { _id: 'w:6', value: [1, 2] },
      { _id: 'w:7', a: 1 },
    ]);
    await sink().put(0, window('zero'));
    expect(await reports().findOne({ _id: 'zero' })).toEqual({ _id: 'zero', value: 0 });
  });

  it('stores nothing for undefined and an empty array', async () => {
    await sink().put(undefined, window('w'));
    await sink().put([], window('w'));
    expect(await all()).toEqual([]);
  });

  it('leaves an _id that the document brings along', async () => {
    for (const worst of [1, 2]) await sink().put([{ _id: 'SAT', worst }, { worst }], window('w'));
    expect(await all()).toEqual([
      { _id: 'SAT', worst: 2 },
      { _id: 'w:1', worst: 2 },
    ]);
  });

  it('never reads an _id as a condition', async () => {
    await reports().insertOne({ _id: 'SAT' });
    await sink()
      .put({ _id: { $gt: '' }, n: 1 }, window('w'))
      .catch(() => undefined);
    expect(await reports().findOne({ _id: 'SAT' })).toEqual({ _id: 'SAT' });
  });

  it('does not change what the handler returned', async () => {
    const result = Object.freeze([Object.freeze({ n: 1 })]);
    await sink().put(result, window('w'));
    await sink({ mode: 'insert' }).put(result, window('w'));
    expect(result).toEqual([{ n: 1 }]);
  });

  it('stores the content of a Mongoose document', async () => {
    const Report = connection.model('Report', new Schema({ n: Number, _id: String }, { versionKey: false }));
    await sink().put(new Report({ _id: 'r', n: 1 }), window('w'));
    expect(await all()).toEqual([{ _id: 'r', n: 1 }]);
  });

  it('inserts each time with mode insert', async () => {
    for (let tries = 0; tries < 2; tries += 1) await sink({ mode: 'insert' }).put([{ n: 1 }, 2], window('w'));
    const found = await all();
    expect(found.map(({ _id, ...rest }) => rest)).toEqual(
      expect.arrayContaining([{ n: 1 }, { n: 1 }, { value: 2 }, { value: 2 }]),
    );
    expect(found).toHaveLength(4);
  });

  it('writes thousands of documents in batches', async () => {
    const result = Array.from({ length: 3210 }, (_, n) => ({ n }));
    await sink({ batch: 500 }).put(result, window('w'));
    expect(await reports().countDocuments()).toBe(3210);
  });

  it('writes more than one message to the server holds', async () => {
    const result = Array.from({ length: 6 }, (_, n) => ({ n, text: 'x'.repeat(10 * 1024 * 1024) }));
    await sink().put(result, window('w'));
    expect(await reports().countDocuments()).toBe(6);
  });

  it.each(['upsert', 'insert'] as const)('with mode %s writes all but the bad ones and says which', async (mode) => {
    await reports().createIndex({ n: 1 }, { unique: true }, {});
    await reports().insertOne({ _id: 'taken', n: 5 } as { _id: string });
    const put = sink({ mode, batch: 4 }).put(
      Array.from({ length: 10 }, (_, n) => ({ n })),
      window('w'),
    );
    await expect(put).rejects.toMatchObject({
      code: ErrorCode.SinkFailed,
      message: expect.stringMatching(/CollectionSink: failed to write 1 of 10 documents of window w .*document 5: /),
      details: { window: 'w', written: 9, failed: [{ index: 5, code: 11_000 }] },
      cause: expect.objectContaining({ name: 'MongoBulkWriteError' }),
    });
    expect(await reports().countDocuments()).toBe(10);
  });

  it('refuses what is too large before it writes anything', async () => {
    const put = sink({ batch: 1 }).put([{ n: 0 }, { text: 'x'.repeat(17 * 1024 * 1024) }], window('w'));
    await expect(put).rejects.toMatchObject({ code: ErrorCode.MessageTooLarge, details: { index: 1 } });
    expect(await all()).toEqual([]);
  });

  const cycle: { self?: unknown } = {};
  cycle.self = cycle;
  const loaded = {
    toBSON() {
      throw new Error('not loaded');
    },
  };

  it.each<[string, unknown, RegExp]>([
    ['a NUL in a key', { 'a\0b': 1 }, /document 1 of the result cannot be stored by MongoDB: .*null bytes/],
    ['a NUL in a nested key', { deep: [{ 'a\0b': 1 }] }, /document 1 of .*null bytes/],
    ['a cycle', cycle, /document 1 of the result cannot be stored by MongoDB: .*circular/],
    ['an operator as a key', { $set: { n: 1 } }, /document 1 of .*its key '\$set' begins with \$/],
    ['a function', () => 1, /a function, which MongoDB cannot store/],
    ['a symbol', Symbol('x'), /a symbol, which MongoDB cannot store/],
    ['a toBSON that throws', loaded, /not loaded/],
    ['a nested toBSON that throws', { deep: loaded }, /document 1 of .*not loaded/],
  ])('refuses %s before it writes anything', async (_, bad, message) => {
    const put = sink().put([{ n: 0 }, bad, { n: 2 }], window('w'));
    await expect(put).rejects.toMatchObject({
      code: ErrorCode.ResultRefused,
      message: expect.stringMatching(message),
    });
    expect(await all()).toEqual([]);
  });

  it.each(['upsert', 'insert'] as const)('with mode %s tells documents at fault from others', async (mode) => {
    const refuse = (...codes: number[]) => {
      const error = Object.assign(new Error('x'), {
        name: 'MongoBulkWriteError',
        writeErrors: codes.map((code, index) => ({ index, code, errmsg: 'x' })),
      });
      const write = () => Promise.reject(error);
      const native = connection.db?.collection('reports');
      if (!native) throw new Error('not connected');
      const collection = Object.assign(native, { insertMany: write, bulkWrite: write });
      return new CollectionSink({ collection, mode }).put([{ n: 0 }, { n: 1 }], window('w'));
    };
    await expect(refuse(121)).rejects.toMatchObject({ code: ErrorCode.ResultRefused, details: { written: 1 } });
    await expect(refuse(121, 10_334)).rejects.toMatchObject({ code: ErrorCode.ResultRefused });
    // Stepping down.
    await expect(refuse(121, 189)).rejects.toMatchObject({ code: ErrorCode.SinkFailed, details: { written: 0 } });
  });

  it('finds the document that the driver could not encode also in an error of its version 6', async () => {
    const native = connection.db?.collection('reports');
    if (!native) throw new Error('not connected');
    const { insertMany } = native;
    const wrapped = (...args: Parameters<typeof insertMany>) =>
      insertMany.apply(native, args).catch((errorResponse: unknown) => {
        throw Object.assign(new Error('x'), { name: 'MongoBulkWriteError', errorResponse, writeErrors: [] });
      });
    const reports = new CollectionSink({ collection: Object.assign(native, { insertMany: wrapped }) });
    await expect(reports.put([{ n: 0 }, { 'a\0b': 1 }], window('w'))).rejects.toMatchObject({
      code: ErrorCode.ResultRefused,
      message: expect.stringMatching(/document 1 of .*null bytes/),
    });
  });

  it('writes to the collection of a model, and to a collection of the driver', async () => {
    const Report = connection.model('Report', new Schema({ n: Number }), 'reports');
    const native = connection.db?.collection('reports');
    if (!native) throw new Error('not connected');
    await new CollectionSink({ model: Report }).put({ n: 1 }, window('a'));
    await new CollectionSink({ collection: native }).put({ n: 1 }, window('b'));
    expect((await all()).map(({ _id }) => _id)).toEqual(['a', 'b']);
  });

  it('rejects, to be tried again, while the connection is not open', async () => {
    const unopened = new CollectionSink({ connection: createConnection(), collection: 'reports' });
    await expect(unopened.put({ n: 1 }, window('w'))).rejects.toMatchObject({ code: ErrorCode.SinkFailed });
  });

  it.each([
    [{}, /connection, collection, model/],
    [{ collection: 'reports' }, /connection, collection, model/],
    [{ collection: 'reports', connection: {}, mode: 'append' }, /mode is 'append'; allowed: 'upsert', 'insert'/],
    [{ collection: 'reports', connection: {}, batch: 0 }, /batch is 0/],
    [{ collection: 'reports', connection: {}, modus: 'insert' }, /unknown option 'modus'/],
  ])('%# refuses nonsense', (options, message) => {
    expect(() => new CollectionSink(options as never)).toThrow(
      expect.objectContaining({ code: ErrorCode.InvalidOptions, message: expect.stringMatching(message) }),
    );
  });

  it('says what a subclass has to do, and which one', () => {
    class Reports extends CollectionSink {}
    expect(() => Reflect.construct(Reports, [])).toThrow(/Reports.*call super\(\{ connection/);
  });
});
