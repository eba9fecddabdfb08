import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const WORKER = fileURLToPath(new URL('../worker.mjs', import.meta.url));
/** Longest run. */
const LIMIT = 300_000;

/** The processes in which the subjects run: one for each run, which leaves nothing to the next. */
export class Processes {
  /** @param {{ profile?: string }} options `profile`: a folder for V8's CPU profiles */
  constructor({ profile } = {}) {
    this.execArgv = ['--expose-gc', ...(profile ? ['--cpu-prof', `--cpu-prof-dir=${profile}`] : [])];
  }

  async run(order) {
    const child = fork(WORKER, { execArgv: this.execArgv, stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    try {
      return await ask(child, order);
    } finally {
      await end(child);
    }
  }
}

function ask(child, order) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => settle(reject)(new Error(`not done after ${LIMIT / 1000} s`)), LIMIT);
    const settle = (how) => (value) => {
      clearTimeout(timer);
      child.off('message', answered).off('exit', ended);
      how(value);
    };
    const answered = ({ result, error }) => (error ? settle(reject)(new Error(error)) : settle(resolve)(result));
    const ended = (code, signal) => settle(reject)(new Error(`its process ended with ${code ?? signal}`));
    child.on('message', answered).on('exit', ended);
    child.send(order);
  });
}

async function end(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  // A profile is written at a proper end only.
  if (child.connected) child.disconnect();
  const timer = setTimeout(() => child.kill('SIGKILL'), 10_000);
  await exited;
  clearTimeout(timer);
}
