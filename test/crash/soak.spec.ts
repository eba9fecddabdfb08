import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type MongoServer, startMongo } from '../../scripts/servers/mongo/mongo.mjs';
import { describeSoak, soak } from './soak.js';

const SECONDS = 20;

describe('two replicas under random kills and store restarts, for a short while', () => {
  let server: MongoServer;
  beforeAll(async () => {
    server = await startMongo({ durable: true });
  });
  afterAll(() => server?.stop());

  it.each(['lmdb', 'mongo'] as const)('%s: lose nothing', { timeout: 240_000 }, async (store) => {
    const seed = Math.floor(Math.random() * 1e9);
    const lines: string[] = [`seed ${seed}`];
    const report = await soak({
      store,
      ...(store === 'mongo' ? { server } : {}),
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
