import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type OpenStream, openStream } from '../client/index.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { GROWTH_NOTICE } from '../storage/partitions.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import { type OpenedStore, STORES } from '../storage/stores.spec.support.js';
import { virtualConsumers } from './run-time-consumers.spec.support.js';

const log = { log() {}, warn() {}, error() {} };
const SOON = { timeout: 50_000 };

describe.each(STORES)('consumers at run time on %s', (_, open) => {
  let opened: OpenedStore;
  let numbers: OpenStream<number>;
  beforeEach(async () => {
    opened = await open();
    numbers = await openStream<number>(opened.store, 'numbers', { log, shutdownTimeout: 10_000 });
  });
  afterEach(async () => {
    await numbers.disconnect();
    await opened.dispose();
  });

  it('hands over windows until it is stopped, and leaves the group', async () => {
    const windows: (readonly number[])[] = [];
    const consumer = await numbers.consume({ size: 2, group: 'sums' }, ({ data }) => {
      windows.push(data);
    });
    expect(consumer).toMatchObject({ stream: 'numbers', group: 'sums' });
    await numbers.appendMany([1, 2, 3]);
    await vi.waitUntil(() => windows.length === 1, SOON);
    await consumer.stop();
    await numbers.append(4);
    expect(windows).toEqual([[1, 2]]);
    await expect(numbers.stats()).resolves.toMatchObject({ consumers: [{ group: 'sums', pending: 2 }] });

    await using again = await numbers.consume({ size: 2, group: 'sums' }, ({ data }) => {
      windows.push(data);
    });
    await vi.waitUntil(() => windows.length === 2, SOON);
    expect(windows).toEqual([
      [1, 2],
      [3, 4],
    ]);
    expect(again.group).toBe('sums');
  });

  it('waits for what is in flight when it is stopped', async () => {
    let go = (): void => undefined;
    const gate = new Promise<void>((resolve) => {
      go = resolve;
    });
    const begun = vi.fn();
    const consumer = await numbers.consume({ size: 1 }, async () => {
      begun();
      await gate;
    });
    await numbers.append(1);
    await vi.waitUntil(() => begun.mock.calls.length === 1, SOON);
    const stopped = consumer.stop();
    expect(consumer.stop()).toBe(stopped);
    go();
    await expect(stopped).resolves.toEqual({ drained: 1, abandoned: 0 });
    await expect(numbers.stats()).resolves.toMatchObject({ buffered: 0 });
  });

  it('refuses a second consumer of a group until the first has stopped', async () => {
    const first = await numbers.consume({ size: 1 }, () => undefined);
    await expect(numbers.consume({ size: 1 }, () => undefined)).rejects.toMatchObject({
      code: ErrorCode.DuplicateGroup,
    });
    await first.stop();
    const second = await numbers.consume({ size: 1 }, () => undefined);
    await second.stop();
  });

  it('hands results to sinks', async () => {
    const put = vi.fn<(sum: number) => Promise<void>>(async () => undefined);
    await numbers.appendMany([1, 2, 3]);
    await numbers.drain({ size: 3, sink: { put } }, ({ data }) => data.reduce((sum, each) => sum + each, 0));
    expect(put.mock.calls.map(([sum]) => sum)).toEqual([6]);
  });

  it('drains what is there, the last window too', async () => {
    const windows: (readonly number[])[] = [];
    const take = ({ data }: { readonly data: readonly number[] }) => {
      windows.push(data);
    };
    await numbers.appendMany([1, 2, 3, 4, 5]);
    const counts = { deadLettered: 0, failures: 0 };
    await expect(numbers.drain({ size: 2, group: 'sums' }, take)).resolves.toEqual({
      windows: 3,
      messages: 5,
      ...counts,
    });
    expect(windows).toEqual([[1, 2], [3, 4], [5]]);
    await expect(numbers.drain({ size: 2, group: 'sums' }, take)).resolves.toEqual({
      windows: 0,
      messages: 0,
      ...counts,
    });
    void numbers.append(6);
    await expect(numbers.drain({ interval: '1h', group: 'sums' }, take)).resolves.toMatchObject({ messages: 1 });
    expect(windows.at(-1)).toEqual([6]);
  });

  it('counts failures and dead letters of a drain', async () => {
    await numbers.appendMany([1, 2, 3]);
    const retry = { attempts: 1, backoff: 1, jitter: 0 };
    const drained = await numbers.drain({ size: 3, retry }, ({ data }) => {
      if (data.includes(2)) throw new Error('two');
    });
    expect(drained).toMatchObject({ deadLettered: 1 });
    expect(drained.failures).toBeGreaterThan(0);
    await expect(numbers.stats()).resolves.toMatchObject({ buffered: 0, deadLetters: 1 });
  });

  it('rejects a drain that is aborted, or of a paused stream', async () => {
    await numbers.append(1);
    const controller = new AbortController();
    const reason = new Error('enough');
    const aborted = numbers.drain({ size: 1, signal: controller.signal }, async () => {
      controller.abort(reason);
    });
    await expect(aborted).rejects.toBe(reason);
    await numbers.append(2);
    await numbers.pause();
    await expect(numbers.drain({ size: 1 }, () => undefined)).rejects.toMatchObject({
      code: ErrorCode.DrainBlocked,
      details: { stream: 'numbers', group: 'default', activity: 'paused' },
    });
  });

  it('refuses wrong options, and everything after the end', async () => {
    const wrong = { code: ErrorCode.InvalidOptions };
    await expect(numbers.consume({ sise: 2 } as never, () => undefined)).rejects.toMatchObject(wrong);
    await expect(numbers.consume({ size: 2 }, undefined as never)).rejects.toMatchObject(wrong);
    await expect(numbers.consume({ size: 2, sink: 'token' }, () => undefined)).rejects.toMatchObject(wrong);
    await expect(numbers.drain({ size: 2, signal: 1 as never }, () => undefined)).rejects.toMatchObject(wrong);
    await expect(numbers.drain(undefined as never, () => undefined)).rejects.toMatchObject(wrong);
    await numbers.disconnect();
    await expect(numbers.consume({ size: 2 }, () => undefined)).rejects.toMatchObject({ code: ErrorCode.ShuttingDown });
    await expect(numbers.drain({ size: 2 }, () => undefined)).rejects.toMatchObject({ code: ErrorCode.ShuttingDown });
  });
});

