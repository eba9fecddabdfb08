import { copyFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MongoServer } from '../../scripts/servers/mongo/mongo.mjs';
import type { Verdict } from './checker.js';
import { CrashSite, Dice } from './scenario.js';
import type { Worker } from './worker-process.js';

const LEASE = 2_000;
const REPLICAS = 2;
/** Rows of a replica begin at a multiple of it. */
const RANGE = 1_000_000_000;
const GROUPS = ['first', 'second'];
/** Between two blocks of a replica. The test server reads all that it holds for each look, so there it is to hold little. Milliseconds. */
const PAUSES = { lmdb: 100, mongo: 250 };
const DEDUPE = 30_000;
/** What is left in the end is drained in this time; milliseconds. */
const LONGEST_DRAIN = 600_000;
/** One in this many rows is bad. */
const BAD_EVERY = 499;

export interface SoakOptions {
  readonly store: 'lmdb' | 'mongo';
  /** With MongoDB: one that keeps its data when it is killed. */
  readonly server?: MongoServer;
  readonly milliseconds: number;
  readonly seed: number;
  readonly tell?: (line: string) => void;
}

export interface SoakReport {
  readonly verdict: Verdict;
  /** What was done to the replicas, and to the store. */
  readonly done: ReadonlyMap<string, number>;
}

/**
 * Two replicas that append and consume at the same time, for a while, in which they are killed, stopped and woken, and ended in an
 * orderly way, at random; and in which the server of the store is killed and comes back. Then one process drains what is left.
 */
export async function soak(options: SoakOptions): Promise<SoakReport> {
  const { store, server, milliseconds, seed } = options;
  const site = new CrashSite({ store, ...(server ? { uri: server.uri } : {}) }, GROUPS);
  const dice = new Dice(seed);
  const end = performance.now() + milliseconds;
  const isOver = () => performance.now() >= end;
  const done = new Map<string, number>();
  const count = (what: string) => done.set(what, (done.get(what) ?? 0) + 1);
  const rest = (from: number, to: number) =>
    new Promise<void>((resolve) =>
      setTimeout(resolve, Math.max(0, Math.min(from + dice.next() * (to - from), end - performance.now()))),
    );

  const common = {
    badEvery: BAD_EVERY,
    leaseTime: LEASE,
    dedupeTime: DEDUPE,
    connection: { serverSelectionTimeoutMS: 1_000, connectTimeoutMS: 1_000 },
  };
  const start = (replica: number): Worker =>
    site.start({ ...common, from: nextRow(site, replica), endless: true, pause: PAUSES[store] });

  const replica = async (number: number): Promise<void> => {
    while (!isOver()) {
      const worker = start(number);
      if (await worker.saw('ready', 1, 30_000)) {
        while (!isOver()) {
          await rest(500, 5_000);
          const chance = dice.next();
          if (chance < 0.3) {
            count('replica stopped for a while');
            worker.signal('SIGSTOP');
            await rest(LEASE / 2, 2 * LEASE);
            worker.signal('SIGCONT');
            continue;
          }
          count(chance < 0.8 ? 'replica killed' : 'replica ended in an orderly way');
          worker.signal(chance < 0.8 ? 'SIGKILL' : 'SIGTERM');
          break;
        }
      } else count('replica not ready in time');
      if (isOver()) worker.signal('SIGTERM');
      await site.ended(worker);
    }
  };
  const restarts = async (): Promise<void> => {
    while (server && !isOver()) {
      await rest(4_000, 15_000);
      if (isOver()) return;
      count('store killed and restarted');
      await server.kill9();
      await rest(0, 2_000);
      await server.restart();
    }
  };

  try {
    await Promise.all([...Array.from({ length: REPLICAS }, (_, number) => replica(number)), restarts()]);
    const last = site.start({ ...common, final: true, from: 0, to: 0 });
    // It reports when nothing moves.
    await site.ended(last, LONGEST_DRAIN);
    for (const entry of site.entries()) {
      if (entry.kind !== 'appended') continue;
      for (const row of entry.rows) if (row % BAD_EVERY === BAD_EVERY - 1) site.bad.add(row);
    }
    const verdict = site.verdict();
    if (verdict.violations.length > 0) {
      const kept = join(tmpdir(), `minibatch-soak-${store}-${seed}.jsonl`);
      copyFileSync(site.log, kept);
      options.tell?.(`the log is ${kept}`);
    }
    return { verdict, done };
  } finally {
    await site.close();
  }
}

/** Behind the last one that was acknowledged: what was on its way is appended again. */
function nextRow(site: CrashSite, replica: number): number {
  let next = replica * RANGE;
  for (const entry of site.entries()) {
    if (entry.kind !== 'appended') continue;
    for (const row of entry.rows) if (Math.floor(row / RANGE) === replica) next = Math.max(next, row + 1);
  }
  return next;
}

/** The report as lines of text. */
export function describeSoak(store: string, seconds: number, { verdict, done }: SoakReport): string {
  const { appended, handled, repeated, deadLetters, lost, violations } = verdict;
  return [
    `${store}: ${seconds} s; appended ${appended}, handled ${handled}, repeated ${repeated}, dead letters ${deadLetters}, ` +
      `lost ${lost}, violations ${violations.length}`,
    ...[...done].map(([what, count]) => `  ${String(count).padStart(4)} × ${what}`),
    ...violations.slice(0, 50).map(({ kind, detail }) => `  ✗ ${kind}: ${detail}`),
  ].join('\n');
}
