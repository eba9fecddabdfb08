import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { startChild } from '../child.mjs';
import { ownServer } from '../own-server.mjs';
import { cached, needPrograms } from '../programs.mjs';

const run = promisify(execFile);
const REQUIREMENTS = fileURLToPath(new URL('requirements.txt', import.meta.url));
const FOLDER = dirname(REQUIREMENTS);

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

/** Celery's own receiver beside ours. */
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
export async function celeryPython() {
  const [python] = await needPrograms(['python3'], ['python3', 'python3-venv']);
  const { stdout: version } = await run(python, ['-c', 'import sys; print(sys.version, sys.prefix)']);
  const hash = createHash('sha256')
    .update(await readFile(REQUIREMENTS))
    .update(version)
    .digest('hex');
  const folder = await cached(`celery-${hash.slice(0, 12)}`, async (draft) => {
    await run(python, ['-m', 'venv', draft], { maxBuffer: 2 ** 26 });
    const pip = ['-m', 'pip', 'install', '-q', '--disable-pip-version-check', '-r', REQUIREMENTS];
    await run(join(draft, 'bin/python'), pip, { maxBuffer: 2 ** 26 });
  });
  return join(folder, 'bin/python');
}
