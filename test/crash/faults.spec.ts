import { describe, expect, inject, it } from 'vitest';
import { ANY_TIME, describeReport, runSuite, STEPS } from './scenario.js';

/** The short form; `npm run test:crash` is the long one. */
describe.concurrent('kill -9 at each named step', () => {
  for (const [name, store, uri] of [
    ['lmdb', 'lmdb', ''],
    ['mongo', 'mongo', inject('mongoUri')],
    ['postgres', 'postgres', inject('postgresUrl')],
    ['mongo, a replica set', 'mongo', inject('replicaSetUri')],
  ] as const) {
    it(`loses nothing and commits nothing twice: ${name}`, { timeout: 600_000 }, async ({ expect: expectHere }) => {
      const seed = Number(process.env['CRASH_SEED'] ?? Math.floor(Math.random() * 1e9));
      const report = await runSuite({ store, uri }, { kills: STEPS.length, each: 1, atAnyTime: 1, lanes: 1, seed });
      console.log(`seed ${seed} (repeat with CRASH_SEED)\n${describeReport(report)}`);
      expectHere(report.violations).toEqual([]);
      for (const step of STEPS) expectHere(report.kills.get(step), step).toBeGreaterThanOrEqual(1);
    });
  }
});

describe('the report', () => {
  it('names each step, the store and the seed of what went wrong', () => {
    const text = describeReport({
      store: 'lmdb',
      kills: new Map([...STEPS, ANY_TIME].map((step) => [step, 7])),
      total: { appended: 10, handled: 9, repeated: 2, deadLetters: 1, lost: 1, kills: 140, processes: 150 },
      violations: ['seed 5: lost: row 3: neither committed nor a dead letter'],
      milliseconds: 61_000,
    });
    expect(text).toContain('lmdb: 140 kills of 150 processes in 61 s');
    expect(text).toContain('appended 10, handled 9, repeated 2, dead letters 1, lost 1, violations 1');
    for (const step of STEPS) expect(text).toMatch(new RegExp(`^ {2}${step} +7$`, 'm'));
    expect(text).toContain('✗ seed 5: lost: row 3');
  });
});
