import 'reflect-metadata';
import { Logger, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { MinibatchModule, MinibatchRunner, StreamService, Streaming } from 'nestjs-minibatch';
import { until } from './pause.mjs';

Logger.overrideLogger(['warn', 'error']);

/** A class with a decorated method, as a user writes it. */
function consumer(index, stream, group, size, onWindow) {
  const Consumer = class {
    handle(window) {
      return onWindow(group, window.data);
    }
  };
  Object.defineProperty(Consumer, 'name', { value: `Consumer${index}` });
  const descriptor = Object.getOwnPropertyDescriptor(Consumer.prototype, 'handle');
  Streaming(stream, { size, group })(Consumer.prototype, 'handle', descriptor);
  return Consumer;
}

/** An application of ours that appends, and consumes once it is told to start. */
export async function bootOurs({ imports = [], store, streams, size, groups, onWindow }) {
  const bindings = size === undefined ? [] : streams.flatMap((stream) => groups.map((group) => ({ stream, group })));
  class App {}
  Module({
    imports: [...imports, MinibatchModule.forRoot({ autoStart: false, ...(store && { store }) })],
    providers: bindings.map(({ stream, group }, index) => consumer(index, stream, group, size, onWindow)),
  })(App);
  const app = await NestFactory.createApplicationContext(App, { logger: ['warn', 'error'] });
  return {
    app,
    streams: app.get(StreamService),
    start: () => app.get(MinibatchRunner).start(),
    close: () => app.close(),
  };
}

/** What is the same with every store. */
export function sessionOfOurs({ app, streams }, { streams: names }) {
  const [first] = names;
  const engine = app.get('MINIBATCH_ENGINE');
  const handles = new Map();
  const handle = (name = first) => {
    if (!handles.has(name)) handles.set(name, streams.stream(name));
    return handles.get(name);
  };
  return {
    append: (message, stream) => handle(stream).append(message),
    appendMany: (messages, stream) => handle(stream).appendMany(messages),
    async pause() {
      for (const stream of names) await handle(stream).pause();
      await until(() => engine.status().every(({ activity }) => activity === 'paused'));
    },
    async resume() {
      for (const stream of names) await handle(stream).resume();
    },
    settled: (messages) =>
      until(() => {
        const status = engine.status();
        const committed = status.reduce((total, { committedMessages }) => total + committedMessages, 0);
        return committed >= messages && status.every(({ inFlight }) => inFlight === 0);
      }),
  };
}
