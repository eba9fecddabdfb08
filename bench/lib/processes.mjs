import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const WORKER = fileURLToPath(new URL('../worker.mjs', import.meta.url));
/** Longest run. */
const LIMIT = 300_000;

/** The processes in which the subjects run: one each, kept warm, or a fresh one for what asks for it. */
export class Processes {
  kept = new Map();

  /** @param {{ profile?: string }} options `profile`: a folder for V8's CPU profiles */
  constructor({ profile } = {}) {
    this.execArgv = ['--expose-gc', ...(profile ? ['--cpu-prof', `--cpu-prof-dir=${profile}`] : [])];
  }

  /** Runs a workload in the subject's process. */
  async run(order, { fresh = false } = {}) {
    const child = fresh ? this.start() : (this.kept.get(order.subject) ?? this.start());
    if (!fresh) this.kept.set(order.subject, child);
    try {
      return await ask(child, order);
    } catch (error) {
      if (!fresh) this.kept.delete(order.subject);
      await end(child);
      throw error;
    } finally {
      if (fresh) await end(child);
    }
  }

  async close() {
    await Promise.all([...this.kept.values()].map(end));
    this.kept.clear();
  }

  start() {
    return fork(WORKER, { execArgv: this.execArgv, stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
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
