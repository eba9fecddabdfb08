import mongoose from 'mongoose';
import { meter } from '../lib/mongo-meter.mjs';
import { FloorLoop } from '../lib/floor-loop.mjs';
import { durabilityOf, openMongo } from '../lib/mongo.mjs';

/** However large the windows: the floor is the best that can be done. */
const BLOCK = 1000;

/**
 * The bare driver doing the least that stores messages and takes them out again; it would lose windows in a crash. `onward`: it asks for
 * what comes after the last one that it had, and never sees one that was stored late.
 */
export const bareMongo = ({ onward }) => ({
  name: onward ? 'floor-mongo-onward' : 'floor-mongo',
  label: onward ? 'bare MongoDB driver, from the last id' : 'bare MongoDB driver',
  needs: ['mongo'],
  countsApart: true,
  durability: ({ mongo }) => durabilityOf(mongo),
  packages: ['mongoose'],
  without: ['streams', 'idle', 'startup', ...(onward ? ['append', 'both', 'latency', 'memory'] : [])],

  async open({ servers, streams: [stream], clear, counting, groups, onWindow }) {
    const { connection } = await openMongo(servers.mongo, onward ? 'onward' : 'floor', { clear, counting });
    // As the module has it; elsewhere a standalone server would be asked for less.
    const writeConcern = { w: 'majority', wtimeoutMS: 30_000 };
    const [buffer, window] = ['buffer', 'window'].map((each) => connection.db.collection(each, { writeConcern }));
    await buffer.createIndexes([{ key: { stream: 1, processed: 1, _id: 1 }, name: 'minibatch_fetch' }]);
    const counted = counting && meter(connection.getClient());
    const document = (data) => ({ stream, created: new Date(), data, processed: false });
    const appendMany = (messages) => buffer.insertMany(messages.map(document));
    const loop = new FloorLoop(blocks(buffer, { stream, onward, groups, onWindow }));
    return {
      append: (message) => buffer.insertOne(document(message)),
      appendMany,
      async appendConcurrently(messages, count) {
        for (let n = 0; n < messages.length; n += count) await appendMany(messages.slice(n, n + count));
      },
      async start() {
        if (counting) counted.reset();
        loop.start();
      },
      settled: (messages) => loop.settled(messages),
      async roundTrip(message) {
        onWindow(groups[0], [await roundTrip(buffer, window, document(message))]);
      },
      pause: () => loop.gate.shut(),
      resume: async () => loop.gate.open(),
      left: () => buffer.countDocuments(),
      figures: () => (counting ? { commands: counted.total, ...counted.figures.written } : undefined),
      async close() {
        await loop.stop();
        await connection.close();
      },
    };
  },
});

/** find + deleteMany. */
function blocks(buffer, { stream, onward, groups, onWindow }) {
  let last;
  return async () => {
    const further = onward && last ? { _id: { $gt: last } } : {};
    const documents = await buffer
      .find({ stream, processed: false, ...further }, { sort: { _id: 1 }, limit: BLOCK, batchSize: BLOCK + 1 })
      .toArray();
    if (documents.length === 0) return 0;
    last = documents.at(-1)._id;
    const data = documents.map((each) => each.data);
    for (const group of groups) await onWindow(group, data);
    await buffer.deleteMany({ _id: { $in: documents.map(({ _id }) => _id) } });
    return documents.length * groups.length;
  };
}

/** Stores a message, reads it and writes down its window; resolves with its data. */
async function roundTrip(buffer, window, document) {
  const _id = new mongoose.Types.ObjectId();
  await buffer.insertOne({ _id, ...document });
  const [{ data }] = await buffer.find({ _id }, { limit: 1, batchSize: 2 }).toArray();
  await window.insertOne({ stream: document.stream, messages: [_id] });
  return data;
}

export default bareMongo({ onward: false });
