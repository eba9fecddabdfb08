/**
 * What partitions give: one stream in LMDB, drained with one partition and with several, by methods that wait and by methods that compute.
 *
 *   npm run bench:partitions                          # 4 partitions against 1
 *   npm run bench:partitions -- --partitions 8 --windows 40 --wait 50 --work 20
 *
 * First in one process, with methods that wait for `--wait` milliseconds. Then with methods that keep the processor busy for `--work`
 * milliseconds, in one process and in two that share the partitions. Prints windows per second, and the ratios.
 */
import { fork } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { defineStream, openStream } from 'nestjs-minibatch/client';
import { lmdbStore } from 'nestjs-minibatch/lmdb';
import { until } from './lib/pause.mjs';

const { values: options } = parseArgs({
  options: {
    partitions: { type: 'string', default: '4' },
    windows: { type: 'string', default: '40' },
    wait: { type: 'string', default: '50' },
    work: { type: 'string', default: '20' },
    /** Set in the processes that this one starts: the folder of the store. */
    consume: { type: 'string' },
  },
});
const PARTITIONS = Number(options.partitions);
const WINDOWS = Number(options.windows);
const SIZE = 10;

const open = (path, partitions) => openStream(lmdbStore({ path }), defineStream('bench', { partitions }));

if (options.consume) await work(options.consume);
else await runAll();

/** A consumer until the parent process ends it. */
async function work(path) {
  const stream = await open(path, PARTITIONS);
  const busy = Number(options.work);
  await stream.consume({ size: SIZE }, () => {
    for (const end = performance.now() + busy; performance.now() < end;);
  });
  process.on('message', () => void stream.disconnect().then(() => process.disconnect()));
}

async function inFolder(run) {
  const path = await mkdtemp(join(tmpdir(), 'minibatch-partitions-'));
  try {
    return await run(path);
  } finally {
    await rm(path, { recursive: true, force: true });
  }
}

/** As many windows for each partition: without keys, a write goes to one partition, and the next one to another. */
async function fill(stream, partitions) {
  const windows = WINDOWS * PARTITIONS;
  const write = Array.from({ length: (SIZE * windows) / partitions }, (_, n) => n);
  for (let n = 0; n < partitions; n += 1) await stream.appendMany(write);
  return windows;
}

async function waiting(partitions) {
  return inFolder(async (path) => {
    const stream = await open(path, partitions);
    const windows = await fill(stream, partitions);
    const wait = Number(options.wait);
    const began = performance.now();
    const drained = await stream.drain({ size: SIZE }, () => new Promise((resolve) => setTimeout(resolve, wait)));
    const seconds = (performance.now() - began) / 1000;
    await stream.disconnect();
    if (drained.windows < windows) throw new Error(`drained ${drained.windows} of ${windows} windows`);
    return drained.windows / seconds;
  });
}

async function computing(processes) {
  return inFolder(async (path) => {
    const stream = await open(path, PARTITIONS);
    await stream.appendMany([]);
    await (await stream.consume({ size: SIZE }, () => undefined)).stop();
    await stream.pause();
    const windows = await fill(stream, PARTITIONS);
    const args = ['--partitions', options.partitions, '--work', options.work, '--consume', path];
    const children = Array.from({ length: processes }, () => fork(fileURLToPath(import.meta.url), args));
    const owners = async () => {
      const { consumers } = await stream.stats();
      const pids = consumers.map(({ lease }) => lease.owner?.pid);
      return children.map(({ pid }) => pids.filter((each) => each === pid).length);
    };
    await until(async () => (await owners()).every((count) => count === PARTITIONS / processes));
    const began = performance.now();
    await stream.resume();
    await until(async () => (await stream.stats()).buffered === 0, { every: 20 });
    const seconds = (performance.now() - began) / 1000;
    for (const child of children) child.send('end');
    await Promise.all(children.map((child) => new Promise((resolve) => child.once('exit', resolve))));
    await stream.disconnect();
    return windows / seconds;
  });
}

async function runAll() {
  const print = (what, rates) => {
    const [one, more] = rates.map((rate) => rate.toFixed(1));
    console.log(`${what}: ${one} → ${more} windows/s, ${(rates[1] / rates[0]).toFixed(2)} ×`);
  };
  print(`waiting ${options.wait} ms, 1 → ${PARTITIONS} partitions, one process`, [
    await waiting(1),
    await waiting(PARTITIONS),
  ]);
  print(`computing ${options.work} ms, ${PARTITIONS} partitions, 1 → 2 processes`, [
    await computing(1),
    await computing(2),
  ]);
}
