import { inspect } from 'node:util';
import { describe, expect, it, vi } from 'vitest';
import { MemoryDatabase, memoryStore, MemoryStreamStore } from '../storage/memory/index.js';
import { mongooseStore } from '../storage/store-definition.js';
import { defineStream, ErrorCode, mongoStore, openStream } from './index.js';

const Flights = defineStream<{ delay: number }>('flights');

describe('openStream', () => {
  it('appends without Nest, and gives the store back', async () => {
    const database = new MemoryDatabase();
    const flights = await openStream(memoryStore({ database }), Flights);
    await expect(flights.append({ delay: 25 }, { dedupeId: '1' })).resolves.toHaveProperty('id');
    await expect(flights.append({ delay: 25 }, { dedupeId: '1' })).resolves.toEqual({ duplicate: true });
    await expect(flights.appendMany([{ delay: 1 }, { delay: 2 }])).resolves.toHaveLength(2);
    await expect(flights.stats()).resolves.toMatchObject({ buffered: 3 });
    await flights.disconnect();
    await expect(flights.append({ delay: 1 })).rejects.toMatchObject({ code: ErrorCode.ShuttingDown });
    const [stored] = await new MemoryStreamStore(database).stats(['flights']);
    expect(stored).toMatchObject({ status: 'open', buffered: 3 });
  });

  it('shows what lies in the stream', async () => {
    const flights = await openStream(memoryStore(), Flights);
    await flights.appendMany([{ delay: 1 }, { delay: 2 }, { delay: 3 }]);
    await flights.drain({ size: 2, keep: true }, () => undefined);
    await flights.append({ delay: 4 });
    const found: string[] = [];
    for await (const { data, state } of flights.messages()) found.push(`${data.delay} ${state}`);
    expect(found).toEqual(['1 kept', '2 kept', '3 kept', '4 waiting']);
    const windows = [];
    for await (const { state, messageIds } of flights.windows()) windows.push([state, messageIds.length]);
    expect(windows).toEqual([
      ['kept', 2],
      ['kept', 1],
    ]);
    await expect(flights.replay()).resolves.toBe(3);
    const again: number[] = [];
    await flights.drain({ size: 10, keep: true }, ({ data }) => void again.push(...data.map(({ delay }) => delay)));
    expect(again).toEqual([4, 1, 2, 3]);
    await flights.disconnect();
    await expect(flights.messages().next()).rejects.toMatchObject({ code: ErrorCode.ShuttingDown });
  });

  it('takes a store of your own, opens it and closes it', async () => {
    const store = new MemoryStreamStore();
    const [open, close] = [vi.spyOn(store, 'open'), vi.spyOn(store, 'close')];
    const flights = await openStream(store, 'flights');
    expect(open).toHaveBeenCalledOnce();
    expect(close).not.toHaveBeenCalled();
    await flights.disconnect();
    expect(close).toHaveBeenCalledOnce();
  });

  it('stops sources before it disconnects', async () => {
    const flights = await openStream<number>(memoryStore(), 'flights');
    const source = flights.attach({
      async *stream(_target, signal) {
        yield 1;
        await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
      },
    });
    await vi.waitUntil(() => source.status.appended === 1);
    await flights.disconnect();
    expect(source.status.state).toBe('stopped');
  });

  it('closes the sinks of its consumers, once each, after their last result', async () => {
    const lines: string[] = [];
    const log = { log: () => undefined, warn: () => undefined, error: (line: string) => void lines.push(line) };
    const numbers = await openStream<number>(memoryStore(), 'numbers', { log });
    const done: string[] = [];
    const sinkOf = (name: string) => ({
      put: () => void done.push(`${name} put`),
      close: () => void done.push(`${name} closed`),
    });
    const shared = sinkOf('shared');
    const stuck = { put: () => undefined, close: () => Promise.reject(new Error('the broker is away')) };
    await numbers.consume({ size: 1, group: 'a', sink: [stuck, shared] }, () => 1);
    await numbers.consume({ size: 1, group: 'b', sink: [shared, { put: () => undefined }] }, () => 2);
    await numbers.append(1);
    await vi.waitUntil(() => done.length === 2);
    await numbers.disconnect();
    expect(done).toEqual(['shared put', 'shared put', 'shared closed']);
    expect(lines).toEqual([expect.stringContaining('closing the sink Object failed: the broker is away')]);
  });

  it('refuses a store that only Nest can make, and a wrong name', async () => {
    await expect(openStream(mongooseStore() as never, 'flights')).rejects.toMatchObject({
      code: ErrorCode.InvalidOptions,
    });
    // As one calls it who comes from Python.
    const error = await openStream('mongodb://ann:S3CRET@db/app' as never, 's').catch((refusal: unknown) => refusal);
    expect(error).toMatchObject({ code: ErrorCode.InvalidOptions });
    expect(inspect(error)).not.toContain('S3CRET');
    for (const uri of [new URL('mongodb://ann:S3CRET@db'), { uri: 'mongodb://ann:S3CRET@db' }, undefined]) {
      expect(() => mongoStore(uri as never)).toThrow(expect.objectContaining({ code: ErrorCode.InvalidOptions }));
    }
    await expect(openStream(memoryStore(), '')).rejects.toMatchObject({ code: ErrorCode.InvalidOptions });
  });

  it('says where MongoDB can’t be reached, without the password', async () => {
    const store = mongoStore('mongodb://me:secret@127.0.0.1:9/x?serverSelectionTimeoutMS=50');
    const error: unknown = await openStream(store, 'flights').catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: ErrorCode.StoreUnavailable });
    expect(String(error)).toContain('mongodb://127.0.0.1:9/x');
    expect(String(error)).not.toContain('secret');
  });
});
