import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import mongoose from 'mongoose';
import pg from 'pg';
import { check, type CrashEntry, readCrashLog, type Verdict } from './checker.js';
import { Worker } from './worker-process.js';

const SCRIPT = fileURLToPath(new URL('../fixtures/crash/fault-worker.mjs', import.meta.url));

/** Where a process can end by its own hand, and up to which time that it comes by: it comes by so often, nearly always. */
const OCCURRENCES = {
  'append: before': 4,
  'append: half': 4,
  'append: after': 4,
  fetch: 4,
  'claim: before': 3,
  'claim: half': 3,
  'claim: after': 3,
  handler: 8,
  'sink: before': 8,
  'sink: after': 8,
  'commit: before': 3,
  'commit: after': 3,
  'settle: before': 3,
  'settle: half': 3,
  'settle: after': 3,
  'recover: before': 1,
  'recover: after': 1,
  'reschedule: before': 6,
  'reschedule: after': 6,
  'bury: before': 1,
  'bury: after': 1,
  "recovery's settle: before": 1,
  "recovery's settle: half": 1,
  "recovery's settle: after": 1,
  "recovery's reschedule: before": 1,
  "recovery's reschedule: after": 1,
};

export type Step = keyof typeof OCCURRENCES;
export const STEPS = Object.keys(OCCURRENCES) as Step[];
/** A recovery has something to do if the process before ended just so; what it has not done, the next one has to. */
const CHAINS: readonly (readonly Step[])[] = [
  ['commit: after', "recovery's settle: before", "recovery's settle: half", "recovery's settle: after"],
  ['handler', "recovery's reschedule: before", "recovery's reschedule: after"],
];
/** Killed from outside, at any time. */
export const ANY_TIME = 'any time';

/** The named steps, each once; those that belong together follow each other. */
function inOrder(dice: Dice, atAnyTime: number): string[] {
  const chained = new Set<string>(CHAINS.flat());
  const single = [...STEPS.filter((step) => !chained.has(step)), ...Array<string>(atAnyTime).fill(ANY_TIME)];
  return dice.shuffled([...CHAINS, ...single.map((step) => [step])]).flat();
}

/** Rows that each process adds; one of them is bad. */
const CHUNK = 60;
/** A process that takes longer hangs; milliseconds. */
const LONGEST_RUN = 300_000;
/** Of the processes killed at any time: the latest moment after they are ready. */
const LATEST_KILL = 250;

export const CRASH_STORES = ['lmdb', 'mongo', 'postgres'] as const;
export type CrashStore = (typeof CRASH_STORES)[number];

export interface StoreChoice {
  readonly store: CrashStore;
  /** Of the server, if there is one. */
  readonly uri?: string;
}

/** Numbers from a seed: what has gone wrong can be repeated, as far as the machine goes along. */
export class Dice {
  constructor(private state: number) {}

  /** 0 ≤ n < 1 (mulberry32). */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  }

  /** 0 ≤ n < `below`. */
  below(below: number): number {
    return Math.floor(this.next() * below);
  }

  shuffled<T>(items: readonly T[]): T[] {
    const left = [...items];
    return items.map(() => left.splice(this.below(left.length), 1)[0] as T);
  }
}

let databases = 0;

/** Data of one scenario, and the processes that work on it. */
export class CrashSite {
  readonly bad = new Set<number>();
  private readonly folder = mkdtempSync(join(tmpdir(), 'minibatch-crash-'));
  private readonly workers = new Set<Worker>();
  private readonly database = `crash_${process.pid}_${Date.now().toString(36)}_${++databases}`;
  private readonly base: object;
  readonly log = join(this.folder, 'log.jsonl');

  constructor(
    private readonly choice: StoreChoice,
    private readonly groups = ['default'],
  ) {
    const { store, uri } = choice;
    this.base = {
      store,
      log: this.log,
      groups,
      ...(store === 'lmdb' ? { path: join(this.folder, 'store') } : { uri, db: this.database }),
    };
  }

