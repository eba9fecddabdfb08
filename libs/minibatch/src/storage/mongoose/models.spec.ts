import { Schema } from 'mongoose';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openDatabase, type TestDatabase } from '../../../../../test/support/mongo-server.js';
import {
  appendAll,
  keyOf,
  messageOf,
  openStore,
  takeLease,
  windowOf,
} from '../../../../../test/support/mongoose-store.js';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { MODEL_NAMES } from './collections.js';
import { MongooseStreamStore } from './mongoose.store.js';

const CONFLICT = { code: ErrorCode.ModelConflict };

describe('models and collections', () => {
  let database: TestDatabase;
  beforeEach(() => {
    database = openDatabase();
  });
  afterEach(() => database.dispose());

  it('leaves models of the application that are called like ours alone', async () => {
    const connection = await database.connect();
    const Stream = connection.model('Stream', new Schema({ title: String }));
    await Stream.create({ title: 'mine' });
    const store = new MongooseStreamStore(connection);
    await store.open();
    await appendAll(store, [messageOf('flights', 1)]);
    await store.dropStream('flights');
    expect(await Stream.countDocuments()).toBe(1);
    expect(Stream.collection.name).toBe('streams');
    expect(connection.model(MODEL_NAMES.buffer).collection.name).toBe('buffer');
  });

  it('refuses to open when the application took one of our model names', async () => {
    const connection = await database.connect();
    connection.model('MinibatchStream', new Schema({ title: String }));
    await expect(new MongooseStreamStore(connection).open()).rejects.toMatchObject(CONFLICT);
  });

  it('refuses to open when a model of the application lies in one of our collections', async () => {
    const connection = await database.connect();
    connection.model('Stream', new Schema({ title: String }), 'stream');
    const message = /collections: \{ stream: '…' \}/;
    await expect(new MongooseStreamStore(connection).open()).rejects.toThrow(message);
    const other = await database.connect();
    other.model('Stream', new Schema({ title: String }), 'stream');
    await new MongooseStreamStore(other, { collections: { stream: 'mb_stream' } }).open();
  });

  it('refuses two stores with different collections on one connection', async () => {
    const connection = await database.connect();
    await new MongooseStreamStore(connection).open();
    await new MongooseStreamStore(connection).open();
    const other = new MongooseStreamStore(connection, { collections: { buffer: 'mb_buffer' } });
    await expect(other.open()).rejects.toMatchObject(CONFLICT);
  });

  it('uses other collection names where they are given', async () => {
    const names = {
      stream: 'mb_stream',
      buffer: 'mb_buffer',
      window: 'mb_window',
      consumer: 'mb_consumer',
      deadletter: 'mb_deadletter',
      state: 'mb_state',
    };
    const { store, connection } = await openStore({ database, collections: names });
    await store.registerGroup({ stream: 'flights', group: 'default' });
    await appendAll(store, [messageOf('flights', 1)]);
    const lease = await takeLease(store, keyOf('flights'));
    const progress = { lastSeq: 1, windows: 1, messages: 0 };
    const effects = new Map([[1, { put: [{ slot: 'a', value: Uint8Array.of(1) }] }]]);
    const groups = await store.commit(lease, { finished: [1], progress, effects });
    await store.settle(lease, [{ window: windowOf(1, []), messages: [] }], { groups, keep: false });
    const present = (await connection.db!.listCollections().toArray()).map(({ name }) => name);
    expect(present).toEqual(expect.arrayContaining(Object.values(names)));
    expect(present).not.toContain('buffer');
  });

  it('shows the documents by its models', async () => {
    const { store, connection } = await openStore({ database });
    await appendAll(store, [messageOf('flights', { delay: 5 }, { key: 'SAT' })]);
    expect(await connection.model(MODEL_NAMES.buffer).findOne({ key: 'SAT' }).lean()).toMatchObject({
      stream: 'flights',
      data: { delay: 5 },
    });
  });

  it('refuses a database of a newer version', async () => {
    const { store, connection } = await openStore({ database });
    await store.ensureStream('flights');
    await connection.collection('stream').updateOne({ name: 'flights' }, { $set: { schemaVersion: 99 } });
    const tooNew = { code: ErrorCode.SchemaTooNew };
    await expect(store.ensureStream('flights')).rejects.toMatchObject(tooNew);
    await expect(new MongooseStreamStore(connection).open()).rejects.toMatchObject(tooNew);
  });

  it('says that the connection is not open', async () => {
    const connection = await database.connect();
    await connection.close();
    const store = new MongooseStreamStore(connection);
    await expect(store.open()).rejects.toMatchObject({ code: ErrorCode.StoreUnavailable });
  });
});
