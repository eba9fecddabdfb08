import { copyFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Verdict } from './checker.js';
import { CrashSite, type CrashStore, Dice } from './scenario.js';
import type { Worker } from './worker-process.js';

const LEASE = 2_000;
const REPLICAS = 2;
/** Rows of a replica begin at a multiple of it. */
const RANGE = 1_000_000_000;
const GROUPS = ['first', 'second'];
/** Between two blocks of a replica. The test server reads all that it holds for each query, so there it should hold little. Milliseconds. */
const PAUSES = { lmdb: 100, mongo: 250, postgres: 100 };
const DEDUPE = 30_000;
/** In which a replica has to be ready; milliseconds. */
const READY = 30_000;
/** What is left in the end is drained in this time; milliseconds. */
const LONGEST_DRAIN = 600_000;
/** One in this many rows is bad. */
const BAD_EVERY = 499;
const WORKER = {
  badEvery: BAD_EVERY,
  leaseTime: LEASE,
  dedupeTime: DEDUPE,
  connection: { serverSelectionTimeoutMS: 1_000, connectTimeoutMS: 1_000 },
};

export interface SoakOptions {
  readonly store: CrashStore;
  /** With a server: one that keeps its data when it is killed. */
  readonly server?: { readonly uri: string; kill9(): Promise<void>; restart(): Promise<void> };
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
  const { store, server, seed } = options;
  const site = new CrashSite({ store, ...(server ? { uri: server.uri } : {}) }, GROUPS);
  try {
    const disturbance = new Disturbance(site, options);
    await Promise.all([
      ...Array.from({ length: REPLICAS }, (_, replica) => disturbance.ofReplica(replica)),
      ...(server ? [disturbance.ofServer(server)] : []),
    ]);
    await drain(site);
    const verdict = site.verdict();
    if (verdict.violations.length > 0) {
      const kept = join(tmpdir(), `minibatch-soak-${store}-${seed}.jsonl`);
      copyFileSync(site.log, kept);
      options.tell?.(`the log is ${kept}`);
    }
    await site.close();
    return { verdict, done: disturbance.done };
  } catch (error) {
    // The server may be away: what went wrong first is what counts.
    await site.close().catch(() => undefined);
    throw error;
  }
}

/** What happens to the replicas and to the server until the time is over. */
class Disturbance {
  readonly done = new Map<string, number>();
  private readonly dice: Dice;
  /** Counted from when the first replica was ready, which takes a slow machine long. */
  private end = Infinity;
  private begin!: () => void;
  private readonly begun = new Promise<void>((resolve) => (this.begin = resolve));

  constructor(
    private readonly site: CrashSite,
    private readonly options: SoakOptions,
  ) {
    this.dice = new Dice(options.seed);
  }

  /** Starts the replica again each time that it has ended. */
  async ofReplica(replica: number): Promise<void> {
    const pause = PAUSES[this.options.store];
    while (!this.isOver()) {
      const worker = this.site.start({ ...WORKER, from: nextRow(this.site, replica), endless: true, pause });
      const isReady = await worker.saw('ready', 1, READY);
      if (isReady) {
        if (this.end === Infinity) this.end = performance.now() + this.options.milliseconds;
        this.begin();
        await this.untilItEnds(worker);
      }
      // Else it has ended, or the machine is too slow for it: one that becomes ready after all would never end.
      else worker.signal('SIGKILL');
      if (this.isOver()) worker.signal('SIGTERM');
      try {
        await this.site.ended(worker);
        if (!isReady) this.count('replica killed because it was not ready in time');
      } catch (error) {
        // It gives up when the server takes longer to come back than a store waits. Whoever runs replicas starts them again.
        if (isReady || !String(error).includes('MINIBATCH_STORE_UNAVAILABLE')) throw error;
        this.count('replica ended before it was ready: the store was away');
      }
    }
  }

  async ofServer(server: NonNullable<SoakOptions['server']>): Promise<void> {
    await this.begun;
    while (!this.isOver()) {
      await this.rest(4_000, 15_000);
      if (this.isOver()) return;
      this.count('store killed and restarted');
      await server.kill9();
      await this.rest(0, 2_000);
      await server.restart();
    }
  }

  private async untilItEnds(worker: Worker): Promise<void> {
    while (!this.isOver()) {
      await this.rest(500, 5_000);
      const chance = this.dice.next();
      if (chance >= 0.3) {
        this.count(chance < 0.8 ? 'replica killed' : 'replica ended in an orderly way');
        worker.signal(chance < 0.8 ? 'SIGKILL' : 'SIGTERM');
        return;
      }
      this.count('replica stopped for a while');
      worker.signal('SIGSTOP');
      await this.rest(LEASE / 2, 2 * LEASE);
      worker.signal('SIGCONT');
    }
  }

  private isOver(): boolean {
    return performance.now() >= this.end;
  }

  private count(what: string): void {
    this.done.set(what, (this.done.get(what) ?? 0) + 1);
  }

  private rest(from: number, to: number): Promise<void> {
    const time = Math.min(from + this.dice.next() * (to - from), this.end - performance.now());
    return new Promise((resolve) => setTimeout(resolve, Math.max(0, time)));
  }
}

/** Handles what is left, and notes the bad rows among those that were appended. */
async function drain(site: CrashSite): Promise<void> {
  const last = site.start({ ...WORKER, final: true, from: 0, to: 0 });
  // It reports when nothing moves.
  await site.ended(last, LONGEST_DRAIN);
  for (const entry of site.entries()) {
    if (entry.kind !== 'appended') continue;
    for (const row of entry.rows) if (row % BAD_EVERY === BAD_EVERY - 1) site.bad.add(row);
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