  start(options: object): Worker {
    const worker = new Worker({ ...this.base, bad: [...this.bad], ...options }, SCRIPT);
    this.workers.add(worker);
    return worker;
  }

  /** The process to its end, whichever it is. */
  async ended(worker: Worker, longest = LONGEST_RUN): Promise<void> {
    let hangs = false;
    const timer = setTimeout(() => {
      hangs = true;
      worker.signal('SIGKILL');
    }, longest);
    try {
      await worker.exit();
    } finally {
      clearTimeout(timer);
      this.workers.delete(worker);
    }
    if (hangs) throw new Error(`a process did not end within ${longest} ms; it said: ${worker.output.join(', ')}`);
  }

  entries(): readonly CrashEntry[] {
    return readCrashLog(this.log);
  }

  verdict(): Verdict {
    return check(this.entries(), this.bad, this.groups);
  }

  /** Ends what still runs and removes the data. */
  async close(): Promise<void> {
    for (const worker of this.workers) {
      worker.signal('SIGCONT');
      await worker.kill();
    }
    rmSync(this.folder, { recursive: true, force: true });
    const { store, uri } = this.choice;
    if (store === 'lmdb' || uri === undefined) return;
    if (store === 'postgres') {
      const client = new pg.Client({ connectionString: uri });
      await client.connect();
      await client.query(`set client_min_messages = error; drop schema if exists ${this.database} cascade`);
      await client.end();
      return;
    }
    const connection = await mongoose.createConnection(uri, { dbName: this.database }).asPromise();
    await connection.dropDatabase();
    await connection.close();
  }
}

export interface ScenarioResult {
  readonly seed: number;
  readonly verdict: Verdict;
  /** Kills by step. */
  readonly kills: ReadonlyMap<string, number>;
  /** Process starts. */
  readonly processes: number;
}

/**
 * One set of data through all the steps in an order that the seed gives, each ending one process at a random occurrence of it; then
 * one process that replays everything and drains.
 */
export async function runScenario(choice: StoreChoice, seed: number, atAnyTime: number): Promise<ScenarioResult> {
  const dice = new Dice(seed);
  // Every other one with two consumers: then a commit marks messages before it removes them.
  const site = new CrashSite(choice, seed % 2 === 0 ? ['default'] : ['first', 'second']);
  let rows = 0;
  let processes = 0;
  /** Resolves with true if the process was killed. */
  const run = async (fault?: { readonly step: string; readonly nth: number }): Promise<boolean> => {
    processes += 1;
    site.bad.add(rows + dice.below(CHUNK));
    // What the process before was to add may not be there: it is replayed.
    const worker = site.start({ from: Math.max(0, rows - CHUNK), to: rows + CHUNK, fault });
    rows += CHUNK;
    if (!fault) {
      const moment = dice.next() * LATEST_KILL;
      if (await worker.saw('ready')) {
        await new Promise((resolve) => setTimeout(resolve, moment));
        worker.signal('SIGKILL');
      }
    }
    await site.ended(worker);
    return fault
      ? worker.output.includes('SIGKILL')
      : !worker.output.some((line) => line === 'drained' || line === 'stuck');
  };
  try {
    const kills = new Map<string, number>();
    const count = (step: string) => kills.set(step, (kills.get(step) ?? 0) + 1);
    for (const step of inOrder(dice, atAnyTime)) {
      if (step === ANY_TIME) {
        if (await run()) count(step);
        continue;
      }
      const nth = 1 + dice.below(OCCURRENCES[step as Step]);
      // It got through before: then the first one.
      if ((await run({ step, nth })) || (nth > 1 && (await run({ step, nth: 1 })))) count(step);
    }
    const last = site.start({ to: rows, final: true });
    processes += 1;
    await site.ended(last);
    const verdict = site.verdict();
    if (verdict.violations.length > 0) copyFileSync(site.log, keptLog(choice, seed));
    return { seed, verdict, kills, processes };
  } finally {
    await site.close();
  }
}

