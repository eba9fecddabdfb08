import { defineStream, MinibatchModule, StreamService, Streaming, type Window } from 'nestjs-minibatch';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { closeAll, SOON, start } from './support/applications.js';
import { PLACES } from './support/places.js';

const Four = defineStream<number>('orders', { partitions: 4 });
const Two = defineStream<number>('orders', { partitions: 2 });

class Handled {
  readonly rows: (readonly [partition: number, n: number])[] = [];

  protected take({ data, partition }: Window<number>): void {
    for (const n of data) this.rows.push([partition, n]);
  }
}

class ShippingOfFour extends Handled {
  @Streaming(Four, { size: 5, interval: '50ms' })
  ship(window: Window<number>): void {
    this.take(window);
  }
}

class ShippingOfTwo extends Handled {
  @Streaming(Two, { size: 5, interval: '50ms' })
  ship(window: Window<number>): void {
    this.take(window);
  }
}

const rows = (from: number) => Array.from({ length: 16 }, (_, n) => from + n);

afterEach(closeAll);

describe.each(PLACES)('a stream that is dropped and made again with fewer partitions on %s', (_, makePlace) => {
  it('delivers what a producer appends that knew the earlier one', { timeout: 120_000 }, async () => {
    const { store, imports } = makePlace();
    const options = [...imports, MinibatchModule.forRoot({ store, leaseTime: 3_000 })];
    const producer = (await start({ imports: options })).get(StreamService);
    const append = (from: number) =>
      producer.appendMany(Four, rows(from), { each: (n) => ({ key: `key-${n - from}` }) });
    const before = await start({ imports: options, providers: [ShippingOfFour] });
    await append(0);
    const { rows: early } = before.get(ShippingOfFour);
    await vi.waitFor(() => expect(early).toHaveLength(16), SOON);
    expect(new Set(early.map(([partition]) => partition)).size).toBe(4);
    await before.close();

    const operator = (await start({ imports: options })).get(StreamService);
    await operator.stream('orders').drop();
    const after = await start({ imports: options, providers: [ShippingOfTwo] });
    // The producer has not heard of it.
    await append(100);
    const { rows: late } = after.get(ShippingOfTwo);
    await vi.waitFor(async () => {
      // It hears of it when it goes on.
      await append(200);
      const numbers = late.map(([, n]) => n).filter((n) => n < 200);
      expect(numbers.toSorted()).toEqual(rows(100));
    }, SOON);
    await vi.waitFor(async () => expect((await operator.stream('orders').stats()).buffered).toBe(0), SOON);
    expect(new Set(late.map(([partition]) => partition))).toEqual(new Set([0, 1]));
    const { consumers, foreign } = await operator.stream('orders').stats();
    expect([consumers.map(({ partition }) => partition), foreign]).toEqual([[0, 1], undefined]);
  });
});