describe('a drain of a stream that has just grown', () => {
  async function growing() {
    const store = new MemoryStreamStore();
    await store.ensureStream('numbers', { partitions: 2 });
    const virtual = virtualConsumers(store);
    await virtual.append(1);
    const at = new Date(virtual.clock.now() + GROWTH_NOTICE);
    await store.updateStream('numbers', { grow: { partitions: 4, at } });
    return { ...virtual, store, at };
  }

  it('waits until the new partitions may begin', async () => {
    const { clock, store, consumers, at, end } = await growing();
    const message = { stream: 'numbers', data: 2, created: at, partition: 2 };
    await store.append([message]);
    const outcome = consumers.drain('numbers', { size: 1 }, () => undefined).catch((error: unknown) => error);
    await clock.advance(60_000);
    expect(await outcome).toMatchObject({ windows: 2, messages: 2 });
    await end();
  });

  it('names the partition that new ones wait for, if that is blocked', async () => {
    const { clock, consumers, end } = await growing();
    const outcome = consumers
      .drain('numbers', { size: 1, onAllFailed: 'block' }, () => {
        throw new Error('away');
      })
      .catch((error: unknown) => error);
    await clock.advance(30 * 60_000);
    expect(await outcome).toMatchObject({
      code: ErrorCode.DrainBlocked,
      message: expect.stringMatching(/partition [23] is held back until partition [01] has committed/),
    });
    await end();
  });
});

describe('a drain that makes no progress', () => {
  /** What it rejects with. */
  async function failureOf(store: MemoryStreamStore, options: object): Promise<unknown> {
    const { clock, consumers, append, end } = virtualConsumers(store);
    await append(1);
    const failure = consumers
      .drain('numbers', { size: 1, ...options }, () => 1)
      .then(
        () => undefined,
        (error: unknown) => error,
      );
    await clock.advance(60_000);
    await end();
    return failure;
  }

  it('rejects, naming the sink error, if a sink does not take a result', async () => {
    const sink = { put: () => Promise.reject(new Error('full')) };
    const retry = { attempts: 1, backoff: 50, maxBackoff: 50, jitter: 0 };
    expect(await failureOf(new MemoryStreamStore(), { sink, retry })).toMatchObject({
      code: ErrorCode.DrainBlocked,
      details: { activity: 'blocked', windows: 0 },
      message: expect.stringContaining('full'),
    });
  });

  it("rejects, naming the store's error, if its group can't be registered", async () => {
    const store = new MemoryStreamStore();
    const denied = new MinibatchError(ErrorCode.StoreDenied, 'no right to write');
    store.registerGroup = () => Promise.reject(denied);
    expect(await failureOf(store, {})).toMatchObject({
      code: ErrorCode.DrainBlocked,
      details: { activity: 'unavailable', windows: 0 },
      message: expect.stringMatching(/: the store does not answer, or denies a right: no right to write/),
    });
  });
});
