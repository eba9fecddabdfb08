import { describe, expect, it, vi } from 'vitest';
import { openStream } from '../client/index.js';
import { ErrorCode } from '../errors/minibatch.error.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import { STORES } from '../storage/stores.spec.support.js';
import type { Window } from '../windows/window.js';
import type { RunningConsumer } from './run-time-consumers.js';
import { virtualConsumers } from './run-time-consumers.spec.support.js';

const SOON = { timeout: 50_000, interval: 5 };

function setUp() {
  const store = new MemoryStreamStore();
  const buffered = async () => (await store.stats(['numbers']))[0]?.buffered;
  return { ...virtualConsumers(store), buffered };
}

describe('a function that stops its own consumer', () => {
  it('is committed if it does not wait for that', async () => {
    const { clock, consumers, append, buffered, end } = setUp();
    let stopped: unknown;
    const consumer: RunningConsumer = await consumers.consume('numbers', { size: 1 }, () => {
      void consumer.stop().then((result) => (stopped = result));
    });
    await append(1);
    await append(2);
    await clock.advance(100);
    expect(stopped).toEqual({ drained: 1, abandoned: 0 });
    expect(await buffered()).toBe(1);
    await end();
  });

  it('is told of it if it waits, and its window is redelivered', async () => {
    const { clock, lines, consumers, append, buffered, end } = setUp();
    const stopped: unknown[] = [];
    const consumer: RunningConsumer = await consumers.consume('numbers', { size: 1 }, async () => {
      stopped.push(await consumer.stop());
    });
    await append(1);
    await clock.advance(8_000);
    expect(stopped).toEqual([{ drained: 0, abandoned: 1 }]);
    const method = /consume of 'numbers': the method with window \S+ since \S+/.source;
    expect(lines).toContainEqual(
      expect.stringMatching(new RegExp(`^stopping consume of 'numbers', waiting for 5000 ms at most for ${method}`)),
    );
    expect(lines).toContainEqual(
      expect.stringMatching(
        new RegExp(`^stopping without waiting any longer for ${method}\\. A method that awaits stop`),
      ),
    );
    const seen: unknown[] = [];
    await consumers.consume('numbers', { size: 1 }, ({ data }: Window) => void seen.push(...data));
    await clock.advance(1_000);
    expect([seen, await buffered()]).toEqual([[1], 0]);
    await end();
  });
});

describe.each(STORES)('what a function asks of its own stream, on %s', (_, open) => {
  it('has an answer while it runs', async () => {
    const { store, dispose } = await open();
    const numbers = await openStream<number>(store, 'numbers', { log: { log() {}, warn() {}, error() {} } });
    const refused = (call: Promise<unknown>) =>
      call.then(
        () => 'no error',
        (error: unknown) => (error as { code?: unknown }).code,
      );
    const answers: unknown[] = [];
    await numbers.consume({ size: 1 }, async () => {
      if (answers.length > 0) return;
      answers.push(
        await refused(numbers.drain({ size: 1 }, () => undefined)),
        await refused(numbers.removeGroup('default')),
        await refused(numbers.drain({ size: 10, group: 'another' }, () => undefined)),
        await refused(numbers.drop()),
      );
    });
    await numbers.append(1);
    await vi.waitUntil(() => answers.length > 0, SOON);
    expect(answers).toEqual([ErrorCode.DuplicateGroup, ErrorCode.GroupInUse, 'no error', 'no error']);
    await numbers.disconnect();
    await dispose();
  });
});
