import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { counted } from './rounds.mjs';
import { median } from './stats.mjs';

/** Of the last run; docs/benchmarks.md is what is kept. */
const LAST = fileURLToPath(new URL('../.results/last.json', import.meta.url));

export async function saveResults(results) {
  await mkdir(dirname(LAST), { recursive: true });
  await writeFile(LAST, JSON.stringify(results, undefined, 1));
}

export async function lastResults() {
  return readFile(LAST, 'utf8').then(JSON.parse, () => undefined);
}

/** Questions to a run's results. */
export class Results {
  constructor({ cases, servers }) {
    this.cases = new Map(cases.map((each) => [each.id, each]));
    this.servers = servers;
  }

  runs(id, subject) {
    return counted(this.cases.get(id)?.results[subject]);
  }

  /** Median of what `of` takes from each counted run. */
  value(id, subject, of) {
    return median(this.runs(id, subject).map(of));
  }

  /** Median over the rounds in which both count: what disturbs one mostly disturbs both. */
  ratio(id, subject, floor, of = ({ rate }) => rate) {
    return this.compare(id, subject, floor, (a, b) => of(a) / of(b));
  }

  compare(id, subject, other, by) {
    const others = new Map(this.runs(id, other).map((run) => [run.round, run]));
    const both = this.runs(id, subject).filter(({ round }) => others.has(round));
    return median(both.map((run) => by(run, others.get(run.round))));
  }
}
