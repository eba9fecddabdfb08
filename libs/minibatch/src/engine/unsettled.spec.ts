import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../errors/minibatch.error.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import type { Window } from '../windows/window.js';
import { Process, STREAM, turns } from './process.spec.support.js';

const some = () => turns(() => false, 20);
const retry = { base: 1_000, max: 60_000, jitter: 0, attempts: 5 };

function setUp() {
  const database = new MemoryDatabase();
  const plain = new MemoryStreamStore(database);
  return { database, buffered: async () => (await plain.stats([STREAM]))[0]?.buffered };
}

async function stop(process: Process): Promise<void> {
  const stopping = process.engine.stop(0);
  await process.clock.advance(10_000, some);
  await stopping;
}

describe('what never settles', () => {
  it.each(['handler', 'sink'] as const)('is named in the log, once, and in the status: a %s', async (which) => {
    const { database, buffered } = setUp();
    let settle = (): void => undefined;
    const hang = () => new Promise<void>((resolve) => (settle = resolve));
    const p = await new Process(database)
      .consumer({
        size: 1,
        retry,
        handler: which === 'handler' ? hang : () => 1,
        sinks: [{ name: 'Ledger', sink: { put: which === 'sink' ? hang : () => undefined } }],
      })
      .start();
    const began = p.clock.now();
    await p.put(0);
    await some();
    await p.clock.advance(59_000, some);
    expect(p.engine.status()[0]).not.toHaveProperty('unsettled');
    await p.clock.advance(10_000, some);
    const window = p.seen[0]?.id;
    expect(p.engine.status()[0]?.unsettled).toEqual([
      { window, since: new Date(began), ...(which === 'sink' ? { sink: 'Ledger' } : {}) },
    ]);
    await p.clock.advance(600_000, some);
    const option = which === 'sink' ? 'retry.sinkTimeout' : 'retry.timeout';
    const lines = p.logged.filter((line) => line.includes('has not settled'));
    expect(lines).toEqual([expect.stringContaining(`for window ${window} since ${new Date(began).toISOString()}`)]);
    expect(lines[0]).toContain(option);
    settle();
    await turns(() => false, 100);
    expect(p.engine.status()[0]).not.toHaveProperty('unsettled');
    await p.clock.advance(1_000, some);
    expect(await buffered()).toBe(0);
    await stop(p);
  });

  it('is a failed try of a sink after retry.sinkTimeout, and what it says later counts no more', async () => {
    const { database, buffered } = setUp();
    const tries: { readonly signal: AbortSignal; readonly settle: () => void }[] = [];
    const views = new Set<Window>();
    const put = (_: unknown, window: Window) => {
      views.add(window);
      return new Promise<void>((settle) => tries.push({ signal: window.signal, settle }));
    };
    const p = await new Process(database)
      .consumer({
        size: 1,
        retry: { ...retry, sinkTimeout: 5_000, onTimeout: 'abandon' },
        handler: () => 1,
        sinks: [{ name: 'Ledger', sink: { put } }],
      })
      .start();
    await p.put(0);
    await turns(() => tries.length === 1);
    await p.clock.advance(4_999, some);
    expect(tries[0]?.signal.aborted).toBe(false);
    await p.clock.advance(1, some);
    expect(tries[0]?.signal.reason).toMatchObject({ code: ErrorCode.SinkTimeout });
    expect(p.engine.status()[0]).toMatchObject({
      activity: 'blocked',
      sinkFailures: 1,
      lastError: {
        code: ErrorCode.SinkTimeout,
        message: expect.stringContaining('sink Ledger did not settle within 5000 ms (retry.sinkTimeout)'),
      },
    });
    tries[0]?.settle();
    await some();
    expect(await buffered()).toBe(1);
    await p.clock.advance(1_000, some);
    expect(tries).toHaveLength(2);
    expect(tries[1]?.signal.aborted).toBe(false);
    tries[1]?.settle();
    await turns(() => false, 100);
    await p.clock.advance(1_000, some);
    expect(await buffered()).toBe(0);
    expect([...views]).toHaveLength(1);
    expect(p.seen).toHaveLength(1);
    await stop(p);
  });
});
