// Appends at a steady rate while the store is away, then a close: when each append settles, and how long the close takes.
//
//   npm run test:outage                                       500 appends a second for 30 s, on each store
//   npm run test:outage -- --store mongo --selection 10       the driver looks for its server for 10 s in place of 30 s
//   npm run test:outage -- --store lmdb --seconds 5           a file that may not grow, as on a full disk
//   npm run test:outage -- --max-buffered 1000000             on a stream with a limit
//
// MongoDB is killed and does not come back. The exit code is 0 only if every append settled within one selection time of its call (LMDB
// has none, and 1 s), every failure says whether the message is stored, and the close took no longer than `shutdownTimeout`.
import 'reflect-metadata';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Logger, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { MongooseModule } from '@nestjs/mongoose';
import { AppendError, defineStream, MinibatchModule, StreamService } from 'nestjs-minibatch';
import { lmdbStore } from 'nestjs-minibatch/lmdb';
import { startMongo } from './servers/mongo/mongo.mjs';

const { values } = parseArgs({
  options: {
    store: { type: 'string', multiple: true, default: ['lmdb', 'mongo'] },
    rate: { type: 'string', default: '500' },
    seconds: { type: 'string', default: '30' },
    selection: { type: 'string', default: '30' },
    shutdown: { type: 'string', default: '8' },
    'max-buffered': { type: 'string' },
    /** Of a child that may not write large files. */
    path: { type: 'string' },
  },
});
const rate = Number(values.rate);
const seconds = Number(values.seconds);
const shutdownTimeout = Number(values.shutdown) * 1000;
const maxBuffered = values['max-buffered'] && Number(values['max-buffered']);
for (const [name, value] of Object.entries({ rate, seconds, selection: Number(values.selection), shutdownTimeout })) {
  if (!(value > 0)) throw new Error(`--${name} is a number above 0`);
}
for (const store of values.store) {
  if (store !== 'lmdb' && store !== 'mongo') throw new Error(`--store is lmdb or mongo, not ${store}`);
}
/** A busy machine's timers are late. */
const TOLERANCE = 2_000;
/** Blocks of 1024 bytes that a file may have. */
const DISK = 20_000;
const CONTENT = 'x'.repeat(200);

Logger.overrideLogger(['error']);

async function boot(options, imports = []) {
  class App {}
  Module({ imports: [...imports, MinibatchModule.forRoot({ shutdownTimeout, ...options })] })(App);
  const app = await NestFactory.createApplicationContext(App, { logger: ['error'] });
  return { app, stream: app.get(StreamService).stream(defineStream('outage', maxBuffered ? { maxBuffered } : {})) };
}

/** Appends for so long, without waiting for answers, then closes. */
async function produce({ app, stream }) {
  const settled = [];
  const memory = { most: 0 };
  const append = (n) => {
    const made = performance.now();
    const note = (outcome) => settled.push({ after: performance.now() - made, outcome });
    return stream.append({ n, text: CONTENT }).then(
      () => note('stored'),
      (error) => note(error instanceof AppendError ? `${error.code}, stored: ${error.stored}` : `uncoded: ${error}`),
    );
  };
  const calls = [];
  const begin = performance.now();
  while (performance.now() - begin < seconds * 1000) {
    const due = ((performance.now() - begin) * rate) / 1000;
    while (calls.length < due) calls.push(append(calls.length));
    memory.most = Math.max(memory.most, process.memoryUsage.rss());
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const beforeClose = settled.length;
  const closing = performance.now();
  await app.close();
  const closed = performance.now() - closing;
  await Promise.all(calls);
  return { calls: calls.length, settled, beforeClose, closed, memory: memory.most };
}

/** Prints what happened; false if a promise was broken. */
function judge(store, patience, { calls, settled, beforeClose, closed, memory }) {
  const counts = new Map();
  let longest = 0;
  for (const { after, outcome } of settled) {
    counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
    longest = Math.max(longest, after);
  }
  console.log(
    `${store}: ${calls} appends in ${seconds} s, ${settled.length} settled, ${beforeClose} of them before the close; the longest took ` +
      `${(longest / 1000).toFixed(1)} s (${patience / 1000} s allowed). Close: ${(closed / 1000).toFixed(1)} s ` +
      `(${shutdownTimeout / 1000} s allowed). Resident: ${Math.round(memory / 2 ** 20)} MB`,
  );
  for (const [outcome, count] of counts) console.log(`  ${String(count).padStart(7)}  ${outcome}`);
  const said = [...counts.keys()].every((outcome) => !outcome.startsWith('uncoded'));
  return said && settled.length === calls && longest <= patience + TOLERANCE && closed <= shutdownTimeout + TOLERANCE;
}

async function mongo() {
  const server = await startMongo({ durable: true });
  const selection = Number(values.selection) * 1000;
  console.log(`MongoDB: ${server.label}, looked for ${values.selection} s`);
  try {
    const connection = MongooseModule.forRoot(server.uri, { dbName: 'outage', serverSelectionTimeoutMS: selection });
    const application = await boot({}, [connection]);
    await application.stream.append('before');
    await server.kill9();
    return judge('mongo', selection, await produce(application));
  } finally {
    await server.stop();
  }
}

/** In a process whose files may not grow beyond a size. */
async function fullDisk(path) {
  const application = await boot({ store: lmdbStore({ path }) });
  for (let filled = false; !filled;) {
    filled = await application.stream.appendMany(Array.from({ length: 500 }, () => CONTENT)).then(
      () => false,
      () => true,
    );
  }
  return judge('lmdb, full disk', 1_000, await produce(application));
}

async function inFullDisk() {
  const path = await mkdtemp(join(tmpdir(), 'minibatch-outage-'));
  try {
    const args = [import.meta.filename, ...process.argv.slice(2), '--path', join(path, 'store')];
    const line = `ulimit -f ${DISK}; trap '' XFSZ; exec "$0" "$@"`;
    const child = spawn('bash', ['-c', line, process.execPath, ...args], { stdio: ['ignore', 'inherit', 'pipe'] });
    // lmdb-js reports each failed write there, whatever the caller does about it.
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text) => (said = (said + text).slice(-2_000)));
    const [code] = await once(child, 'exit');
    if (code !== 0) console.error(said);
    return code === 0;
  } finally {
    await rm(path, { recursive: true, force: true });
  }
}

if (values.path) {
  if (!(await fullDisk(values.path))) process.exitCode = 1;
} else {
  for (const store of values.store) if (!(await (store === 'mongo' ? mongo() : inFullDisk()))) process.exitCode = 1;
}
