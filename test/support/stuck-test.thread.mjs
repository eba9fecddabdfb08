// The thread of stuck-test.mjs.
import { appendFileSync, writeSync } from 'node:fs';
import { Session } from 'node:inspector';
import { parentPort, workerData } from 'node:worker_threads';

/** @type {{ beats: Int32Array, file: string, limit: number, step: number, log: string | undefined }} */
const { beats, file, limit, step, log } = workerData;
/** What is stuck in a loop has spent this share of the time computing. On a busy machine one that is not stuck may have got less. */
const COMPUTING = 1 / 2;
/** This many times the limit is too long in any case: it may be blocked without computing anything. */
const AT_MOST = 5;
/** Longest wait for the place where the main thread is. */
const PAUSE = 5_000;

/** @type {string | undefined} */
let test;
let last = -1;
let still = 0;
let usage = process.cpuUsage();

parentPort?.on('message', (name) => (test = name));

// Steps are counted, not time: while the whole process is stopped, nothing of it is stuck.
const timer = setInterval(() => {
  const beat = Atomics.load(beats, 0);
  if (beat !== last) {
    still = 0;
    usage = process.cpuUsage();
  } else still += 1;
  last = beat;
  const stood = still * step;
  const most = limit * 1000;
  if (stood < most) return;
  const { user, system } = process.cpuUsage(usage);
  if ((user + system) / 1000 < most * COMPUTING && stood < most * AT_MOST) return;
  clearInterval(timer);
  void where().then(end);
}, step);

/** @param {string} stack */
function end(stack) {
  const what = `${file} > ${test ?? '(outside of its tests)'}`;
  const line = `${what} is stuck: the event loop has not turned for ${limit} s, so no time limit could end it`;
  writeSync(2, `\n✗ ${line}\n${stack}\n`);
  if (log !== undefined) appendFileSync(log, `${line}\n`);
  process.kill(process.pid, 'SIGKILL');
}

/** Where the main thread is, as far as it can be had. @returns {Promise<string>} */
function where() {
  return new Promise((resolve) => {
    setTimeout(() => resolve('    (the place could not be found out)'), PAUSE);
    const session = new Session();
    session.connectToMainThread();
    /** @type {Map<string, string>} */
    const urls = new Map();
    session.on('Debugger.scriptParsed', ({ params }) => urls.set(params.scriptId, params.url));
    session.on('Debugger.paused', ({ params }) => {
      const frames = params.callFrames.slice(0, 12);
      const lines = frames.map(({ functionName, location }) =>
        frame(functionName, urls.get(location.scriptId) ?? '', location),
      );
      resolve(lines.join('\n'));
    });
    session.post('Debugger.enable');
    session.post('Debugger.pause');
  });
}

/**
 * @param {string} name
 * @param {string} url
 * @param {import('node:inspector').Debugger.Location} location
 */
function frame(name, url, { lineNumber, columnNumber = 0 }) {
  return `    at ${name || '(anonymous)'} (${url}:${lineNumber + 1}:${columnNumber + 1})`;
}
