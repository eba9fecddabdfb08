import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import prettier from 'prettier';
import { hasIndexes } from '../lib/servers.mjs';
import { charts } from './charts.mjs';
import { caseTables } from './tables.mjs';
import { table } from './markdown.mjs';

const DOCS = fileURLToPath(new URL('../../docs/', import.meta.url));

/** docs/benchmarks.md and its charts; of a run on a MongoDB with indexes docs/benchmarks-indexes.md. */
export async function writeReport(results, goals) {
  await mkdir(DOCS, { recursive: true });
  const name = hasIndexes(results.servers) ? 'benchmarks-indexes' : 'benchmarks';
  const pictures = charts(results, name);
  for (const { file, svg } of pictures) await writeFile(join(DOCS, file), svg);
  const text = [
    head(results),
    subjectsOf(results),
    goalsOf(goals),
    ...caseTables(results, pictures),
    foot(results),
  ].join('\n\n');
  const file = join(DOCS, `${name}.md`);
  const style = await prettier.resolveConfig(file);
  await writeFile(file, await prettier.format(text, { ...style, parser: 'markdown' }));
}

function head({ at, quick, rounds, only, guard, machine, seconds, servers, missing }) {
  const command = servers.mongo?.kind === 'uri' ? 'MONGODB_URI=… npm run bench' : 'npm run bench';
  const flags = [quick && '--quick', only && `--only '${only}'`].filter(Boolean).join(' ');
  const kind = `\`${command}${flags && ` -- ${flags}`}\`${quick ? ': short runs, good for ratios at best' : ''}`;
  return [
    hasIndexes(servers) ? '# Benchmarks on a MongoDB with indexes' : '# Benchmarks',
    `Written by ${kind}, on ${at.slice(0, 10)}, in ${(seconds / 60).toFixed(0)} minutes. All subjects run side by side on one machine, in ${rounds} interleaved rounds unless a table says otherwise; figures are medians with min–max. Each message is counted: a run that lost one does not count, and what was lost or repeated is in the tables. ${guard}`,
    table(
      ['Machine', ''],
      [
        ['CPU', machine.cpu],
        ['Memory', machine.memory],
        ['System', `${machine.system}, Node ${machine.node}`],
        ['Load at the start', `${machine.load} (1 minute; on a quiet machine it is below 1)`],
      ],
    ),
    ...Object.entries(missing).map(
      ([name, reason]) => `**Missing: ${name}.** What needs it was not measured: ${reason}`,
    ),
  ].join('\n\n');
}

function subjectsOf({ subjects, servers, versions }) {
  const rows = subjects.map(({ label, durability, share, missing }) => [
    label,
    missing.length > 0 ? `not measured: ${missing.join(', ')} missing` : durability,
    share,
  ]);
  const list = Object.entries(versions).map(([name, version]) => `${name} ${version}`);
  const programs = Object.values(servers).map(({ label }) => label.replace(/ \(\/.*$/, ''));
  return [
    '## Subjects',
    'What a figure is worth depends on when a message counts as appended. The share is that of the messages of a run which a slow subject gets, so that the run ends; rates are comparable all the same.',
    table(['Subject', 'An append resolves when it is', 'Messages'], rows),
    `Versions: ${list.join(', ')}. Servers: ${[...new Set(programs)].join(', ')}.`,
  ].join('\n\n');
}

function goalsOf(goals) {
  return [
    '## Goals',
    'Ratios within this run; `npm run bench:check` prints them.',
    table(
      ['Figure', 'Goal', 'Measured', 'Met'],
      goals.map(({ text, goal, measured, met }) => [text, goal, measured, met]),
    ),
  ].join('\n\n');
}

function foot({ cases, subjects }) {
  const failed = cases.flatMap(({ id, results }) =>
    subjects.flatMap(({ name, label }) =>
      (results[name]?.failed ?? []).map((reason) => `- ${id}: ${label}: ${reason}`),
    ),
  );
  return failed.length === 0 ? 'No run failed.' : ['## Runs that failed', failed.join('\n')].join('\n\n');
}
