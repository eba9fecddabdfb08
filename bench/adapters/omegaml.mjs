/**
 * Datasets of omega|ml, against the bare driver on the same server in the same round.
 *
 *   npm run --silent build && node bench/adapters/omegaml.mjs      # a server of its own
 *   MONGODB_URI=… node bench/adapters/omegaml.mjs -- --rounds 7    # yours (the database minibatch_bench_omegaml is dropped)
 *
 * Into a stream: the dataset's rows are read and appended, 500 at a time; bare is find and insertMany. Out of a stream: results of
 * 1000 rows are put into a dataset; bare is insertMany.
 */
import { parseArgs } from 'node:util';
import mongoose from 'mongoose';
import { mongoStore, openStream } from 'nestjs-minibatch/client';
import { DatasetSink, DatasetSource } from 'nestjs-minibatch/omegaml';
import { startMongo } from '../../scripts/servers/mongo/mongo.mjs';

const { values: options } = parseArgs({
  options: { messages: { type: 'string', default: '20000' }, rounds: { type: 'string', default: '5' } },
});
const MESSAGES = Number(options.messages);
const ROUNDS = Number(options.rounds);
const DATABASE = 'minibatch_bench_omegaml';
const row = (n) => ({ n, text: 'x'.repeat(200) });

const server = await startMongo({});
const connection = await mongoose.createConnection(server.uri, { dbName: DATABASE }).asPromise();
console.log(`${server.kind}, ${MESSAGES} rows of 200 bytes, ${ROUNDS} rounds\n`);

async function* batches(size) {
  for (let from = 0; from < MESSAGES; from += size) yield Array.from({ length: size }, (_, index) => row(from + index));
}

async function timed(work) {
  const begin = performance.now();
  await work();
  return (MESSAGES / (performance.now() - begin)) * 1000;
}

async function bareInto() {
  const cursor = connection.collection('rows').find({}, { sort: { _id: 1 }, batchSize: 500 });
  while (await cursor.hasNext()) {
    const data = cursor.readBufferedDocuments(500);
    await connection
      .collection('bare')
      .insertMany(data.map((document) => ({ stream: 'bare', processed: false, created: new Date(), data: document })));
  }
}

async function ourInto(stream) {
  const stop = new AbortController();
  let appended = 0;
  const target = {
    name: 'ours',
    append: (data) => stream.append(data),
    position: async () => undefined,
    appendMany: async (data, { each }) => {
      await stream.appendMany(data, { each });
      appended += data.length;
      if (appended >= MESSAGES) stop.abort();
    },
  };
  const source = new DatasetSource({ connection, dataset: 'in', mode: 'cursor' });
  await source.stream(target, stop.signal);
}

async function bareOut() {
  for await (const rows of batches(1000)) await connection.collection('bare out').insertMany(rows);
}

async function ourOut() {
  const sink = new DatasetSink({ connection, dataset: 'out' });
  let window = 0;
  for await (const rows of batches(1000)) await sink.put(rows, { id: `window-${(window += 1)}` });
}

const rates = { 'into, bare': [], 'into, ours': [], 'out, bare': [], 'out, ours': [] };
for (let round = 0; round < ROUNDS; round += 1) {
  await connection.dropDatabase();
  const entry = { name: 'in', bucket: 'omegaml', prefix: 'data/', kind: 'pandas.rawdict', collection: 'rows' };
  await connection.collection('metadata').insertOne(entry);
  for await (const rows of batches(1000)) await connection.collection('rows').insertMany(rows);
  const uri = server.uri.replace(/^([^/]+:\/\/[^/?]+)(\/[^?]*)?/, `$1/${DATABASE}`);
  const stream = await openStream(mongoStore(uri), 'ours');
  const works = [
    ['into, bare', bareInto],
    ['into, ours', () => ourInto(stream)],
    ['out, bare', bareOut],
    ['out, ours', ourOut],
  ];
  // Each is first once in a while.
  for (const [name, work] of round % 2 ? works : works.toReversed()) rates[name].push(await timed(work));
  await stream.disconnect();
}

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
const table = ['into', 'out'].map((way) => {
  const [bare, ours] = [rates[`${way}, bare`], rates[`${way}, ours`]];
  const ratio = median(ours.map((rate, round) => rate / bare[round]));
  return {
    way,
    'bare/s': Math.round(median(bare)),
    'ours/s': Math.round(median(ours)),
    ratio: Number(ratio.toFixed(2)),
  };
});
console.table(table);
await connection.dropDatabase();
await connection.close();
await server.stop();
