/**
 * The benchmark suite: all subjects side by side, in interleaved rounds. Writes docs/benchmarks.md and its charts, or, where MongoDB has
 * indexes, docs/benchmarks-indexes.md.
 *
 *   npm run bench                       # everything; about an hour
 *   npm run bench -- --quick            # what the goals need, under four minutes once the build has passed its guards
 *   MONGODB_URI=… npm run bench         # on your MongoDB (databases minibatch_bench_* are dropped)
 *   npm run bench -- --only 'drain 100' --subjects floor-mongo,ours-mongo --profile /tmp/profiles --no-docs
 *
 * `--bytes 1000` size of a message; `--rounds 5`; `--only` cases whose name begins so, several by semicolon; `--skip-guard` measures a build
 * without its fence and look tests, and the report says so; `--profile` a folder for V8 CPU profiles of the subjects' processes; `--server`
 * what the report calls the MongoDB of MONGODB_URI.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { evaluate } from './goals.mjs';
import { guard } from './lib/guard.mjs';
import { machine, versions } from './lib/machine.mjs';
import { Processes } from './lib/processes.mjs';
import { Progress } from './lib/progress.mjs';
import { Results, saveResults } from './lib/results.mjs';
import { runCase } from './lib/rounds.mjs';
import { bringUp, hasIndexes } from './lib/servers.mjs';
import { plan } from './plan.mjs';
import { writeReport } from './report/report.mjs';
import { subjectNamed, subjects as all } from './subjects/index.mjs';

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    bytes: { type: 'string', default: '200' },
    only: { type: 'string' },
    subjects: { type: 'string' },
    profile: { type: 'string' },
    'skip-guard': { type: 'boolean', default: false },
    'no-docs': { type: 'boolean', default: false },
    server: { type: 'string' },
  },
});
const rounds = Number(options.rounds ?? (options.quick ? 2 : 5));
const wanted = options.subjects ? options.subjects.split(',').map(subjectNamed) : all;
const progress = new Progress();
const checked = await guard({ skip: options['skip-guard'], progress });

const folder = await mkdtemp(join(tmpdir(), 'minibatch-bench-'));
const processes = new Processes({ profile: options.profile });
const brought = await bringUp(
  wanted.flatMap(({ needs }) => needs),
  (what) => progress.at(what),
);
const { addresses: servers, missing } = brought;
const subjects = wanted.filter(({ needs }) => needs.every((server) => server in servers));
const cases = plan({ quick: options.quick, bytes: Number(options.bytes), indexed: hasIndexes(servers) }).filter(
  ({ id }) => !options.only || options.only.split(';').some((start) => id.startsWith(start)),
);
for (const [name, reason] of Object.entries(missing)) progress.note(`${name} is missing: ${reason}`);

const began = performance.now();
const results = {
  at: new Date().toISOString(),
  quick: options.quick,
  only: options.only,
  rounds,
  guard: checked,
  machine: machine(),
  missing,
  servers: {},
};
results.servers = Object.fromEntries(
  Object.entries(servers).map(([name, { label, kind, supports }]) => [
    name,
    { label: kind === 'uri' ? (options.server ?? label) : label, kind, supports },
  ]),
);
results.versions = await versions(wanted.flatMap(({ packages }) => packages));
results.subjects = wanted.map(({ name, label, durability, needs, scale = 1, share }) => ({
  name,
  label,
  durability: typeof durability === 'function' ? durability(servers) : durability,
  missing: needs.filter((server) => server in missing),
  share: share ?? (typeof scale === 'function' ? 'fewer for small windows' : `${scale * 100} %`),
}));
results.cases = [];
try {
  for (const each of cases) {
    results.cases.push(await runCase(each, { processes, subjects, servers, folder, rounds, progress }));
  }
} finally {
  await brought.stop();
  await rm(folder, { recursive: true, force: true });
}
results.seconds = (performance.now() - began) / 1000;
await saveResults(results);
const goals = evaluate(new Results(results));
const met = goals.filter(({ met: verdict }) => verdict === 'yes').length;
const judged = goals.filter(({ met: verdict }) => verdict !== '').length;
if (!options['no-docs']) await writeReport(results, goals);
progress.note(`${met} of ${judged} goals met in this run; npm run bench:check prints them`);
