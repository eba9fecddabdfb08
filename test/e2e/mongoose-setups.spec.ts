import 'reflect-metadata';
import { Injectable, Module } from '@nestjs/common';
import { getConnectionToken, getModelToken, InjectModel, MongooseModule } from '@nestjs/mongoose';
import type { TestingModule } from '@nestjs/testing';
import { type Connection, type Model, Schema } from 'mongoose';
import { ErrorCode, MinibatchModule, mongooseStore, Streaming, StreamService, type Window } from 'nestjs-minibatch';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { TestDatabase } from '../support/mongo-server.js';
import { bootError, closeAll, mongoose, SOON, start, useDatabase } from './support/applications.js';

interface Film {
  title: string;
}
const FilmSchema = new Schema<Film>({ title: String });

@Injectable()
class Report {
  readonly windows: Window[] = [];

  @Streaming('flights', { size: 2 })
  take(window: Window): void {
    this.windows.push(window);
  }

  /** By created: another strategy, another way to read. */
  @Streaming('flights', { interval: 20, relaxed: false, grace: 0, group: 'by time' })
  count(): void {}
}

afterEach(closeAll);

describe('the module in an application that has set Mongoose up in its own way', () => {
  let database: TestDatabase;
  beforeEach(() => {
    database = useDatabase();
  });

  /** Messages go their whole way, and nothing is left behind. */
  async function works(app: TestingModule, connection: Connection): Promise<void> {
    const streams = app.get(StreamService, { strict: false });
    await streams.appendMany('flights', [{ delay: 1 }, { delay: 2 }, { delay: 3 }, { delay: 4 }]);
    const { windows } = app.get(Report);
    await vi.waitUntil(() => windows.length >= 2, SOON);
    expect(windows.map(({ data }) => data)).toEqual([
      [{ delay: 1 }, { delay: 2 }],
      [{ delay: 3 }, { delay: 4 }],
    ]);
    const left = async () => [
      await connection.collection('buffer').countDocuments(),
      await connection.collection('window').countDocuments(),
    ];
    await vi.waitUntil(async () => (await left()).every((count) => count === 0), SOON);
  }

  describe('with models named like ours', () => {
    @Injectable()
    class Films {
      constructor(
        @InjectModel('Stream') readonly streams: Model<Film>,
        @InjectModel('Window') readonly panes: Model<Film>,
      ) {}
    }
    const models = MongooseModule.forFeature([
      { name: 'Stream', schema: FilmSchema },
      { name: 'Buffer', schema: FilmSchema },
      { name: 'Window', schema: FilmSchema },
      { name: 'Consumer', schema: FilmSchema },
    ]);
    @Module({ imports: [models], providers: [Films], exports: [Films] })
    class FilmModule {}

    it.each([
      ['before', () => [mongoose(database), FilmModule, MinibatchModule.forRoot()]],
      ['after', () => [mongoose(database), MinibatchModule.forRoot(), FilmModule]],
    ])('which are registered %s it: both keep their documents', async (_, imports) => {
      const app = await start({ imports: imports(), providers: [Report] });
      const connection = app.get<Connection>(getConnectionToken(), { strict: false });
      const { streams, panes } = app.get(Films, { strict: false });
      await streams.create({ title: 'flights' }, { title: 'Stalker' });
      await panes.create({ title: 'flights' });
      await works(app, connection);

      expect(streams.collection.name).toBe('streams');
      expect((await streams.find().sort({ title: 1 })).map(({ title }) => title)).toEqual(['Stalker', 'flights']);
      expect(await panes.countDocuments()).toBe(1);
      expect(await connection.collection('stream').find().toArray()).toMatchObject([
        { name: 'flights', status: 'open' },
      ]);
      // To drop a stream of that name is nothing to them either.
      await app
        .get<{ dropStream(name: string): Promise<void> }>('MINIBATCH_STREAM_STORE', { strict: false })
        .dropStream('flights');
      expect(await streams.countDocuments()).toBe(2);
    });

    it('one of which lies in our collection: the boot is refused, and says how to move', async () => {
      const taken = MongooseModule.forFeature([{ name: 'Stream', schema: FilmSchema, collection: 'stream' }]);
      const error = await bootError({ imports: [mongoose(database), taken, MinibatchModule.forRoot()] });
      expect(error).toMatchObject({
        code: ErrorCode.ModelConflict,
        message: expect.stringContaining("collections: { stream: '…' }") as string,
      });

      const store = mongooseStore({ collections: { stream: 'mb_stream' } });
      const imports = [mongoose(database), taken, MinibatchModule.forRoot({ store })];
      const app = await start({ imports, providers: [Report] });
      const Stream = app.get<Model<Film>>(getModelToken('Stream'), { strict: false });
      await Stream.create({ title: 'Stalker' });
      await works(app, app.get<Connection>(getConnectionToken(), { strict: false }));
      expect((await Stream.find()).map(({ title }) => title)).toEqual(['Stalker']);
    });
  });

  it('with a plugin for all schemas that demands a tenant, hides what is deleted and stamps what is saved', async () => {
    const seen = new Set<string>();
    const tenants = (schema: Schema) => {
      schema.add({ tenant: { type: String, required: true }, deleted: { type: Boolean, default: false } });
      const refuse = function (this: { getFilter(): Record<string, unknown> }) {
        if (this.getFilter()['tenant'] === undefined) throw new Error('a query without tenant');
      };
      schema.pre(['find', 'findOne', 'findOneAndUpdate', 'countDocuments', 'updateOne', 'updateMany'], refuse);
      schema.pre(['deleteOne', 'deleteMany'], refuse);
      schema.pre('save', function () {
        this.set('stamped', true);
      });
      schema.set('timestamps', true);
      schema.on('init', ({ modelName }: Model<unknown>) => seen.add(modelName));
    };
    const connectionFactory = (connection: Connection) => connection.plugin(tenants);
    const films = MongooseModule.forFeature([{ name: 'Film', schema: new Schema<Film>({ title: String }) }]);
    const imports = [mongoose(database, { connectionFactory }), films, MinibatchModule.forRoot()];
    const app = await start({ imports, providers: [Report] });
    const connection = app.get<Connection>(getConnectionToken(), { strict: false });

    // It is at work: on the application's models, and on ours.
    const Film = app.get<Model<Film>>(getModelToken('Film'), { strict: false });
    await expect(Film.create({ title: 'Stalker' })).rejects.toThrow('tenant');
    expect([...seen]).toEqual(expect.arrayContaining(['Film', 'MinibatchStream', 'MinibatchBuffer']));
    await expect(connection.model('MinibatchBuffer').find()).rejects.toThrow('a query without tenant');

    await app.get(StreamService, { strict: false }).append('other', { delay: 1 });
    const [stored] = await connection.collection('buffer').find({ stream: 'other' }).toArray();
    expect(Object.keys(stored ?? {}).toSorted()).toEqual(['_id', 'created', 'data', 'processed', 'stream']);
    await connection.collection('buffer').deleteMany({});
    await works(app, connection);
  });

  it('with autoIndex and autoCreate off, and without buffering: the indexes of the store are there all the same', async () => {
    const options = { autoIndex: false, autoCreate: false, bufferCommands: false, sanitizeFilter: true };
    const imports = [mongoose(database, options), MinibatchModule.forRoot()];
    const app = await start({ imports, providers: [Report] });
    const connection = app.get<Connection>(getConnectionToken(), { strict: false });
    await works(app, connection);
    const keys = async (collection: string) =>
      (await connection.collection(collection).indexes()).map(({ key }) => Object.keys(key).join());
    expect(await keys('stream')).toEqual(expect.arrayContaining(['name']));
    expect(await keys('buffer')).toEqual(expect.arrayContaining(['dedupeKey']));
    expect((await keys('buffer')).length).toBeGreaterThan(2);
    expect((await keys('window')).length).toBeGreaterThan(1);
  });

  it('with a named connection next to the default one: everything is on the named one', async () => {
    const other = useDatabase();
    const imports = [
      mongoose(other),
      mongoose(database, { connectionName: 'streams' }),
      MongooseModule.forFeature([{ name: 'Film', schema: FilmSchema }]),
      MinibatchModule.forRoot({ connectionName: 'streams' }),
    ];
    const app = await start({ imports, providers: [Report] });
    await app.get<Model<Film>>(getModelToken('Film'), { strict: false }).create({ title: 'Stalker' });
    await works(app, app.get<Connection>(getConnectionToken('streams'), { strict: false }));

    const names = async ({ connect }: TestDatabase) =>
      ((await (await connect()).db?.listCollections().toArray()) ?? []).map(({ name }) => name).toSorted();
    expect(await names(other)).toEqual(['films']);
    expect(await names(database)).toEqual(expect.arrayContaining(['buffer', 'consumer', 'stream', 'window']));
    expect(await names(database)).not.toContain('films');
  });
});
