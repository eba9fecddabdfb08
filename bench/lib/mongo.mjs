import mongoose from 'mongoose';

export const durabilityOf = (server) =>
  server?.kind === 'mongo-java-server'
    ? 'w: majority, acknowledged by a test server that keeps it in memory'
    : 'w: majority, acknowledged';

/** A database of a subject's own, and a connection to it; `counting`: its commands can be counted. */
export async function openMongo(server, subject, { clear = true, counting = false } = {}) {
  const name = `minibatch_bench_${subject}`;
  const options = { dbName: name, autoIndex: false, monitorCommands: counting };
  const connection = mongoose.createConnection(server.uri, options);
  await connection.asPromise();
  if (clear) await connection.dropDatabase();
  return { connection, name };
}
