/**
 * How fast results get out of a stream by a Nest transport, compared with the bare client that sends the same messages, each of
 * them awaited, as many at a time.
 *
 *   npm run --silent build && node bench/adapters/microservices.mjs
 *   node bench/adapters/microservices.mjs --messages 20000 --rounds 5 --workers 4
 *
 * The stream is in memory; each message of a window of 1000 goes out on its own (`each`). Interleaved rounds, medians. `--workers`:
 * windows at the same time; with one, the replies of a window's last messages are waited for before the next begins. A Nest server
 * for TCP holds back (Nagle) what the client acknowledges late, 40 ms for a window's last reply: once as it is, once with
 * `setNoDelay` on its sockets.
 */
import 'reflect-metadata';
import { fork } from 'node:child_process';
import { on } from 'node:events';
import { parseArgs } from 'node:util';
import { Logger } from '@nestjs/common';
import { ClientProxyFactory, Transport } from '@nestjs/microservices';
import { memoryStore } from 'nestjs-minibatch';
import { ClientProxySink } from 'nestjs-minibatch/microservices';
import { lastValueFrom } from 'rxjs';
import { freePorts } from '../../scripts/servers/free-ports.mjs';
import { startRedis } from '../../scripts/servers/redis/redis.mjs';
import { openFullStream } from './lib/full-stream.mjs';
import { printTable } from './lib/table.mjs';

const { values } = parseArgs({
  options: {
    messages: { type: 'string', default: '20000' },
    rounds: { type: 'string', default: '5' },
    workers: { type: 'string', default: '1' },
  },
});
const MESSAGES = Number(values.messages);
const ROUNDS = Number(values.rounds);
const CONCURRENCY = 100;
const SIZE = 1000;
const WORKERS = Number(values.workers);
const DATA = Array.from({ length: MESSAGES }, (_, n) => ({ n, text: 'x'.repeat(180) }));
Logger.overrideLogger(['error']);

const [port, promptPort] = await freePorts(2);
const redis = await startRedis();
const transports = {
  TCP: { transport: Transport.TCP, options: { port } },
  'TCP, setNoDelay': { transport: Transport.TCP, options: { port: promptPort } },
  Redis: { transport: Transport.REDIS, options: { host: '127.0.0.1', port: redis.port } },
};
// A process of its own, as in life: what it takes to receive is nobody's share.
const ports = [port, promptPort, redis.port].map(String);
const receiver = fork(new URL('./microservices-receiver.mjs', import.meta.url), ports);
const told = async (word) => {
  for await (const [message] of on(receiver, 'message')) if (message === word) return;
};
await told('ready');

/** Resolves with the seconds that `work` takes until the receiver has all of its messages. */
async function timed(work) {
  const counting = told('counting');
  receiver.send(MESSAGES);
  await counting;
  const all = told('all');
  const began = performance.now();
  await work();
  await all;
  return (performance.now() - began) / 1000;
}

/** One window after the other, as ours: the next begins when all of the one before are answered. */
async function bare(client, mode, size) {
  const pattern = mode === 'emit' ? 'event' : 'request';
  return timed(async () => {
    for (let from = 0; from < MESSAGES; from += size) {
      let next = from;
      const worker = async () => {
        while (next < from + size) await lastValueFrom(client[mode](pattern, DATA[next++]), { defaultValue: 0 });
      };
      await Promise.all(Array.from({ length: CONCURRENCY }, worker));
    }
  });
}

async function ours(client, mode) {
  const pattern = mode === 'emit' ? 'event' : 'request';
  const sink = new ClientProxySink({ client, pattern, mode, each: true, concurrency: CONCURRENCY });
  const full = await openFullStream(memoryStore(), sink, DATA, { size: SIZE, workers: WORKERS });
  const seconds = await timed(() => full.start());
  await full.over;
  await full.close();
  return seconds;
}

const clients = Object.fromEntries(
  Object.entries(transports).map(([name, transport]) => [name, ClientProxyFactory.create(transport)]),
);
const tables = Object.keys(transports).flatMap((name) =>
  ['emit', 'send'].map((mode) => [
    [`${name} ${mode}: bare client, windows of ${SIZE}`, () => bare(clients[name], mode, SIZE)],
    [`${name} ${mode}: bare client, all at once`, () => bare(clients[name], mode, MESSAGES)],
    [`${name} ${mode}: ours`, () => ours(clients[name], mode)],
  ]),
);
console.log(`${MESSAGES} messages of about 200 bytes, ${CONCURRENCY} at a time, ${ROUNDS} rounds\n`);
try {
  for (const subjects of tables) {
    const rated = subjects.map(([name, run]) => [name, async () => MESSAGES / (await run())]);
    await printTable(rated, { rounds: ROUNDS });
  }
} finally {
  await Promise.all(Object.values(clients).map(async (client) => client.close()));
  receiver.disconnect();
  await redis.stop();
}
