import mongoose from 'mongoose';

export const durabilityOf = (server) =>
  server?.kind === 'mongo-java-server'
    ? 'w: majority, acknowledged by a test server that keeps it in memory'
    : 'w: majority, acknowledged';

/** A database of a subject's own, and a connection that looks at it without being counted. */
export async function openMongo(server, subject, { clear = true } = {}) {
  const name = `minibatch_bench_${subject}`;
  const connection = mongoose.createConnection(server.uri, { dbName: name, autoIndex: false, monitorCommands: true });
  await connection.asPromise();
  if (clear) await connection.dropDatabase();
  return { connection, name };
}
