import { startChild } from '../child.mjs';
import { freePort } from '../free-ports.mjs';
import { driver } from './probe.mjs';

/** How often a port that was free a moment ago may turn out to be taken. */
const TRIES = 5;

/** Starts a real mongod as a replica set of one, so that it has transactions and change streams. */
export async function startMongod({ binary, dir, port = 0, temporary, testCommands = false }) {
  for (let left = TRIES; ; left -= 1) {
    const own = port || (await freePort());
    const args = ['--bind_ip', '127.0.0.1', '--port', String(own), '--dbpath', dir, '--replSet', 'rs0'];
    if (testCommands) args.push('--setParameter', 'enableTestCommands=1');
    try {
      const child = await startChild(binary, args, { ready: /Waiting for connections/i, temporary });
      await becomePrimary(own).catch(async (error) => {
        child.kill('SIGKILL');
        await child.exited;
        throw error;
      });
      return { ...child, uri: `mongodb://127.0.0.1:${own}/?replicaSet=rs0` };
    } catch (error) {
      if (port || left <= 1 || !/in use/i.test(error.message)) throw error;
    }
  }
}

async function becomePrimary(port) {
  const { MongoClient } = await driver();
  const client = new MongoClient(`mongodb://127.0.0.1:${port}/?directConnection=true`);
  try {
    const admin = client.db('admin');
    const config = { _id: 'rs0', members: [{ _id: 0, host: `127.0.0.1:${port}` }] };
    // After a restart it is initiated already.
    await admin.command({ replSetInitiate: config }).catch((error) => {
      if (error.codeName !== 'AlreadyInitialized') throw error;
    });
    for (let left = 600; ; left -= 1) {
      const hello = await admin.command({ hello: 1 });
      if (hello.isWritablePrimary) return;
      if (left === 0) throw new Error('mongod did not become primary');
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  } finally {
    await client.close();
  }
}
