/**
 * How fast results get out of a stream by a Nest transport, compared with the bare client that sends the same messages, each of
 * them awaited, as many at a time.
 *
 *   npm run --silent build && node bench/adapters/microservices.mjs
 *   node bench/adapters/microservices.mjs --messages 20000 --rounds 5 --workers 4
 *
 * The stream is in memory; each message of a window of 1000 goes out on its own (`each`). Interleaved rounds, medians. `--workers`:
 * windows at the same time; with one, the replies of a window's last messages are waited for before the next begins.
 */
import 'reflect-metadata';
import { createServer } from 'node:net';
import { parseArgs } from 'node:util';
import { Controller, Logger, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ClientProxyFactory, EventPattern, MessagePattern, Transport } from '@nestjs/microservices';
import { memoryStore, MinibatchModule, MinibatchRunner, Streaming, StreamService } from 'nestjs-minibatch';
import { ClientProxySink } from 'nestjs-minibatch/microservices';
import { lastValueFrom } from 'rxjs';
import { startRedis } from '../../scripts/servers/redis/redis.mjs';

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
const WORKERS = Number(values.workers);
const DATA = Array.from({ length: MESSAGES }, (_, n) => ({ n, text: 'x'.repeat(180) }));
Logger.overrideLogger(['error']);

const decorate = (decorator, { prototype }, name) =>
  decorator(prototype, name, Object.getOwnPropertyDescriptor(prototype, name));

let got = 0;
class Receiver {
  event() {
    got += 1;
  }
  request() {
    got += 1;
    return 1;
  }
}
Controller()(Receiver);
decorate(EventPattern('event'), Receiver, 'event');
decorate(MessagePattern('request'), Receiver, 'request');
class Other {}
Module({ controllers: [Receiver] })(Other);

const port = await new Promise((resolve) => {
  const server = createServer().listen(0, '127.0.0.1', () => {
    const { port: free } = server.address();
    server.close(() => resolve(free));
  });
});
const redis = await startRedis();
const transports = {
  TCP: { transport: Transport.TCP, options: { port } },
  Redis: { transport: Transport.REDIS, options: { host: '127.0.0.1', port: redis.port } },
};
const others = [];
for (const transport of Object.values(transports)) {
  const other = await NestFactory.createMicroservice(Other, { ...transport, logger: ['error'] });
  await other.listen();
  others.push(other);
}

async function bare(client, mode) {
  got = 0;
  const began = performance.now();
  let next = 0;
  const worker = async () => {
    while (next < MESSAGES)
      await lastValueFrom(client[mode](mode === 'emit' ? 'event' : 'request', DATA[next++]), { defaultValue: 0 });
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, worker));
  while (got < MESSAGES) await new Promise((resolve) => setTimeout(resolve, 1));
  return (performance.now() - began) / 1000;
}

async function ours(client, mode) {
  got = 0;
  const pattern = mode === 'emit' ? 'event' : 'request';
  const sink = new ClientProxySink({ client, pattern, mode, each: true, concurrency: CONCURRENCY });
  class Consumer {
    all({ data }) {
      return data;
    }
  }
  decorate(Streaming('bench', { size: 1000, sink, workers: WORKERS }), Consumer, 'all');
  class App {}
  const module = MinibatchModule.forRoot({ store: memoryStore(), autoStart: false });
  Module({ imports: [module], providers: [Consumer] })(App);
  const app = await NestFactory.createApplicationContext(App, { logger: ['error'] });
  // The consumer has to be known before, else nothing is kept for it.
  const runner = app.get(MinibatchRunner);
  await app.get(StreamService).stream('bench').appendMany(DATA);
  const began = performance.now();
  await runner.start();
  while (got < MESSAGES) await new Promise((resolve) => setTimeout(resolve, 1));
  const seconds = (performance.now() - began) / 1000;
  await app.close();
  return seconds;
}

const clients = Object.fromEntries(
  Object.entries(transports).map(([name, transport]) => [name, ClientProxyFactory.create(transport)]),
);
const subjects = Object.keys(transports).flatMap((name) =>
  ['emit', 'send'].flatMap((mode) => [
    [`${name} ${mode}: bare client`, () => bare(clients[name], mode)],
    [`${name} ${mode}: ours`, () => ours(clients[name], mode)],
  ]),
);
const results = subjects.map(() => []);
try {
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [index, [, run]] of subjects.entries()) results[index].push(await run());
  }
} finally {
  await Promise.all(Object.values(clients).map(async (client) => client.close()));
  for (const other of others) await other.close();
  await redis.stop();
}

const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];
console.log(`${MESSAGES} messages of about 200 bytes, ${CONCURRENCY} at a time, ${ROUNDS} rounds\n`);
console.log('subject'.padEnd(28), 'messages/s'.padStart(10), 'ratio'.padStart(7));
for (const [index, [name]] of subjects.entries()) {
  const bareRuns = results[index - (index % 2)];
  const ratio = median(results[index].map((seconds, round) => bareRuns[round] / seconds));
  console.log(
    name.padEnd(28),
    (MESSAGES / median(results[index])).toFixed(0).padStart(10),
    ratio.toFixed(2).padStart(7),
  );
}
