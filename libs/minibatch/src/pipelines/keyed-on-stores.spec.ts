import { Injectable, Module } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Streaming } from '../consumers/streaming.decorator.js';
import { defineStream } from '../definitions/stream-ref.js';
import { MinibatchModule } from '../minibatch.module.js';
import type { Sink } from '../sinks/sink.interface.js';
import { type OpenedStore, STORES } from '../storage/stores.spec.support.js';
import { StreamService } from '../streams/stream.service.js';
import type { Window } from '../windows/window.js';

interface Reading {
  readonly sensor: string;
  readonly at: number;
  readonly value: bigint | number;
}
const Readings = defineStream<Reading>('readings');
const ALL = 1_500;
const SENSORS = ['a', 'ü\0', '__proto__', 'x'.repeat(10_000), '\u{1f6eb}'];

/** Results by the ids of their windows: what comes again counts once. */
@Injectable()
class Results implements Sink<string> {
  readonly found = new Map<string, string>();

  put(result: string, { id }: Window): void {
    this.found.set(id, result);
  }
}

@Injectable()
class Sums {
  isBad = true;

  @Streaming(Readings, {
    ...{ by: 'sensor', time: 'at', interval: 1_000, every: 500, idle: 'hold', workers: 3, sink: Results },
    retry: { attempts: 2, backoff: 10 },
  })
  sum({ data, start, key }: Window<Reading>) {
    if (this.isBad && data.some(({ value }) => value === -1)) throw new Error('negative');
    const sum = data.reduce((all, { value }) => all + Number(value), 0);
    return `${key?.slice(0, 20)} ${start?.getTime()} ${data.length} ${sum} ${typeof data.at(-1)?.value}`;
  }
}

/** What the windows of one sensor come to. */
function sumsOf(readings: readonly Reading[]): readonly string[] {
  const ends = (readings.at(-1)?.at ?? 0) + 1_000;
  return Array.from({ length: Math.ceil(ends / 500) + 1 }, (_, n) => (n - 1) * 500).flatMap((start) => {
    const inside = readings.filter(({ at }) => at >= start && at < start + 1_000);
    const last = inside.at(-1);
    if (!last) return [];
    const sum = inside.reduce((all, { value }) => all + Number(value), 0);
    return [`${last.sensor.slice(0, 20)} ${start} ${inside.length} ${sum} ${typeof last.value}`];
  });
}

describe.each(STORES)('windows by key and event time for a method, on %s', (_, open) => {
  let opened: OpenedStore;
  beforeEach(async () => {
    opened = await open();
  });
  afterEach(() => opened.dispose());

  async function boot() {
    const { store } = opened;
    @Module({ imports: [MinibatchModule.forRoot({ store })], providers: [Sums, Results] })
    class AppModule {}
    const app = await Test.createTestingModule({ imports: [AppModule] }).compile();
    app.useLogger(false);
    await app.init();
    return { app, sums: app.get(Sums), results: app.get(Results), readings: app.get(StreamService).stream(Readings) };
  }

  it('have each message in each of its windows, once', { timeout: 60_000 }, async () => {
    const { app, results, readings } = await boot();
    try {
      const all = Array.from({ length: ALL }, (_each, n): Reading => {
        const value = n % 7 === 0 ? BigInt(n) : n / 8;
        return { sensor: SENSORS[n % SENSORS.length] ?? '', at: n * 3, value };
      });
      await readings.appendMany([...all, { sensor: 'end', at: 50_000, value: 0 }]);
      const expected = SENSORS.flatMap((sensor) => sumsOf(all.filter((reading) => reading.sensor === sensor)));
      await vi.waitUntil(() => results.found.size >= expected.length, { timeout: 50_000, interval: 20 });
      expect([...results.found.values()].toSorted()).toEqual(expected.toSorted());
      expect((await readings.stats()).buffered).toBe(0);
    } finally {
      await app.close();
    }
  });

  it('make dead letters of bad messages, which come back when they are redriven', { timeout: 60_000 }, async () => {
    const { app, sums, results, readings } = await boot();
    try {
      await readings.appendMany([
        { sensor: 'a', at: 600, value: 1 },
        { sensor: 'a', at: 700, value: -1 },
        { sensor: 'b', at: 700, value: 2n },
        { sensor: 'end', at: 50_000, value: 0 },
      ]);
      const letters = async () => {
        const found = await opened.store.deadLetters('readings', {}, undefined, 10);
        return found.map(({ data, error }) => [data, error]);
      };
      await vi.waitUntil(async () => (await letters()).length > 0 && results.found.size >= 4, {
        timeout: 50_000,
        interval: 20,
      });
      // It was in two windows, and is one dead letter.
      expect(await letters()).toEqual([[{ sensor: 'a', at: 700, value: -1 }, 'negative']]);
      sums.isBad = false;
      expect(await readings.redrive()).toBe(1);
      // Late messages of a window are gathered until time goes on.
      await readings.append({ sensor: 'end', at: 52_000, value: 0 });
      await vi.waitUntil(() => [...results.found.values()].includes('a 500 1 -1 number'), {
        timeout: 50_000,
        interval: 20,
      });
      expect(await letters()).toEqual([]);
    } finally {
      await app.close();
    }
  });
});
