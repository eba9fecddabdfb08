// A setup file of Vitest: ends a test that keeps the event loop to itself, and says which.
//
// Vitest's own limits are timers of the process that runs the test. A loop that never waits, or that waits for promises
// alone, starves them, and the run would never end. A thread watches from outside. It ends the process; Vitest
// counts that as an error and continues with the other files.
import { relative } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, expect } from 'vitest';

/** Seconds without a turn of the event loop. */
const limit = Number(process.env['MINIBATCH_STUCK_AFTER'] ?? 120);
const STEP = 250;

const beats = new Int32Array(new SharedArrayBuffer(4));
const file = relative(process.cwd(), expect.getState().testPath ?? 'a test file');
const thread = new Worker(new URL('stuck-test.thread.mjs', import.meta.url), {
  workerData: { beats, file, limit, step: STEP, log: process.env['MINIBATCH_STUCK_LOG'] },
  execArgv: [],
});
thread.unref();
setInterval(() => Atomics.add(beats, 0, 1), STEP).unref();

/** @param {import('vitest').RunnerTask | import('vitest').RunnerTestSuite | undefined} task @returns {string} */
function nameOf(task) {
  if (task === undefined) return '';
  const parent = nameOf(task.suite);
  return parent === '' ? task.name : `${parent} > ${task.name}`;
}

beforeEach(({ task }) => thread.postMessage(nameOf(task)));
afterEach(() => thread.postMessage(undefined));
