// Two replicas of an app that append and consume for a long time, while they, and the store's server, are killed at random.
//
//   npm run test:soak                                     ten minutes on each store
//   npm run test:soak -- --minutes 2 --store mongo --seed 7
//
// The exit code is 0 only if nothing was lost and nothing committed was handled again.
import { parseArgs } from 'node:util';
import { runnerImport } from 'vite';
import { startMongo } from './servers/mongo/mongo.mjs';
import { startPostgres } from './servers/postgres/postgres.mjs';

const STORES = ['lmdb', 'mongo', 'postgres'];

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 1e9)) },
    store: { type: 'string', multiple: true, default: STORES },
  },
});
const minutes = Number(values.minutes);
const seed = Number(values.seed);
if (!(minutes > 0)) throw new Error('--minutes is a number');
if (!Number.isSafeInteger(seed)) throw new Error('--seed is a whole number');
for (const store of values.store) {
  if (!STORES.includes(store)) throw new Error(`--store is one of ${STORES.join(', ')}, not ${store}`);
}

const { module: suite } = await runnerImport(new URL('../test/crash/soak.ts', import.meta.url).pathname);
console.log(`seed ${seed}`);
for (const store of values.store) {
  const server = await serverOf(store);
  if (server) console.log(`${store}: ${server.label}`);
  try {
    const report = await suite.soak({ store, server, milliseconds: minutes * 60_000, seed, tell: console.log });
    console.log(suite.describeSoak(store, minutes * 60, report));
    if (report.verdict.violations.length > 0) process.exitCode = 1;
  } finally {
    await server?.stop();
  }
}

async function serverOf(store) {
  if (store === 'mongo') return startMongo({ durable: true });
  if (store !== 'postgres') return undefined;
  const server = await startPostgres();
  return Object.assign(server, { uri: server.url });
}
