/**
 * Prints each goal with what the last run of `npm run bench` measured, and exits with 1 if one that was measured is not met. Without a
 * last run, or with `--run`, it makes a quick one first.
 *
 *   npm run bench:check
 *   npm run bench:check -- --run
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { evaluate } from './goals.mjs';
import { lastResults, Results } from './lib/results.mjs';

const RUN = fileURLToPath(new URL('run.mjs', import.meta.url));

const wanted = process.argv.includes('--run');
if (wanted || !(await lastResults())) {
  const { status } = spawnSync(process.execPath, [RUN, '--quick', '--no-docs'], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  if (status !== 0) process.exit(status ?? 1);
}
const last = await lastResults();
console.log(`run of ${last.at}${last.quick ? ', quick' : ''}\n`);
const rows = evaluate(new Results(last));
const widest = Math.max(...rows.map(({ text }) => text.length));
for (const { text, goal, measured, met } of rows) {
  const verdict = { yes: 'met', no: 'NOT MET', '': '' }[met];
  console.log(`${text.padEnd(widest)}  ${goal.padStart(8)}  ${measured.padStart(12)}  ${verdict}`);
}
process.exitCode = rows.some(({ met }) => met === 'no') ? 1 : 0;
