import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { MinibatchModule, MinibatchRunner, Streaming, StreamService } from 'nestjs-minibatch';

/**
 * An application whose stream holds `rows`, and a consumer that hands them to `sink` in windows, once `start` is called.
 *
 * @param store the definition of a store
 * @param rows as many as `size` times a whole number
 * @param {{ size: number, workers?: number }} options
 */
export async function openFullStream(store, sink, rows, { size, workers = 1 }) {
  let began;
  let missing = rows.length;
  let done;
  const over = new Promise((resolve) => (done = resolve));
  const counting = {
    async put(result, window) {
      await sink.put(result, window);
      missing -= result.length;
      if (missing === 0) done((performance.now() - began) / 1000);
    },
  };
  class Forward {
    forward({ data }) {
      began ??= performance.now();
      return data;
    }
  }
  const descriptor = Object.getOwnPropertyDescriptor(Forward.prototype, 'forward');
  Streaming('bench', { size, workers, sink: counting })(Forward.prototype, 'forward', descriptor);
  class App {}
  Module({ imports: [MinibatchModule.forRoot({ store, autoStart: false })], providers: [Forward] })(App);
  const app = await NestFactory.createApplicationContext(App, { logger: ['warn', 'error'] });
  // The consumer has to be known before, else nothing is kept for it.
  const stream = app.get(StreamService).stream('bench');
  for (let from = 0; from < rows.length; from += 1000) await stream.appendMany(rows.slice(from, from + 1000));
  return {
    start: () => app.get(MinibatchRunner).start(),
    /** Resolves with the seconds from the first window to the last `put`. */
    over,
    close: () => app.close(),
  };
}

/** The seconds from the first window to the last `put`. */
export async function drainSeconds(store, sink, rows, options) {
  const full = await openFullStream(store, sink, rows, options);
  await full.start();
  const seconds = await full.over;
  await full.close();
  return seconds;
}
