/**
 * The other side of `microservices.mjs`: `<TCP port> <TCP port with setNoDelay> <Redis port>`. Says 'ready', and 'all' when as many messages have come as the
 * last number that it was told.
 */
import 'reflect-metadata';
import { Controller, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EventPattern, MessagePattern, Transport } from '@nestjs/microservices';

const [tcp, prompt, redis] = process.argv.slice(2).map(Number);
let missing = Number.POSITIVE_INFINITY;
const count = () => {
  missing -= 1;
  if (missing === 0) process.send('all');
};

class Receiver {
  event() {
    count();
  }
  request() {
    count();
    return 1;
  }
}
Controller()(Receiver);
EventPattern('event')(Receiver.prototype, 'event', Object.getOwnPropertyDescriptor(Receiver.prototype, 'event'));
MessagePattern('request')(
  Receiver.prototype,
  'request',
  Object.getOwnPropertyDescriptor(Receiver.prototype, 'request'),
);
class Other {}
Module({ controllers: [Receiver] })(Other);

const tcpServer = (port) => ({ transport: Transport.TCP, options: { port } });
const redisServer = { transport: Transport.REDIS, options: { host: '127.0.0.1', port: redis } };
const [, prompted] = await Promise.all(
  [tcpServer(tcp), tcpServer(prompt), redisServer].map(async (options) => {
    const server = await NestFactory.createMicroservice(Other, { ...options, logger: ['error'] });
    await server.listen();
    return server;
  }),
);
prompted.unwrap().on('connection', (socket) => socket.setNoDelay(true));
process.on('message', (expected) => {
  missing = expected;
  process.send('counting');
});
process.on('disconnect', () => process.exit());
process.send('ready');
