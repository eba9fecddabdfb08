import 'reflect-metadata';
import { mongo } from 'mongoose';
import type { MessageFilter } from 'nestjs-minibatch';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { closeAll, SOON, useDatabase } from '../e2e/support/applications.js';
import { endProcesses } from '../e2e/support/node-process.js';
import { Peer } from './support/peer.js';
import { dataOf, startApp, streamOf, takerOf } from './support/taker.js';

const { Decimal128, ObjectId, UUID } = mongo.BSON;

afterEach(async () => {
  await endProcesses();
  await closeAll();
});

describe('Python produces, TypeScript consumes', { timeout: 120_000 }, () => {
  it('2,500 messages, appended while the consumer runs: each of them once', async () => {
    const database = useDatabase();
    const Rows = takerOf('rows', { size: 100, interval: 50 });
    const app = await startApp(database, [Rows]);
    // By the hundred and one by one: Python has a batched and a plain way.
    const batched = await Peer.run(database, 'produce', { stream: 'rows', messages: 2000, batch: 100 });
    const plain = await Peer.run(database, 'produce', { stream: 'rows', messages: 500 });
    for (const peer of [batched, plain]) expect(peer.process.lines.at(-1)).toBe('done');
    await vi.waitUntil(() => dataOf(app, Rows).length >= 2500, SOON);
    await vi.waitUntil(async () => (await streamOf(app, 'rows').stats()).buffered === 0, SOON);

    const rows = dataOf(app, Rows) as { n: number; by: string }[];
    const count = new Map<number, number>();
    for (const { n, by } of rows) {
      expect(by).toBe('python');
      count.set(n, (count.get(n) ?? 0) + 1);
    }
    expect(rows).toHaveLength(2500);
    expect(count.size).toBe(2000);
    // The plain ones have the numbers 0 to 499 again.
    expect([...count].every(([n, times]) => times === (n < 500 ? 2 : 1))).toBe(true);
  });

  it('one by one, each is seen within a moment, in order', async () => {
    const database = useDatabase();
    const Rows = takerOf('rows', { size: 1 });
    const app = await startApp(database, [Rows]);
    const peer = await Peer.start(database, 'produce', { stream: 'rows', messages: 5, paced: true });
    await peer.process.line(/^ready$/);
    for (let n = 0; n < 5; n += 1) {
      peer.process.say('next');
      await vi.waitUntil(() => dataOf(app, Rows).length === n + 1, SOON);
    }
    await peer.success();
    expect(dataOf(app, Rows)).toEqual([0, 1, 2, 3, 4].map((n) => ({ n, by: 'python' })));
  });

  it('what waits, is claimed or kept can be read, no matter who appended it', async () => {
    const database = useDatabase();
    await Peer.run(database, 'produce', { stream: 'rows', messages: 5, batch: 100 });
    const app = await startApp(database);
    const rows = streamOf(app, 'rows');
    const shown = async (filter?: MessageFilter) => {
      const found: unknown[] = [];
      for await (const { data, state } of rows.messages(filter)) found.push([(data as { n: number }).n, state]);
      return found;
    };
    expect(await shown()).toEqual([0, 1, 2, 3, 4].map((n) => [n, 'waiting']));
    await rows.drain({ size: 2, keep: true }, () => undefined);
    expect(await shown()).toEqual([0, 1, 2, 3, 4].map((n) => [n, 'kept']));
    await Peer.run(database, 'produce', { stream: 'rows', messages: 2, batch: 100 });
    expect(await shown({ state: 'waiting' })).toEqual([
      [0, 'waiting'],
      [1, 'waiting'],
    ]);
    let windows = 0;
    for await (const { state } of rows.windows()) windows += state === 'kept' ? 1 : 0;
    expect(windows).toBe(3);
    expect(await rows.replay({ to: new Date(Date.now() + 60_000) })).toBe(5);
    const again: unknown[] = [];
    await rows.drain({ size: 100, keep: true }, ({ data }) => void again.push(...data));
    // The ids of two producers interleave within a second.
    expect(again.map((each) => (each as { n: number }).n).toSorted()).toEqual([0, 0, 1, 1, 2, 3, 4]);
    await Peer.run(database, 'produce', { stream: 'rows', messages: 2, batch: 100 });
    // Python's own windows and claims are not ours to show.
    await Peer.run(database, 'consume', { stream: 'rows', size: 2, until: 2, keep: true });
    expect(await shown()).toHaveLength(7);
  });

  it('every kind of value arrives as it was', async () => {
    const database = useDatabase();
    const before = Date.now();
    await Peer.run(database, 'values', { stream: 'values' });
    const after = Date.now();
    const Values = takerOf('values', { size: 9 });
    const app = await startApp(database, [Values]);
    await vi.waitUntil(() => dataOf(app, Values).length === 9, SOON);

    const uuid = new UUID('12345678-1234-5678-1234-567812345678');
    expect(dataOf(app, Values)).toStrictEqual([
      { text: 'Ünï💥 \u0001 \0 ключ', ключ: '💥', '': 'empty key' },
      { null: null, true: true, false: false, list: [1, [2, []], {}, null] },
      {
        int: 1,
        int32: 2147483647,
        int64: 2147483648,
        safe: Number.MAX_SAFE_INTEGER,
        // What a number can't hold stays what it is.
        unsafe: 2n ** 53n + 1n,
        most: 2n ** 63n - 1n,
        least: -(2n ** 63n),
      },
      { float: 1, third: 1 / 3, tiny: 5e-324, 'minus zero': -0, inf: Infinity, nan: NaN, large: 1e300 },
      // Microseconds are not stored; a naive datetime is taken for UTC.
      {
        naive: new Date('2026-01-02T03:04:05.678Z'),
        aware: new Date('2026-01-02T03:04:05.678Z'),
        old: new Date('0001-01-01T00:00:00.000Z'),
      },
      { bytes: Buffer.from([0, 1, 255]), empty: Buffer.alloc(0) },
      { id: new ObjectId('65a000000000000000000001'), uuid, decimal: Decimal128.fromString('0.1') },
      { nested: { a: { b: [{ c: { d: 'e' } }] } }, 'dotted.key': { $dollar: 1 } },
      {},
    ]);
    // Python writes its own clock, in UTC.
    for (const { created } of app.get(Values).windows.flatMap(({ messages }) => messages)) {
      expect(created.getTime()).toBeGreaterThanOrEqual(before);
      expect(created.getTime()).toBeLessThanOrEqual(after);
    }
  });
});
