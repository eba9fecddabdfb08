// What `npm test` runs: the build, the static checks, then the tests; see `main` at the end for the order.
//
//   npm test               everything, as CI does
//   npm test -- <args>     no static checks; the arguments go to Vitest: a part of a file's name, `-t <name>`, …
//   npm test -- --only unit  about a minute, with nothing but Node: no servers, no build, no static checks
//
// What needs a server that this machine does not have and cannot install without a question is left out, by name, with how to
// get it. With CI=true it fails.
//
// The last line says `N passed, N failed, N skipped`, alone on its line, however the run ended. The numbers are tests;
// a static check counts as one, and so does a thing that broke outside of any test. The exit code is 0 only if something
// ran and nothing failed.
//
// Results are printed and recorded as they come, so a run that is cut counts what ended until then and names what was running.
//
// Nothing blocks the run indefinitely. A test that keeps the event loop to itself is ended after two minutes, and named, by
// test/support/stuck-test.mjs; all others have a time limit of Vitest's. Should Vitest itself not come to its end, it is
// ended after MINIBATCH_TEST_MINUTES.
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Named scripts of package.json; the name in front is what the run calls the step. */
const CHECKS = [
  ['types', 'check:types'],
  ['lint', 'lint'],
  ['format', 'check:format'],
  ['deps', 'check:deps'],
];

const RECORDS_RESULTS = fileURLToPath(new URL('results.reporter.mjs', import.meta.url));
/** What is left out of the tests, by option of `--only`, as variables of Vitest's configuration. */
const ONLY = { unit: { MINIBATCH_ONLY: 'unit' } };
/** Longest run of Vitest; CI gives the whole of it 90 minutes. */
const MINUTES = Number(process.env['MINIBATCH_TEST_MINUTES'] ?? 70);

const tally = {
  passed: 0,
  failed: 0,
  /** What failed outside of any test: each counts as one. @type {string[]} */
  broken: [],
  /** @type {string[]} */
  skipped: [],
  /** Tests of servers that are missing, and how to get these. @type {Map<string, { how: string, tests: number }>} */
  leftOut: new Map(),
};

/** Where the installations that failed are remembered, so that none is tried twice. */
const attempts = await mkdtemp(join(tmpdir(), 'minibatch-attempts-'));

/** @type {Set<import('node:child_process').ChildProcess>} */
const running = new Set();
let stopped = false;

/**
 * Runs a program to its end. Its output goes to ours at once, or is kept to be shown if it fails. With a limit (in
 * milliseconds), it and all it started are killed after so long.
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ quiet: boolean, limit?: number, env?: NodeJS.ProcessEnv }} options
 * @returns {Promise<{ problem: string | undefined, output: string }>} problem is undefined if it succeeded
 */
function run(command, args, { quiet, limit, env }) {
  return new Promise((resolved) => {
    if (stopped) return resolved({ problem: 'was not started: the run was stopped', output: '' });
    const shown = quiet ? 'pipe' : 'inherit';
    // A process group of its own, so that what it started can be killed with it.
    const child = spawn(command, args, {
      stdio: ['ignore', shown, shown],
      detached: true,
      env: { ...process.env, MINIBATCH_ATTEMPTS: attempts, ...env },
    });
    let isOver = false;
    const timer =
      limit === undefined
        ? undefined
        : setTimeout(() => {
            isOver = true;
            signalGroup(child, 'SIGKILL');
          }, limit);
    let output = '';
    const keep = (text) => (output += text);
    child.stdout?.setEncoding('utf8').on('data', keep);
    child.stderr?.setEncoding('utf8').on('data', keep);
    const end = (problem) => {
      clearTimeout(timer);
      running.delete(child);
      resolved({ problem, output });
    };
    child.on('error', (error) => end(`could not be started: ${error.message}`));
    child.on('close', (code, signal) => {
      // What it started may not notice that it was killed.
      if (signal !== null) signalGroup(child, 'SIGKILL');
      if (isOver) end(`was not through after ${limit / 60_000} min and was killed`);
      else if (code === 0) end(undefined);
      else end(signal === null ? `exited with ${code}` : `was ended by ${signal}`);
    });
    running.add(child);
  });
}

/** @param {import('node:child_process').ChildProcess} child @param {NodeJS.Signals} signal */
function signalGroup(child, signal) {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, signal);
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}

/** Runs a script of package.json as a step: one line if it succeeds, its output if it does not; or all it says, as it says it. */
async function step(name, script, { quiet = true } = {}) {
  const begin = performance.now();
  if (!quiet) console.log(`  ${name}:`);
  const { problem, output } = await run(...npm('run', '--silent', script), { quiet });
  const seconds = ((performance.now() - begin) / 1000).toFixed(1);
  if (problem === undefined) {
    console.log(`✓ ${name} (${seconds} s)`);
    return true;
  }
  console.log(`✗ ${name}: npm run ${script} ${problem} (${seconds} s)\n${output.trimEnd()}\n`);
  tally.broken.push(`${name}: npm run ${script} ${problem}`);
  return false;
}

/** npm as it runs this script; what is on PATH is no program on Windows. @param {readonly string[]} args */
function npm(...args) {
  const cli = process.env['npm_execpath'];
  return cli?.endsWith('.js') ? [process.execPath, [cli, ...args]] : ['npm', args];
}

