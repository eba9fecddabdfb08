import 'reflect-metadata';
import { Injectable } from '@nestjs/common';
import { InjectConnection, MongooseModule } from '@nestjs/mongoose';
import { type Connection, mongo } from 'mongoose';
import { memoryStore, MinibatchModule, StatusService, Streaming, StreamSource, Window } from 'nestjs-minibatch';
import { DatasetSink, DatasetSource } from 'nestjs-minibatch/omegaml';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { startMongo, type MongoServer } from '../../scripts/servers/mongo/mongo.mjs';
import { closeAll, later, start } from '../e2e/support/applications.js';
import { openDatabase } from '../support/mongo-server.js';

/** Few enough for a test server that looks through a collection at each query. */
const ROWS = 8_000;
const BLOCK = 500;

interface Row {
  readonly n: number;
}

@StreamSource('rows', { retry: { backoff: 50, maxBackoff: 200 } })
class In extends DatasetSource<Row> {
  constructor(@InjectConnection() connection: Connection) {
    super({ connection, dataset: 'in', pollInterval: 50 });
  }
}

@Injectable()
class Out extends DatasetSink<Row> {
  constructor(@InjectConnection() connection: Connection) {
    super({ connection, dataset: 'out' });
  }
}

@Injectable()
class Copy {
  @Streaming<Row, typeof Out>('rows', {
    size: 200,
    interval: 100,
    sink: Out,
    retry: { backoff: 50, maxBackoff: 200 },
  })
  copy({ data }: Window<Row>): readonly Row[] {
    return data;
  }
}

describe('a server of datasets that is killed', () => {
  let server: MongoServer;
  beforeAll(async () => {
    server = await startMongo({ durable: true });
  });
  afterAll(() => server.stop());
  afterEach(closeAll);

  it(
    `loses none of ${ROWS} rows on their way from one dataset to another, and doubles none`,
    { timeout: 180_000 },
    async () => {
      const database = openDatabase(server.uri);
      const options = { dbName: database.name, serverSelectionTimeoutMS: 500 };
      const producer = await database.connect({ serverSelectionTimeoutMS: 500 });
      later(() => database.dispose());
      await producer.collection('metadata').insertOne({
        name: 'in',
        bucket: 'omegaml',
        prefix: 'data/',
        kind: 'pandas.rawdict',
        collection: 'rows of in',
      });
      // The streams lie elsewhere: only the datasets are gone for a while.
      const imports = [MongooseModule.forRoot(server.uri, options), MinibatchModule.forRoot({ store: memoryStore() })];
      const app = await start({ imports, providers: [In, Out, Copy] });
      const status = async () => app.get(StatusService, { strict: false }).snapshot();

      let killed = 0;
      for (let from = 0; from < ROWS; from += BLOCK) {
        const rows = Array.from({ length: BLOCK }, (_, index) => ({ _id: new mongo.ObjectId(), n: from + index }));
        if (from === ROWS / 4 || from === ROWS / 2) {
          // In the middle of both ways.
          await vi.waitUntil(async () => (await producer.collection('metadata').findOne({ name: 'out' })) !== null, {
            timeout: 50_000,
          });
          await server.kill9();
          killed += 1;
          await server.restart();
        }
        await vi.waitFor(() => insertMissing(producer, rows), { timeout: 50_000, interval: 100 });
      }
      const out = async () => {
        const entry = await producer.collection('metadata').findOne({ name: 'out' });
        return producer.collection(String(entry?.['collection'])).find<Row>({}).toArray();
      };
      await vi.waitUntil(async () => (await out()).length >= ROWS, { timeout: 120_000, interval: 500 });
      const copied = await out();
      expect(new Set(copied.map(({ n }) => n)).size).toBe(ROWS);
      expect(copied).toHaveLength(ROWS);
      expect(killed).toBe(2);
      const [stream] = (await status()).streams;
      expect(stream?.sources).toMatchObject([{ state: 'running' }]);
    },
  );
});

/** What was written before its answer was lost is there already. */
async function insertMissing(connection: Connection, rows: readonly { readonly _id: mongo.ObjectId }[]): Promise<void> {
  try {
    await connection.collection('rows of in').insertMany([...rows], { ordered: false });
  } catch (error) {
    if (!(error instanceof mongo.MongoBulkWriteError) || error.code !== 11_000) throw error;
  }
}
