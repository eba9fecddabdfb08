/**
 * What streams cost that have nothing to do: one process declares many streams with a consumer each, and a few of them are busy. For each
 * store and each number of streams, in a process of its own, prints how long the start takes, the memory a stream takes, and timers,
 * commands and CPU at rest and with the busy streams.
 *
 *   npm run bench:streams                                               # 100, 1,000 and 10,000 streams on every store
 *   npm run bench:streams -- --streams 1000 --stores lmdb,postgres
 *   MONGODB_URI=… npm run bench:streams -- --stores mongo               # yours (its database minibatch_bench_streams is dropped)
 *
 * `--stores`: lmdb, mongo (a server of its own), replica-set, postgres; `--busy 100` streams get a window's worth of messages every second;
 * `--settle 30` seconds of rest before it counts, for `--seconds 30`. Commands are MongoDB's and PostgreSQL's own; with LMDB, calls of the
 * store.
 */
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values: options } = parseArgs({
  options: {
    streams: { type: 'string', default: '100,1000,10000' },
    stores: { type: 'string', default: 'lmdb,mongo,replica-set,postgres' },
    busy: { type: 'string', default: '100' },
    settle: { type: 'string', default: '30' },
    seconds: { type: 'string', default: '30' },
    /** Set in the processes that this one starts. */
    run: { type: 'string' },
    address: { type: 'string' },
  },
});

const SERVERS = {
  lmdb: async () => {
    const folder = await mkdtemp(join(tmpdir(), 'minibatch-streams-'));
    return { address: folder, label: 'LMDB', stop: () => rm(folder, { recursive: true, force: true }) };
  },
  mongo: async () => mongoAddress(await (await mongoServers()).startMongo({})),
  'replica-set': async () => mongoAddress(await (await mongoServers()).startReplicaSet({})),
  postgres: async () => {
    const { startPostgres } = await import('../scripts/servers/postgres/postgres.mjs');
    const server = await startPostgres({});
    return { address: server.url, label: server.label, stop: () => server.stop() };
  },
};

const mongoServers = () => import('../scripts/servers/mongo/mongo.mjs');
const mongoAddress = (server) => ({ address: server.uri, label: server.label, stop: () => server.stop?.() });

if (options.run) await (await import('./lib/many-streams.mjs')).run(options);
else await runAll();

async function runAll() {
  for (const store of options.stores.split(',')) {
    for (const count of options.streams.split(',')) {
      const server = await SERVERS[store]();
      try {
        console.log(JSON.stringify({ store: server.label, ...(await measure(store, count, server.address)) }));
      } finally {
        await server.stop();
      }
    }
  }
}

/** In a process of its own, which leaves nothing to the next. */
async function measure(store, count, address) {
  const { busy, settle, seconds } = options;
  const args = Object.entries({ run: store, address, streams: count, busy, settle, seconds });
  const child = spawn(
    process.execPath,
    ['--expose-gc', fileURLToPath(import.meta.url), ...args.map(([name, value]) => `--${name}=${value}`)],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let text = '';
  for await (const chunk of child.stdout) text += chunk;
  const line = text.trim().split('\n').at(-1);
  return line?.startsWith('{') ? JSON.parse(line) : { streams: Number(count), failed: text };
}