/** Runs Vitest, streams what it says, and counts what its reporter has recorded. */
async function tests(args, settings = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'minibatch-report-'));
  try {
    const results = join(folder, 'results.log');
    const stuck = join(folder, 'stuck.log');
    const leftOut = join(folder, 'left-out.log');
    const reporters = args.some((arg) => arg.startsWith('--reporter')) ? [] : ['--reporter=default'];
    const vitest = [resolve('node_modules/vitest/vitest.mjs'), 'run', ...reporters, `--reporter=${RECORDS_RESULTS}`];
    // Vitest colours what it writes to a file, too.
    const plain = process.stdout.isTTY || 'FORCE_COLOR' in process.env ? [] : ['--no-color'];
    const { problem } = await run(process.execPath, [...vitest, ...plain, ...args], {
      quiet: false,
      limit: MINUTES * 60_000,
      env: {
        MINIBATCH_BUILT: 'true',
        MINIBATCH_LEFT_OUT: leftOut,
        MINIBATCH_RESULTS: results,
        MINIBATCH_STUCK_LOG: stuck,
        ...settings,
      },
    });
    const read = (file) => readFile(file, 'utf8').then(linesOf, () => []);
    countLeftOut(await read(leftOut));
    const named = await read(stuck);
    tally.broken.push(...named);
    count(facts(await read(results)), { problem, isExplained: named.length > 0 });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** @param {string} text */
function linesOf(text) {
  return text.split('\n').filter((line) => line !== '');
}

/** @param {readonly string[]} lines JSON for each suite or test, see test/support/runner.ts */
function countLeftOut(lines) {
  for (const line of lines) {
    const { server, how, tests: count } = JSON.parse(line);
    tally.leftOut.set(server, { how, tests: (tally.leftOut.get(server)?.tests ?? 0) + count });
  }
}

/** What the reporter has recorded. @param {readonly string[]} lines see results.reporter.mjs */
function facts(lines) {
  /** By the id of a file. @type {Map<string, string>} */
  const begun = new Map();
  /** @type {{ file: string, passed: number, failed: number, skipped: string[], isBroken: boolean }[]} */
  const files = [];
  let isOver = false;
  for (const line of lines) {
    const fact = JSON.parse(line);
    if (fact.isOver) isOver = true;
    else if (fact.file === undefined) begun.set(fact.id, fact.running);
    else {
      begun.delete(fact.id);
      files.push(fact);
    }
  }
  return { files, running: [...begun.values()], isOver };
}

/** @param {ReturnType<typeof facts>} found @param {{ problem: string | undefined, isExplained: boolean }} end */
function count({ files, running, isOver }, { problem, isExplained }) {
  const before = tally.failed + tally.broken.length;
  let ran = 0;
  for (const { file, passed, failed, skipped, isBroken } of files) {
    tally.passed += passed;
    tally.failed += failed;
    tally.skipped.push(...skipped.map((name) => `${file} > ${name}`));
    ran += passed + failed;
    if (isBroken) tally.broken.push(`${file} failed outside of its tests`);
  }
  if (!isOver) {
    tally.broken.push(`Vitest ${problem ?? 'exited with 0'} before the last test`);
    tally.broken.push(...running.map((test) => `${test} was running then`));
    return;
  }
  const failed = tally.failed + tally.broken.length > before;
  if (problem !== undefined && !failed && !isExplained) tally.broken.push(`Vitest ${problem}, though no test failed`);
  else if (ran === 0 && !failed) tally.broken.push('no test ran');
}

function summary() {
  const lines = ['', ...tally.broken.map((what) => `✗ ${what}`)];
  if (process.env['CI'] === 'true') lines.push(...tally.skipped.map((name) => `- skipped: ${name}`));
  for (const [server, { how, tests: count }] of tally.leftOut) {
    lines.push(`- left out: ${count} tests, for ${server} is missing: ${how}`);
  }
  const failed = tally.failed + tally.broken.length;
  lines.push(`${tally.passed} passed, ${failed} failed, ${tally.skipped.length} skipped`);
  console.log(lines.join('\n'));
  process.exitCode = failed === 0 ? 0 : 1;
}

async function main(args) {
  const only = args.indexOf('--only');
  if (only !== -1) {
    const settings = ONLY[args[only + 1]];
    if (settings === undefined) throw new Error(`--only takes one of: ${Object.keys(ONLY).join(', ')}`);
    return tests(args.toSpliced(only, 2), settings);
  }
  // Tests import the sources, but what they start as a process of its own, compile or pack is the package as built. What a
  // failed build left is tested all the same: how much still works is worth knowing.
  await step('build', 'build');
  if (args.length === 0) {
    // Which servers the tests will use, and what has to be fetched for them. It may take minutes, so it speaks at once.
    await step('servers', 'prepare:servers', { quiet: false });
    for (const [name, script] of CHECKS) {
      if (await step(name, script)) tally.passed += 1;
    }
  }
  await tests(args);
}

// What the terminal sends, as Ctrl-C, goes to all that runs; another program's SIGTERM to what this one started.
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    stopped = true;
    for (const child of running) {
      if (signal === 'SIGINT') signalGroup(child, signal);
      else child.kill(signal);
    }
  });
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  tally.broken.push(`the run itself: ${error instanceof Error ? error.stack : String(error)}`);
} finally {
  await rm(attempts, { recursive: true, force: true });
  summary();
}
