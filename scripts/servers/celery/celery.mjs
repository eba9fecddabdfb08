import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { startChild } from '../child.mjs';
import { ownServer } from '../own-server.mjs';
import { pythonWith } from '../python/venv.mjs';

const FOLDER = dirname(fileURLToPath(import.meta.url));

/** Variables of what runs Python in our folder. It leaves no compiled files there. */
const environment = (broker) => ({ BROKER_URL: broker, PYTHONPATH: FOLDER, PYTHONDONTWRITEBYTECODE: '1' });

/** A Celery worker that sends events, on a broker that runs. Dies with this process. */
export async function startCelery({ broker, pool = 'prefork', concurrency = 2, name = `tests-${process.pid}` }) {
  const python = await celeryPython();
  const variables = Object.entries(environment(broker)).map(([key, value]) => `${key}=${value}`);
  const args = ['-m', 'celery', '-A', 'tasks', 'worker', '-E', '--loglevel', 'INFO'];
  args.push('--pool', pool, '--concurrency', String(concurrency), '--hostname', `${name}@localhost`);
  const server = await ownServer('celery', undefined, ({ temporary }) =>
    // `env` becomes the worker itself.
    startChild('/usr/bin/env', [...variables, python, ...args], { ready: /localhost ready\.?$/, temporary }),
  );
  return Object.defineProperties(server, {
    label: { value: `celery 5.6.2, pool ${pool} (${python})`, enumerable: true },
    send: { value: (calls) => sendTasks(broker, calls) },
  });
}

/** Sends tasks as a Celery client does; resolves with their ids. */
export async function sendTasks(broker, calls) {
  const python = await celeryPython();
  const child = spawn(python, [join(FOLDER, 'send.py')], {
    env: { ...process.env, ...environment(broker) },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let output = '';
  let errors = '';
  child.stdout.setEncoding('utf8').on('data', (text) => (output += text));
  child.stderr.setEncoding('utf8').on('data', (text) => (errors += text));
  child.stdin.end(JSON.stringify(calls));
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`the tasks could not be sent: ${errors}`);
  return JSON.parse(output);
}

/** Celery's own receiver next to ours. */
export async function watchTasks(broker) {
  const python = await celeryPython();
  const child = spawn(python, [join(FOLDER, 'watch.py')], {
    env: { ...process.env, ...environment(broker) },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const told = [];
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text) => (errors += text));
  const ended = once(child, 'close');
  await new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (line === 'WATCHING') resolve();
      else told.push(JSON.parse(line));
    });
    void ended.then(() => reject(new Error(`the receiver ended: ${errors}`)));
  });
  return {
    told,
    stop: async () => {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

/** A Python that has Celery, made once a machine. */
async function celeryPython() {
  return (await pythonWith('celery')).python;
}
