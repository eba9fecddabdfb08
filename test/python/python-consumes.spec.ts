import 'reflect-metadata';
import { Double, Int32, Long, ObjectId } from 'bson';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { closeAll, SOON, useDatabase } from '../e2e/support/applications.js';
import { endProcesses } from '../e2e/support/node-process.js';
import { Peer } from './support/peer.js';
import { startApp, streamOf } from './support/taker.js';

afterEach(async () => {
  await endProcesses();
  await closeAll();
});

describe('TypeScript produces, Python consumes', { timeout: 120_000 }, () => {
  it('2,500 messages, appended while the consumer runs: each of them once', async () => {
    const database = useDatabase();
    const app = await startApp(database);
    const rows = streamOf(app, 'rows');
    const peer = await Peer.start(database, 'consume', { stream: 'rows', size: 100, until: 2500 });
    for (let from = 0; from < 2000; from += 100) {
      await rows.appendMany(Array.from({ length: 100 }, (_, index) => ({ n: from + index })));
    }
    // With all that only ours know of a message.
    const options = (n: number) => ({ key: `k${n % 3}`, headers: { origin: 'radar' }, dedupeId: `row ${n}` });
    await Promise.all(Array.from({ length: 500 }, (_, index) => rows.append({ n: 2000 + index }, options(index))));
    await peer.success();

    const windows = peer.said('window') as { n: Int32 }[][];
    expect(windows.map(({ length }) => length)).toEqual(Array.from({ length: 25 }, () => 100));
    const numbers = windows.flat().map(({ n }) => n.valueOf());
    expect(numbers.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 2500 }, (_, n) => n));
    expect((await rows.stats()).buffered).toBe(0);
    const { db } = await database.connect();
    expect(await db?.collection('window').countDocuments()).toBe(0);
  });

  it('by time: all that waits, at the interval in seconds', async () => {
    const database = useDatabase();
    const app = await startApp(database);
    await streamOf(app, 'rows').appendMany([{ n: 0 }, { n: 1 }, { n: 2 }]);
    const peer = await Peer.run(database, 'consume', { stream: 'rows', interval: 1, relaxed: true, until: 3 });
    expect(peer.windows()).toEqual([0, 1, 2].map((n) => ({ n: new Int32(n) })));
  });

  it('every kind of value arrives as it was, in the type that Python has for it', async () => {
    const database = useDatabase();
    const app = await startApp(database);
    const id = new ObjectId();
    const values: readonly [given: unknown, seen: unknown][] = [
      [
        { text: 'Ünï💥 \u0001 \0 ключ', ключ: '💥', '': 'empty key' },
        { text: 'Ünï💥 \u0001 \0 ключ', ключ: '💥', '': 'empty key' },
      ],
      [
        { null: null, true: true, false: false, list: [[], {}, null, undefined], undefined },
        { null: null, true: true, false: false, list: [[], {}, null, null] },
      ],
      // A whole number within 32 bits is an int, any other number a float.
      [
        { int: 1, int32: -(2 ** 31), larger: 2 ** 31, safe: Number.MAX_SAFE_INTEGER },
        {
          int: new Int32(1),
          int32: new Int32(-(2 ** 31)),
          larger: new Double(2 ** 31),
          safe: new Double(Number.MAX_SAFE_INTEGER),
        },
      ],
      // A bigint is an int, whatever its size.
      [
        { one: 1n, most: 2n ** 63n - 1n, least: -(2n ** 63n) },
        { one: Long.fromNumber(1), most: Long.MAX_VALUE, least: Long.MIN_VALUE },
      ],
      [
        { half: 0.5, third: 1 / 3, tiny: 5e-324, minusZero: -0, inf: -Infinity, nan: NaN, large: 1e300 },
        {
          half: new Double(0.5),
          third: new Double(1 / 3),
          tiny: new Double(5e-324),
          minusZero: new Double(-0),
          inf: new Double(-Infinity),
          nan: new Double(NaN),
          large: new Double(1e300),
        },
      ],
      [
        { now: new Date('2026-01-02T03:04:05.678Z'), old: new Date('0001-01-01T00:00:00.000Z') },
        { now: new Date('2026-01-02T03:04:05.678Z'), old: new Date('0001-01-01T00:00:00.000Z') },
      ],
      // Python's own classes make a list of the bytes, also of those that Python appended.
      [{ bytes: Buffer.from([0, 1, 255]) }, { bytes: [new Int32(0), new Int32(1), new Int32(255)] }],
      [
        { id: id.toHexString(), of: [{ a: { b: [{ c: 'd' }] } }], 'dotted.key': { $dollar: true } },
        { id: id.toHexString(), of: [{ a: { b: [{ c: 'd' }] } }], 'dotted.key': { $dollar: true } },
      ],
      [{}, {}],
    ];
    await streamOf(app, 'values').appendMany(values.map(([given]) => given));
    const peer = await Peer.run(database, 'consume', {
      stream: 'values',
      size: values.length,
      until: values.length,
    });
    expect(peer.windows()).toStrictEqual(values.map(([, seen]) => seen));
  });

  it('a text and a list arrive too; null becomes an empty object; a number ends the Python program', async () => {
    const database = useDatabase();
    const app = await startApp(database);
    await streamOf(app, 'values').appendMany(['text', [1, { a: null }], null]);
    const peer = await Peer.run(database, 'consume', { stream: 'values', size: 3, until: 3 });
    expect(peer.windows()).toEqual(['text', [new Int32(1), { a: null }], {}]);

    await streamOf(app, 'values').append(5);
    const ended = await Peer.start(database, 'consume', { stream: 'values', size: 1, until: 1 });
    await expect(ended.process.ended).resolves.toMatchObject({ code: 1 });
    expect(ended.process.output).toContain('TypeError');
  });

  it('a window that Python gives back after a failure is redelivered', async () => {
    const database = useDatabase();
    const app = await startApp(database);
    await streamOf(app, 'rows').append({ n: 0 });
    const peer = await Peer.start(database, 'consume', { stream: 'rows', size: 1, until: 1, hold: true });
    await peer.process.line(/^claimed/);
    peer.process.say('fail');
    await peer.process.line(/^claimed/, 2);
    peer.process.say('ok');
    await peer.success();
    await vi.waitUntil(async () => (await streamOf(app, 'rows').stats()).buffered === 0, SOON);
    expect(peer.said('claimed')).toEqual([[{ n: new Int32(0) }], [{ n: new Int32(0) }]]);
  });
});
