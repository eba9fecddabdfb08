import { Injectable } from '@nestjs/common';
import {
  defineStream,
  ErrorCode,
  MinibatchModule,
  StatusService,
  Streaming,
  StreamService,
  type Window,
} from 'nestjs-minibatch';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { closeAll, Log, SOON, start } from './support/applications.js';
import { PLACES } from './support/places.js';

interface Order {
  readonly customer: string;
  readonly n: number;
}

const Orders = defineStream<Order>('orders', { partitions: 4 });
const CUSTOMERS = Array.from({ length: 16 }, (_, n) => `customer-${n}`);
const REFUSED = 'customer-3';

@Injectable()
class Shipping {
  readonly handled: (Order & { readonly partition: number })[] = [];
  refuses = true;

  @Streaming(Orders, { size: 5, interval: '50ms', retry: { attempts: 1, backoff: '1ms' } })
  ship(window: Window<Order>): void {
    for (const message of window.messages) {
      const { data } = message;
      if (this.refuses && data.customer === REFUSED) window.reject(message, 'no credit');
      else this.handled.push({ ...data, partition: window.partition });
    }
  }
}

afterEach(closeAll);

describe.each(PLACES)('a stream with partitions on %s', (_, makePlace) => {
  async function started(log?: Log) {
    const { store, imports } = makePlace();
    const app = await start({ imports: [...imports, MinibatchModule.forRoot({ store })], providers: [Shipping] }, log);
    return { app, streams: app.get(StreamService), shipping: app.get(Shipping), status: app.get(StatusService) };
  }

  async function appendTo(streams: StreamService, each: number): Promise<void> {
    const orders = Array.from({ length: each }, (_, n) => CUSTOMERS.map((customer) => ({ customer, n }))).flat();
    await streams.appendMany(Orders, orders, { each: ({ customer }) => ({ key: customer }) });
  }

  it(
    'handles what belongs together in one of them, in order; operators reach all of them',
    { timeout: 120_000 },
    async () => {
      const { streams, shipping, status } = await started();
      const orders = streams.stream(Orders);
      await appendTo(streams, 4);
      await vi.waitFor(async () => expect((await orders.stats()).buffered).toBe(0), SOON);
      for (const customer of CUSTOMERS) {
        const own = shipping.handled.filter((order) => order.customer === customer);
        expect(own.map(({ n }) => n)).toEqual(customer === REFUSED ? [] : [0, 1, 2, 3]);
        expect(new Set(own.map(({ partition }) => partition)).size).toBeLessThanOrEqual(1);
      }
      expect(new Set(shipping.handled.map(({ partition }) => partition))).toEqual(new Set([0, 1, 2, 3]));

      const { stored, consumers } = await status.stream('orders');
      expect(stored).toMatchObject({ partitions: 4, buffered: 0, deadLetters: 4 });
      expect(consumers.map(({ partition, local }) => [partition, local?.state])).toEqual(
        [0, 1, 2, 3].map((partition) => [partition, 'running']),
      );

      shipping.refuses = false;
      expect(await orders.redrive()).toBe(4);
      await vi.waitFor(async () => expect((await orders.stats()).buffered).toBe(0), SOON);
      const redriven = shipping.handled.filter(({ customer }) => customer === REFUSED);
      expect(redriven.map(({ n }) => n).toSorted()).toEqual([0, 1, 2, 3]);

      await orders.pause();
      await appendTo(streams, 1);
      const waiting: string[] = [];
      for await (const { data } of orders.messages({ state: 'waiting' })) waiting.push(data.customer);
      expect(waiting).toEqual(CUSTOMERS);
      await orders.clear();
      await orders.resume();
      await vi.waitFor(async () => expect((await orders.stats()).buffered).toBe(0), SOON);
      expect(shipping.handled).toHaveLength(64);
    },
  );

  it('is drained in all of them', { timeout: 120_000 }, async () => {
    const { streams } = await started();
    const drained: number[] = [];
    const other = defineStream<number>('numbers', { partitions: 3 });
    const numbers = streams.stream(other);
    const consumer = await numbers.consume({ size: 100, group: 'report' }, () => undefined);
    await consumer.stop();
    await numbers.appendMany([...Array(20).keys()], { each: (n) => ({ key: String(n) }) });
    const result = await numbers.drain({ size: 7, group: 'report' }, ({ data }) => void drained.push(...data));
    expect(result).toMatchObject({ messages: 20, failures: 0 });
    expect(drained.toSorted((a, b) => a - b)).toEqual([...Array(20).keys()]);
  });

  it('grows to a multiple, refuses anything else, and what is stored wins', { timeout: 120_000 }, async () => {
    const log = new Log();
    const { streams } = await started(log);
    const orders = streams.stream(Orders);
    await expect(orders.grow(6)).rejects.toMatchObject({ code: ErrorCode.InvalidPartitions });
    await expect(orders.grow(2)).rejects.toMatchObject({ code: ErrorCode.InvalidPartitions });
    await expect(orders.grow(0)).rejects.toMatchObject({ code: ErrorCode.InvalidOptions });
    await orders.grow(8);
    expect(await orders.describe()).toMatchObject({ partitions: 8, growths: [{ from: 4 }] });
    const [report] = (await orders.stats()).consumers;
    expect(report).toMatchObject({ group: 'default', partition: 0 });
    expect((await orders.stats()).consumers).toHaveLength(8);
    expect(log.lines.filter((line) => line.includes('partitions'))).toEqual([]);
  });
});

describe('the definition of a stream with partitions', () => {
  it.each([0, 1.5, 1025, '4', NaN])('refuses %s', (partitions) => {
    expect(() => defineStream('orders', { partitions } as object)).toThrow(
      expect.objectContaining({ code: ErrorCode.InvalidOptions }),
    );
  });
});
