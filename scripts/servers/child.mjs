import { spawn } from 'node:child_process';
import { once } from 'node:events';

/** The longest wait for a server to be ready: a little less than a hook of a test may take, so that the error comes from here. Milliseconds. */
export const READY_TIMEOUT = 110_000;

/** Ends the server as soon as the process that started it is gone, however it went: then this shell's input closes. */
const WATCHDOG = 'while read -r _; do :; done; kill -9 "$1" 2>/dev/null; if [ -n "$2" ]; then rm -rf "$2"; fi';

/** Servers that run now; killed when this process exits without having stopped them. */
const running = new Set();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/**
 * Starts a server program and waits until a line of its output matches `ready`.
 *
 * The program dies with this process, also by Ctrl-C or `kill -9`. It does not keep this process alive.
 *
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ ready: RegExp, temporary?: string }} options `temporary`: a folder to remove if this process dies
 */
export async function startChild(command, args, { ready, temporary = '' }) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const log = tail(child);
  await once(child, 'spawn');
  running.add(child);
  const watchdog = spawn('/bin/sh', ['-c', WATCHDOG, 'sh', String(child.pid), temporary], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  const exited = once(child, 'exit').then(() => {
    running.delete(child);
    watchdog.kill('SIGKILL');
  });
  // What it has said last may come after its end: by that, a caller knows whether to try again.
  const silent = once(child, 'close');
  try {
    const match = await log.find(ready, silent);
    for (const handle of [child, child.stdout, child.stderr, watchdog, watchdog.stdin]) handle.unref();
    const kill = (/** @type {NodeJS.Signals} */ signal) => {
      // Those that wait for its end must still be alive then.
      child.ref();
      return child.kill(signal);
    };
    return { pid: child.pid, match, exited, kill };
  } catch (error) {
    child.kill('SIGKILL');
    throw new Error(`${command} did not start: ${error.message}\n${log.text()}`, { cause: error });
  }
}

/** The last lines of a program's output, and a wait for one of them. */
function tail(child) {
  let lines = [];
  let rest = '';
  const listeners = new Set();
  const take = (chunk) => {
    const parts = (rest + chunk).split('\n');
    rest = parts.pop() ?? '';
    lines = [...lines, ...parts].slice(-40);
    for (const line of parts) for (const listener of listeners) listener(line);
  };
  child.stdout.setEncoding('utf8').on('data', take);
  child.stderr.setEncoding('utf8').on('data', take);

  return {
    text: () => lines.join('\n'),
    find: (pattern, ended) =>
      new Promise((resolve, reject) => {
        const done = (settle) => (value) => {
          clearTimeout(timer);
          listeners.delete(look);
          settle(value);
        };
        const look = (line) => {
          const match = pattern.exec(line);
          if (match) done(resolve)(match);
        };
        const timer = setTimeout(() => done(reject)(new Error(`not ready after ${READY_TIMEOUT} ms`)), READY_TIMEOUT);
        listeners.add(look);
        void ended.then(() => done(reject)(new Error('it ended')));
      }),
  };
}