/** Where the log of a scenario with violations stays. */
function keptLog({ store }: StoreChoice, seed: number): string {
  return join(tmpdir(), `minibatch-crash-${store}-${seed}.jsonl`);
}

export interface SuiteReport {
  readonly store: string;
  readonly kills: ReadonlyMap<string, number>;
  readonly total: Omit<Verdict, 'violations'> & { readonly kills: number; readonly processes: number };
  /** With the seed of their scenario. */
  readonly violations: readonly string[];
  readonly milliseconds: number;
}

/**
 * Scenarios, `lanes` at a time, until there are enough kills, and every step has been hit often enough.
 * `done` is told of each scenario.
 */
export async function runSuite(
  choice: StoreChoice,
  {
    kills: wanted,
    each,
    seed,
    atAnyTime = 3,
    lanes = 2,
    done,
  }: {
    readonly kills: number;
    readonly each: number;
    readonly seed: number;
    /** Kills at any time in each scenario. */
    readonly atAnyTime?: number;
    /** Scenarios at a time. */
    readonly lanes?: number;
    readonly done?: (result: ScenarioResult) => void;
  },
): Promise<SuiteReport> {
  const begin = performance.now();
  const kills = new Map<string, number>([...STEPS, ANY_TIME].map((step) => [step, 0]));
  const total = { appended: 0, handled: 0, repeated: 0, deadLetters: 0, lost: 0, kills: 0, processes: 0 };
  const violations: string[] = [];
  const most = Math.max(each, Math.ceil(wanted / (STEPS.length + atAnyTime))) + 3;
  let scenarios = 0;
  const isEnough = () => total.kills >= wanted && STEPS.every((step) => (kills.get(step) ?? 0) >= each);
  const lane = async () => {
    while (!isEnough() && scenarios < most) {
      scenarios += 1;
      const own = seed + scenarios - 1;
      const result = await runScenario(choice, own, atAnyTime).catch((error: unknown) => {
        violations.push(`seed ${own}: ${error instanceof Error ? error.message : String(error)}`);
      });
      if (!result) continue;
      for (const [step, count] of result.kills) {
        kills.set(step, (kills.get(step) ?? 0) + count);
        total.kills += count;
      }
      total.processes += result.processes;
      const { verdict } = result;
      for (const key of ['appended', 'handled', 'repeated', 'deadLetters', 'lost'] as const) total[key] += verdict[key];
      violations.push(...verdict.violations.map(({ kind, detail }) => `seed ${own}: ${kind}: ${detail}`));
      if (verdict.violations.length > 0) violations.push(`seed ${own}: its log is ${keptLog(choice, own)}`);
      done?.(result);
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  for (const step of STEPS) {
    const hits = kills.get(step) ?? 0;
    if (hits < each) violations.push(`step '${step}' ended only ${hits} processes, of ${each}`);
  }
  if (total.kills < wanted) violations.push(`only ${total.kills} kills, of ${wanted}`);
  return { store: choice.store, kills, total, violations, milliseconds: performance.now() - begin };
}

/** The report as lines of text. */
export function describeReport({ store, kills, total, violations, milliseconds }: SuiteReport): string {
  const width = Math.max(...[...kills.keys()].map(({ length }) => length));
  return [
    `${store}: ${total.kills} kills of ${total.processes} processes in ${Math.round(milliseconds / 1000)} s`,
    `  appended ${total.appended}, handled ${total.handled}, repeated ${total.repeated}, ` +
      `dead letters ${total.deadLetters}, lost ${total.lost}, violations ${violations.length}`,
    ...[...kills].map(([step, count]) => `  ${step.padEnd(width)} ${String(count).padStart(4)}`),
    ...violations.slice(0, 50).map((violation) => `  ✗ ${violation}`),
  ].join('\n');
}
