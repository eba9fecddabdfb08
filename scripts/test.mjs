// What `npm test` runs: the build, the static checks, then the tests; see `main` at the end for the order.
//
//   npm test               everything, as CI does
//   npm test -- <args>     no static checks; the arguments go to Vitest: a part of a file's name, `-t <name>`, …
//
// The last line says `N passed, N failed, N skipped`, alone on its line, however the run ended. The numbers are tests;
// a static check counts as one, and so does a thing that broke outside of any test. The exit code is 0 only if something
// ran and nothing failed.
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';

/** Named scripts of package.json; the name in front is what the run calls the step. */
const CHECKS = [
  ['types', 'check:types'],
  ['lint', 'lint'],
  ['format', 'check:format'],
  ['deps', 'check:deps'],
];

const tally = {
  passed: 0,
  failed: 0,
  /** What failed outside of any test: each counts as one. @type {string[]} */
  broken: [],
  /** @type {string[]} */
  skipped: [],
};

/** @type {Set<import('node:child_process').ChildProcess>} */
const running = new Set();
let stopped = false;

/**
 * Runs a program to its end. Its output goes to ours at once, or is kept to be shown if it fails.
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ quiet: boolean }} options
 * @returns {Promise<{ problem: string | undefined, output: string }>} problem is undefined if it succeeded
 */
function run(command, args, { quiet }) {
  return new Promise((resolved) => {
    if (stopped) return resolved({ problem: 'was not started: the run was stopped', output: '' });
    const child = spawn(command, args, { stdio: ['ignore', quiet ? 'pipe' : 'inherit', quiet ? 'pipe' : 'inherit'] });
    let output = '';
    const keep = (text) => (output += text);
    child.stdout?.setEncoding('utf8').on('data', keep);
    child.stderr?.setEncoding('utf8').on('data', keep);
    const end = (problem) => {
      running.delete(child);
      resolved({ problem, output });
    };
    child.on('error', (error) => end(`could not be started: ${error.message}`));
    child.on('close', (code, signal) => {
      if (code === 0) end(undefined);
      else end(signal === null ? `exited with ${code}` : `was ended by ${signal}`);
    });
    running.add(child);
  });
}

/** Runs a script of package.json as a step: one line if it succeeds, its output if it does not, or if it is to be `told`. */
async function step(name, script, { told = false } = {}) {
  const begin = performance.now();
  const { problem, output } = await run('npm', ['run', '--silent', script], { quiet: true });
  const seconds = ((performance.now() - begin) / 1000).toFixed(1);
  if (problem === undefined) {
    console.log(`✓ ${name} (${seconds} s)${told ? `\n${output.trimEnd()}` : ''}`);
    return true;
  }
  console.log(`✗ ${name}: npm run ${script} ${problem} (${seconds} s)\n${output.trimEnd()}\n`);
  tally.broken.push(`${name}: npm run ${script} ${problem}`);
  return false;
}

/** Runs Vitest, streams what it says, and counts what its report says. */
async function tests(args) {
  const folder = await mkdtemp(join(tmpdir(), 'minibatch-report-'));
  try {
    const report = join(folder, 'report.json');
    const reporters = args.some((arg) => arg.startsWith('--reporter')) ? [] : ['--reporter=default'];
    const output = ['--reporter=json', `--outputFile.json=${report}`];
    const vitest = [resolve('node_modules/vitest/vitest.mjs'), 'run', ...reporters, ...output, ...args];
    const { problem } = await run(process.execPath, vitest, { quiet: false });
    const found = await readFile(report, 'utf8').then(JSON.parse, () => undefined);
    if (found === undefined) tally.broken.push(`Vitest left no report and ${problem ?? 'exited with 0'}`);
    else count(found, problem);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** @param {{ testResults: { name: string, status: string, message: string, assertionResults: { status: string, fullName: string }[] }[] }} report */
function count(report, problem) {
  const before = tally.failed + tally.broken.length;
  let ran = 0;
  for (const file of report.testResults) {
    const name = relative(process.cwd(), file.name);
    const failures = file.assertionResults.filter(({ status }) => status === 'failed').length;
    const passes = file.assertionResults.filter(({ status }) => status === 'passed').length;
    const others = file.assertionResults.filter(({ status }) => status !== 'passed' && status !== 'failed');
    tally.passed += passes;
    tally.failed += failures;
    tally.skipped.push(...others.map(({ fullName }) => `${name} > ${fullName}`));
    ran += passes + failures;
    // It could not be loaded, or a hook of it failed: none of its tests can say so.
    if (file.status === 'failed' && failures === 0) tally.broken.push(`${name} failed outside of its tests`);
  }
  const failed = tally.failed + tally.broken.length > before;
  if (problem !== undefined && !failed) tally.broken.push(`Vitest ${problem}, though no test failed`);
  else if (ran === 0 && !failed) tally.broken.push('no test ran');
}

function summary() {
  const lines = ['', ...tally.broken.map((what) => `✗ ${what}`)];
  if (process.env['CI'] === 'true') lines.push(...tally.skipped.map((name) => `- skipped: ${name}`));
  const failed = tally.failed + tally.broken.length;
  lines.push(`${tally.passed} passed, ${failed} failed, ${tally.skipped.length} skipped`);
  console.log(lines.join('\n'));
  process.exitCode = failed === 0 ? 0 : 1;
}

async function main(args) {
  // The tests import the package by its name, that is, as built. What a failed build left is tested all the same: how much
  // still works is worth knowing.
  await step('build', 'build');
  if (args.length === 0) {
    // Which servers the tests will use, and what they have to be fetched for. A missing one fails its tests, too, and says why.
    await step('servers', 'prepare:servers', { told: true });
    for (const [name, script] of CHECKS) {
      if (await step(name, script)) tally.passed += 1;
    }
  }
  await tests(args);
}

// Ctrl-C reaches what runs by itself, as all that the terminal started; another program's SIGTERM only this process.
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    stopped = true;
    if (signal === 'SIGTERM') for (const child of running) child.kill(signal);
  });
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  tally.broken.push(`the run itself: ${error instanceof Error ? error.stack : String(error)}`);
} finally {
  summary();
}
