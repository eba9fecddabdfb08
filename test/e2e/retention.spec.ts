import 'reflect-metadata';
import { Injectable, type Provider } from '@nestjs/common';
import {
  defineStream,
  ErrorCode,
  memoryStore,
  type MinibatchError,
  MinibatchModule,
  StatusService,
  Streaming,
  StreamService,
  type Window,
} from 'nestjs-minibatch';
import { MinibatchHarness, MinibatchTestingModule } from 'nestjs-minibatch/testing';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { bootError, closeAll, start } from './support/applications.js';
import { type Place, PLACES } from './support/places.js';

interface Row {
  readonly row: number;
}
const Rows = defineStream<Row>('rows', {
  maxAge: { buffered: '20 minutes', kept: '20 minutes', deadLetters: '40 minutes' },
  maxBuffered: 50,
});

@Injectable()
class Report {
  readonly seen: number[] = [];

  @Streaming(Rows, { size: 10, keep: true, rateLimit: { windows: 2, per: '1 minute' }, retry: { attempts: 1 } })
  handle(window: Window<Row>): void {
    for (const { row } of window.data) if (row < 0) throw new Error('negative');
    this.seen.push(...window.data.map(({ row }) => row));
  }
}

const upTo = (count: number, from = 0): Row[] => Array.from({ length: count }, (_, row) => ({ row: from + row }));
const numbers = (count: number, from = 0): number[] => upTo(count, from).map(({ row }) => row);

afterEach(closeAll);

describe.each(PLACES)('a stream with limits, in %s', (_, makePlace) => {
  let place: Place;
  beforeEach(() => {
    place = makePlace();
  });

  async function run(providers: Provider[]) {
    // With the usual one there would be a renewal every five seconds of the time that goes by.
    const testing = MinibatchTestingModule.forRoot({ store: place.store, leaseTime: '1 hour' });
    const app = await start({
      imports: [...place.imports, testing, MinibatchModule.forFeature([Rows])],
      providers,
    });
    const rows = app.get(StreamService, { strict: false }).stream(Rows);
    const status = () => app.get(StatusService, { strict: false }).stream('rows');
    return { app, harness: app.get(MinibatchHarness), rows, status };
  }

  it('loses what is too old, unhandled, and counts it', async () => {
    const { app, harness, rows, status } = await run([Report]);
    await harness.appendMany(Rows, upTo(15));
    await harness.advance('15 minutes');
    await harness.append(Rows, { row: 15 });
    await harness.advance('8 minutes');
    expect(app.get(Report).seen).toEqual(numbers(10));
    expect(await status()).toMatchObject({ stored: { buffered: 1 }, consumers: [{ local: { expired: 5 } }] });
    await harness.appendMany(Rows, upTo(9, 16));
    expect(app.get(Report).seen).toEqual([...numbers(10), ...numbers(10, 15)]);
    expect((await rows.stats()).buffered).toBe(0);
  });

  it('is emptied by a clear, but for what comes after it', async () => {
    const { app, harness, rows } = await run([Report]);
    await rows.pause();
    await harness.appendMany(Rows, upTo(25));
    await rows.clear();
    await harness.append(Rows, { row: 25 });
    expect((await rows.stats()).buffered).toBe(1);
    await rows.resume();
    await harness.appendMany(Rows, upTo(9, 26));
    expect(app.get(Report).seen).toEqual(numbers(10, 25));
    expect((await rows.stats()).buffered).toBe(0);
  });

  it('is emptied where nobody consumes it, by a clear and by age', async () => {
    const { harness, rows } = await run([]);
    await harness.appendMany(Rows, upTo(5));
    await rows.clear();
    expect((await rows.stats()).buffered).toBe(0);
    await harness.appendMany(Rows, upTo(5));
    await harness.advance('19 minutes');
    expect((await rows.stats()).buffered).toBe(5);
    await harness.advance('3 minutes');
    expect((await rows.stats()).buffered).toBe(0);
  });

  it('takes no more than it may hold', async () => {
    const { harness, rows } = await run([]);
    await harness.appendMany(Rows, upTo(50));
    await expect(rows.append({ row: 50 })).rejects.toMatchObject({ code: ErrorCode.StreamFull, stored: 'no' });
    await rows.clear();
    await harness.advance('2s');
    await rows.append({ row: 51 });
    expect((await rows.stats()).buffered).toBe(1);
  });

  it('holds windows back to their rate', async () => {
    const { app, harness, rows, status } = await run([Report]);
    await harness.appendMany(Rows, upTo(45));
    await harness.advance('30s');
    expect(app.get(Report).seen.length).toBe(20);
    expect(await status()).toMatchObject({ consumers: [{ local: { activity: 'throttled' } }] });
    await harness.advance('1 minute');
    expect(app.get(Report).seen).toEqual(numbers(40));
    expect((await rows.stats()).buffered).toBe(5);
  });

  it('refuses what its own consumer would wait for without end', async () => {
    const Full = defineStream<Row>('full', { maxBuffered: 2, overflow: 'wait' });
    const codes: unknown[] = [];
    @Injectable()
    class Echo {
      constructor(private readonly streams: StreamService) {}

      @Streaming(Full, { size: 2, workers: 1, retry: { backoff: 10 } })
      async handle(): Promise<void> {
        if (codes.length > 0) return;
        await this.streams.append(Full, { row: 2 }).catch((error: MinibatchError) => codes.push(error.code));
      }
    }
    const app = await start({
      imports: [...place.imports, MinibatchModule.forRoot({ store: place.store }), MinibatchModule.forFeature([Full])],
      providers: [Echo],
    });
    const full = app.get(StreamService, { strict: false }).stream(Full);
    await full.appendMany(upTo(2));
    await vi.waitUntil(() => codes.length > 0, { timeout: 30_000, interval: 50 });
    expect(codes).toEqual([ErrorCode.StreamFull]);
    await vi.waitUntil(async () => (await full.stats()).buffered === 0, { timeout: 30_000, interval: 50 });
  });

  it('forgets what it kept, and its dead letters', async () => {
    const { harness, rows } = await run([Report]);
    await harness.appendMany(Rows, [...upTo(9), { row: -1 }]);
    // Taken apart, at the rate of its windows.
    await harness.advance('10 minutes');
    expect((await rows.stats()).deadLetters).toBe(1);
    await harness.advance('25 minutes');
    expect((await rows.stats()).deadLetters).toBe(1);
    await harness.advance('10 minutes');
    expect((await rows.stats()).deadLetters).toBe(0);
  });
});

describe('bad limits', () => {
  it('that differ between two definitions of a stream stop the boot', async () => {
    const Others = defineStream<Row>('rows', { maxAge: '2 hours' });
    const testing = MinibatchTestingModule.forRoot({ store: memoryStore() });
    const error = await bootError({ imports: [testing, MinibatchModule.forFeature([Others])], providers: [Report] });
    expect(error).toMatchObject({ code: ErrorCode.InvalidOptions, details: { stream: 'rows' } });
  });
});
