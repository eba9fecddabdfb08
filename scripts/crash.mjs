// The crash suite in its long form: real processes on real stores, killed at named steps and at any time.
//
//   npm run test:crash                                    200 kills on each store
//   npm run test:crash -- --kills 50 --store lmdb         fewer, on one
//   npm run test:crash -- --seed 12345 --scenarios        one line for each scenario
//
// The exit code is 0 only if nothing was lost, nothing committed was handled again, and every step was hit often enough.
import { parseArgs } from 'node:util';
import { runnerImport } from 'vite';
import { startMongo } from './servers/mongo/mongo.mjs';
import { startPostgres } from './servers/postgres/postgres.mjs';

const STORES = ['lmdb', 'mongo', 'postgres'];

const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '200' },
    each: { type: 'string' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 1e6) * 1000) },
    store: { type: 'string', multiple: true, default: STORES },
    scenarios: { type: 'boolean', default: false },
  },
});
const kills = Number(values.kills);
const seed = Number(values.seed);
const each = Number(values.each ?? Math.min(5, Math.max(1, Math.floor(kills / 40))));
for (const [name, value] of Object.entries({ kills, seed, each })) {
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`--${name} is a whole number`);
}
for (const store of values.store) {
  if (!STORES.includes(store)) throw new Error(`--store is one of ${STORES.join(', ')}, not ${store}`);
}

const { module: suite } = await runnerImport(new URL('../test/crash/scenario.ts', import.meta.url).pathname);
console.log(`seed ${seed}`);
for (const store of values.store) {
  const server = await serverOf(store);
  try {
    if (server) console.log(`${store}: ${server.label}`);
    const done = ({ seed: own, kills: hits, verdict }) =>
      console.log(
        `${store}, seed ${own}: ${[...hits.values()].reduce((sum, n) => sum + n, 0)} kills, ` +
          `${verdict.appended} rows, ${verdict.repeated} repeated, ${verdict.lost} lost, ${verdict.violations.length} violations`,
      );
    const report = await suite.runSuite(
      { store, ...(server && { uri: server.uri ?? server.url }) },
      { kills, each, seed, ...(values.scenarios && { done }) },
    );
    console.log(suite.describeReport(report));
    if (report.violations.length > 0) process.exitCode = 1;
  } finally {
    await server?.stop();
  }
}

function serverOf(store) {
  if (store === 'mongo') return startMongo();
  // The processes are killed, not the machine.
  return store === 'postgres' ? startPostgres({ durable: false }) : undefined;
}
