/**
 * Collections and datasets of omega|ml, against the bare driver on the same server in the same round.
 *
 *   npm run --silent build && node bench/adapters/collection.mjs   # a server of its own
 *   MONGODB_URI=… node bench/adapters/collection.mjs --rounds 7    # yours (the database minibatch_bench_adapters is dropped)
 *
 * Into a stream: the rows of a collection are read and appended, 500 at a time; bare is find and insertMany. Out of a stream: results
 * of 1000 rows are put; bare is insertMany, or a bulk of replaceOne with upsert under the same ids.
 */
import 'reflect-metadata';
import { parseArgs } from 'node:util';
import mongoose from 'mongoose';
import { CollectionSink, CollectionSource, memoryStore } from 'nestjs-minibatch';
import { mongoStore, openStream } from 'nestjs-minibatch/client';
import { DatasetSink, DatasetSource } from 'nestjs-minibatch/omegaml';
import { startMongo } from '../../scripts/servers/mongo/mongo.mjs';
import { drainSeconds } from './lib/full-stream.mjs';
import { printTable } from './lib/table.mjs';

const { values: options } = parseArgs({
  options: { messages: { type: 'string', default: '20000' }, rounds: { type: 'string', default: '5' } },
});
const MESSAGES = Number(options.messages);
const ROUNDS = Number(options.rounds);
const DATABASE = 'minibatch_bench_adapters';
const rows = Array.from({ length: MESSAGES }, (_, n) => ({ n, text: 'x'.repeat(200) }));

const server = await startMongo({});
const connection = await mongoose.createConnection(server.uri, { dbName: DATABASE }).asPromise();
console.log(`${server.kind}, ${MESSAGES} rows of 200 bytes, ${ROUNDS} rounds\n`);

function* batches(size) {
  for (let from = 0; from < MESSAGES; from += size) yield rows.slice(from, from + size).map((row) => ({ ...row }));
}

/** Messages/s of `work`, by the seconds that it resolves with or else takes, on a database that holds the rows and nothing else. */
async function rate(work) {
  await connection.dropDatabase();
  const entry = { name: 'in', bucket: 'omegaml', prefix: 'data/', kind: 'pandas.rawdict', collection: 'rows' };
  await connection.collection('metadata').insertOne(entry);
  for (const batch of batches(1000)) await connection.collection('rows').insertMany(batch);
  const uri = server.uri.replace(/^([^/]+:\/\/[^/?]+)(\/[^?]*)?/, `$1/${DATABASE}`);
  const stream = await openStream(mongoStore(uri), 'ours');
  const began = performance.now();
  const measured = await work(stream);
  const seconds = measured ?? (performance.now() - began) / 1000;
  await stream.disconnect();
  return MESSAGES / seconds;
}

async function bareInto() {
  const cursor = connection.collection('rows').find({}, { sort: { _id: 1 }, batchSize: 500 });
  const created = new Date();
  while (await cursor.hasNext()) {
    const documents = cursor.readBufferedDocuments(500);
    await connection
      .collection('bare')
      .insertMany(documents.map((data) => ({ stream: 'bare', processed: false, created, data })));
  }
}

async function into(source, stream) {
  const attached = stream.attach(source);
  while (attached.status.appended < MESSAGES) await new Promise((resolve) => setTimeout(resolve, 1));
}

async function bareInsert() {
  for (const batch of batches(1000)) await connection.collection('bare out').insertMany(batch);
}

async function bareUpsert() {
  let window = 0;
  for (const batch of batches(1000)) {
    window += 1;
    const replacements = batch.map((row, index) => {
      const _id = `window-${window}:${index}`;
      return { replaceOne: { filter: { _id }, replacement: row, upsert: true } };
    });
    await connection.collection('bare out').bulkWrite(replacements, { ordered: false });
  }
}

async function putAll(sink) {
  let window = 0;
  const { signal } = new AbortController();
  for (const batch of batches(1000)) await sink.put(batch, { id: `window-${(window += 1)}`, signal });
}

const drain = (sink) => drainSeconds(memoryStore(), sink, rows, { size: 1000 });

const reading = { connection, mode: 'cursor', snapshot: true };
const tables = [
  [
    ['into: find + insertMany', bareInto],
    ['into: CollectionSource', (stream) => into(new CollectionSource({ ...reading, collection: 'rows' }), stream)],
    ['into: DatasetSource', (stream) => into(new DatasetSource({ connection, dataset: 'in', mode: 'cursor' }), stream)],
  ],
  [
    ['out of: insertMany', bareInsert],
    [
      'out of: CollectionSink, insert',
      () => putAll(new CollectionSink({ connection, collection: 'out', mode: 'insert' })),
    ],
    [
      'out of: CollectionSink, insert, windows from memory',
      () => drain(new CollectionSink({ connection, collection: 'out', mode: 'insert' })),
    ],
    ['out of: DatasetSink', () => putAll(new DatasetSink({ connection, dataset: 'out' }))],
    ['out of: DatasetSink, windows from memory', () => drain(new DatasetSink({ connection, dataset: 'out' }))],
  ],
  [
    ['out of: bulk of replaceOne', bareUpsert],
    ['out of: CollectionSink, upsert', () => putAll(new CollectionSink({ connection, collection: 'out' }))],
    [
      'out of: CollectionSink, upsert, windows from memory',
      () => drain(new CollectionSink({ connection, collection: 'out' })),
    ],
  ],
];
try {
  for (const subjects of tables) {
    await printTable(
      subjects.map(([name, work]) => [name, () => rate(work)]),
      { rounds: ROUNDS },
    );
  }
} finally {
  await connection.dropDatabase();
  await connection.close();
  await server.stop();
}
