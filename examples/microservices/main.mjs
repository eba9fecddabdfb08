// Two applications in one process: rows come in by TCP, are reported in windows, and the reports go to the other one by TCP.
//
//   node examples/microservices/main.mjs
import 'reflect-metadata';
import { Controller, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ClientProxyFactory, MessagePattern, Transport } from '@nestjs/microservices';
import { memoryStore, MinibatchModule, Streaming, StreamService } from 'nestjs-minibatch';
import { ClientProxySink } from 'nestjs-minibatch/microservices';

const decorate = (decorator, { prototype }, name) =>
  decorator(prototype, name, Object.getOwnPropertyDescriptor(prototype, name));
const port = Number(process.env.PORT ?? 4000);
const transport = { transport: Transport.TCP, options: { port } };
const client = ClientProxyFactory.create(transport);

class Archive {
  store({ window, sum }) {
    console.log(`window ${window}: ${sum}`);
  }
}
Controller()(Archive);
decorate(MessagePattern('archive.store'), Archive, 'store');
class OtherApp {}
Module({ controllers: [Archive] })(OtherApp);
await (await NestFactory.createMicroservice(OtherApp, { ...transport, logger: ['error'] })).listen();

class Sums {
  sum({ data }) {
    return data.reduce((sum, row) => sum + row, 0);
  }
}
const map = (sum, window) => ({ window: window.id, sum });
const sink = new ClientProxySink({ client, pattern: 'archive.store', mode: 'send', map });
decorate(Streaming('rows', { size: 3, sink }), Sums, 'sum');
class App {}
Module({ imports: [MinibatchModule.forRoot({ store: memoryStore() })], providers: [Sums] })(App);
const app = await NestFactory.createApplicationContext(App, { logger: ['error'] });
await app.get(StreamService).stream('rows').appendMany([1, 2, 3, 4, 5, 6]);
