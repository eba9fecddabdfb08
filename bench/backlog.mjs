/**
 * Does a long backlog cost more than a short one? Drains 100,000 and 1,000,000 messages of 200 bytes from LMDB, each in a process of its
 * own, and prints messages/s and the process's own memory on the way (RssAnon: the map of the LMDB file is not its own). What grows
 * is what lives: so garbage is collected before each look. The most it ever had is printed, too, as it is.
 *
 *   npm run bench:backlog                         # a long and a short one, three rounds
 *   npm run bench:backlog -- --long 200000 --rounds 1
 *   npm run bench:backlog -- --uri mongodb://…        # on a MongoDB that has indexes (its database minibatch_bench_backlog is dropped)
 *
 * Each process drains 20,000 other messages before it is measured: a short backlog is not to pay for the start of V8.
 */
import 'reflect-metadata';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { MongooseModule } from '@nestjs/mongoose';
import mongoose from 'mongoose';
import { MinibatchModule, MinibatchRunner, StreamService, Streaming } from 'nestjs-minibatch';
import { lmdbStore } from 'nestjs-minibatch/lmdb';

const { values: options } = parseArgs({
  options: {
    long: { type: 'string', default: '1000000' },
    short: { type: 'string', default: '100000' },
    rounds: { type: 'string', default: '3' },
    size: { type: 'string', default: '1000' },
    uri: { type: 'string' },
    json: { type: 'boolean', default: false },
    /** Set in the processes that this one starts. */
    fill: { type: 'string' },
    drain: { type: 'string' },
    path: { type: 'string' },
  },
});

/** MB. */
function ownMemory() {
  const line = /RssAnon:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'));
  return Number(line?.[1] ?? 0) / 1024;
}

const DATABASE = 'minibatch_bench_backlog';
const WARM_UP = 20_000;

async function boot(handle, stream = 'backlog') {
  class Consumer {
    handle(window) {
      handle(window);
    }
  }
  const descriptor = Object.getOwnPropertyDescriptor(Consumer.prototype, 'handle');
  Streaming(stream, { size: Number(options.size) })(Consumer.prototype, 'handle', descriptor);
  class App {}
  const store = options.uri ? undefined : lmdbStore({ path: options.path });
  Module({
    imports: [
      ...(options.uri ? [MongooseModule.forRoot(options.uri, { dbName: DATABASE })] : []),
      MinibatchModule.forRoot({ autoStart: false, ...(store && { store }) }),
    ],
    providers: [Consumer],
  })(App);
  return NestFactory.createApplicationContext(App, { logger: ['error'] });
}

async function fill(messages) {
  const app = await boot(() => undefined);
  await put(app.get(StreamService).stream('backlog'), messages);
  await app.close();
}

async function put(stream, messages) {
  const text = 'x'.repeat(200);
  for (let n = 0; n < messages; n += 1000) {
    await stream.appendMany(Array.from({ length: Math.min(1000, messages - n) }, (_, i) => ({ n: n + i, text })));
  }
}

async function warmUp() {
  let handled = 0;
  const app = await boot((window) => (handled += window.data.length), 'warm-up');
  const stream = app.get(StreamService).stream('warm-up');
  await put(stream, WARM_UP);
  await app.get(MinibatchRunner).start();
  while (handled < WARM_UP || (await stream.stats()).buffered > 0)
    await new Promise((resolve) => setTimeout(resolve, 5));
  await app.close();
}

/** Prints one line of JSON. */
async function drain(messages) {
  await warmUp();
  const memory = {};
  let handled = 0;
  let sum = 0;
  const app = await boot((window) => {
    for (const { n } of window.data) sum += n;
    handled += window.data.length;
    if (handled % 10_000 === 0) memory.most = Math.max(memory.most ?? 0, ownMemory());
    for (const share of [10, 90]) {
      if (handled !== (messages * share) / 100) continue;
      gc();
      memory[`at${share}`] = ownMemory();
    }
  });
  const stream = app.get(StreamService).stream('backlog');
  const began = performance.now();
  await app.get(MinibatchRunner).start();
  while (handled < messages) await new Promise((resolve) => setTimeout(resolve, 1));
  const seconds = (performance.now() - began) / 1000;
  while ((await stream.stats()).buffered > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  await app.close();
  if (sum !== (messages * (messages - 1)) / 2) throw new Error(`lost or repeated: the sum of the messages is ${sum}`);
  console.log(JSON.stringify({ rate: messages / seconds, ...memory }));
}

async function dropDatabase() {
  if (!options.uri) return;
  const connection = mongoose.createConnection(options.uri, { dbName: DATABASE });
  await connection.asPromise();
  await connection.dropDatabase();
  await connection.close();
}

function child(...args) {
  return new Promise((resolve, reject) => {
    const started = spawn(
      process.execPath,
      [
        '--expose-gc',
        fileURLToPath(import.meta.url),
        ...['--size', options.size],
        ...(options.uri ? ['--uri', options.uri] : []),
        ...args,
      ],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    let output = '';
    started.stdout.on('data', (chunk) => (output += chunk));
    started.on('close', (code) => (code === 0 ? resolve(output) : reject(new Error(`ended with ${code}`))));
  });
}

if (options.fill) await fill(Number(options.fill));
else if (options.drain) await drain(Number(options.drain));
else await compare();

async function compare() {
  const results = { short: [], long: [] };
  for (let round = 0; round < Number(options.rounds); round += 1) {
    for (const kind of ['short', 'long']) {
      const folder = mkdtempSync(join(tmpdir(), 'minibatch-backlog-'));
      try {
        await dropDatabase();
        await child('--fill', options[kind], '--path', folder);
        results[kind].push(JSON.parse(await child('--drain', options[kind], '--path', folder)));
        process.stderr.write(`round ${round + 1} ${kind}: ${JSON.stringify(results[kind].at(-1))}\n`);
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    }
  }
  await dropDatabase();
  if (options.json)
    console.log(JSON.stringify(results.long.map((long, round) => ({ long, short: results.short[round] }))));
  else print(results);
}

function print(results) {
  const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];
  for (const [kind, runs] of Object.entries(results)) {
    const of = (field) => median(runs.map((run) => run[field])).toFixed(0);
    console.log(
      `${options[kind].padStart(8)} messages: ${of('rate').padStart(7)} messages/s; own memory ` +
        `${of('at10')} MB at 10 %, ${of('at90')} MB at 90 %, ${of('most')} MB at the most`,
    );
  }
  const ratio = median(results.long.map(({ rate }, index) => rate / results.short[index].rate));
  console.log(`speed of the long backlog, as a share of the short one's: ${ratio.toFixed(2)}`);
}
