import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { MinibatchModule, MinibatchRunner, Streaming, StreamService } from 'nestjs-minibatch';
import { sessionOfOurs } from '../../lib/nest-app.mjs';
import { warmUpShare } from '../../lib/warm-up.mjs';

/**
 * An application whose stream holds `rows`, and a consumer that hands them to `sink` in windows, once `start` is called. Some of them
 * have gone through it before, see ../../lib/warm-up.mjs.
 *
 * @param store the definition of a store
 * @param rows as many as `size` times a whole number
 * @param {{ size: number, workers?: number }} options
 */
export async function openFullStream(store, sink, rows, { size, workers = 1 }) {
  let began;
  let missing;
  let done;
  const expect = (count) => {
    [began, missing] = [undefined, count];
    return new Promise((resolve) => (done = resolve));
  };
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
  const session = sessionOfOurs({ app, streams: app.get(StreamService) }, { streams: ['bench'] });
  const append = async (messages) => {
    for (let from = 0; from < messages.length; from += 1000)
      await session.appendMany(messages.slice(from, from + 1000));
  };
  const few = warmUpShare(rows.length, size);
  const warm = expect(few);
  await append(rows.slice(0, few));
  await app.get(MinibatchRunner).start();
  await warm;
  await session.settled(few);
  await session.pause();
  await append(rows);
  globalThis.gc?.();
  const over = expect(rows.length);
  return {
    start: () => session.resume(),
    /** Resolves with the seconds from the first window to the last `put`. */
    over,
    close: () => app.close(),
  };
}

/**
 * The seconds from the first window to the last `put`.
 *
 * @param {{ size: number, workers?: number }} options
 */
export async function drainSeconds(store, sink, rows, options) {
  const full = await openFullStream(store, sink, rows, options);
  await full.start();
  const seconds = await full.over;
  await full.close();
  return seconds;
}
