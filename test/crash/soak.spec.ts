import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type MongoServer, startMongo } from '../../scripts/servers/mongo/mongo.mjs';
import { startPostgres } from '../../scripts/servers/postgres/postgres.mjs';
import { CRASH_STORES, type CrashStore } from './scenario.js';
import { describeSoak, soak } from './soak.js';

const SECONDS = 20;

describe('two replicas under random kills and store restarts, for a short while', () => {
  let mongo: MongoServer;
  let postgres: Awaited<ReturnType<typeof startPostgres>>;
  beforeAll(async () => {
    [mongo, postgres] = await Promise.all([startMongo({ durable: true }), startPostgres()]);
  });
  afterAll(() => Promise.all([mongo?.stop(), postgres?.stop()]));
  const serverOf = (store: CrashStore) => {
    if (store === 'mongo') return { server: mongo };
    return store === 'postgres' ? { server: withUri(postgres) } : {};
  };

  it.each(CRASH_STORES)('%s: lose nothing', { timeout: 240_000 }, async (store) => {
    const seed = Math.floor(Math.random() * 1e9);
    const lines: string[] = [`seed ${seed}`];
    const report = await soak({
      store,
      ...serverOf(store),
      milliseconds: SECONDS * 1_000,
      seed,
      tell: (line) => lines.push(line),
    });
    console.log(describeSoak(store, SECONDS, report));
    expect(report.verdict.violations, lines.join('; ')).toEqual([]);
    expect(report.verdict.lost).toBe(0);
    // How many depends on the machine.
    expect(report.verdict.appended).toBeGreaterThan(0);
    expect([...report.done.values()].reduce((sum, count) => sum + count, 0)).toBeGreaterThan(0);
  });
});

function withUri(server: Awaited<ReturnType<typeof startPostgres>>) {
  return { uri: server.url, kill9: () => server.kill9(), restart: () => server.restart() };
}
