import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../errors/minibatch.error.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import type { ConsumerDefinition } from './engine.interface.js';
import { LEASE, Process, STREAM, turns } from './process.spec.support.js';

const some = () => turns(() => false, 20);
const retry = { base: 100, max: 1_000, jitter: 0, attempts: 50 };

/** Calls that take their time, whatever their signals say. */
class Slow {
  /** Monotonic times of the beginnings. */
  readonly began: number[] = [];
  underWay = 0;
  most = 0;
  readonly settle: (() => void)[] = [];

  constructor(
    private readonly clock: VirtualClock,
    /** Milliseconds; absent: until it is settled by hand. */
    private readonly takes?: number,
  ) {}

  readonly call = (): Promise<void> => {
    this.began.push(this.clock.monotonic());
    this.underWay += 1;
    this.most = Math.max(this.most, this.underWay);
    return new Promise((resolve) => {
      const end = () => {
        this.underWay -= 1;
        resolve();
      };
      if (this.takes === undefined) this.settle.push(end);
      else this.clock.schedule(this.takes, end);
    });
  };
}

function setUp(which: 'handler' | 'sink', takes: number | undefined, options: Partial<ConsumerDefinition['retry']>) {
  const database = new MemoryDatabase();
  const clock = new VirtualClock();
  const slow = new Slow(clock, takes);
  const p = new Process(database, { clock }).consumer({
    size: 1,
    retry: { ...retry, timeout: 300, sinkTimeout: 300, ...options },
    handler: which === 'handler' ? slow.call : () => 1,
    sinks: which === 'sink' ? [{ name: 'Ledger', sink: { put: slow.call } }] : [],
  });
  return { database, clock, slow, p };
}

async function stop(p: Process): Promise<void> {
  const stopping = p.engine.stop(0);
  await p.clock.advance(10_000, some);
  await stopping;
}

describe.each(['handler', 'sink'] as const)('a %s that ignores its timeout', (which) => {
  it('is not called again before it has settled', async () => {
    const { clock, slow, p } = setUp(which, 1_500, {});
    await p.start();
    await p.put(1, 2);
    await some();
    await clock.advance(30_000, some);
    expect(slow.most).toBe(1);
    // The time that it takes, then the backoff.
    expect(slow.began.slice(0, 4)).toEqual([0, 1_600, 3_300, 5_200]);
    expect(p.engine.status()[0]?.lastError?.code).toBe(
      which === 'handler' ? ErrorCode.HandlerTimeout : ErrorCode.SinkTimeout,
    );
    await stop(p);
  });

  it('keeps its worker as long as it hangs, and is named at once', async () => {
    const { database, clock, slow, p } = setUp(which, undefined, {});
    await p.start();
    const since = new Date(clock.now());
    await p.put(1, 2);
    await some();
    await clock.advance(300, some);
    const window = p.seen[0]?.id;
    const named = { window, since, timedOut: true, ...(which === 'sink' ? { sink: 'Ledger' } : {}) };
    expect(p.engine.status()[0]?.unsettled).toEqual([named]);
    await clock.advance(3_600_000, some);
    expect(slow.began).toEqual([0]);
    expect(p.engine.status()[0]?.unsettled).toEqual([named]);
    const lines = p.logged.filter((line) => line.includes('keeps its worker until it settles'));
    expect(lines).toEqual([expect.stringContaining(which === 'sink' ? 'retry.sinkTimeout' : 'retry.timeout')]);
    slow.settle.shift()?.();
    await some();
    await clock.advance(100, some);
    expect(slow.began).toHaveLength(2);
    // In time.
    slow.settle.shift()?.();
    await some();
    slow.settle.shift()?.();
    await some();
    await clock.advance(1_000, some);
    expect((await new MemoryStreamStore(database).stats([STREAM]))[0]?.buffered).toBe(0);
    await stop(p);
  });

  it("is called again while it runs with onTimeout: 'abandon'", async () => {
    const { clock, slow, p } = setUp(which, undefined, { onTimeout: 'abandon' });
    await p.start();
    await p.put(1);
    await some();
    await clock.advance(1_000, some);
    expect(slow.began).toEqual([0, 400, 900]);
    expect(slow.most).toBe(3);
    expect(p.engine.status()[0]?.unsettled).toHaveLength(2);
    await stop(p);
  });

  it('keeps its worker when the process has lost its lease and holds it again', async () => {
    const database = new MemoryDatabase();
    const clock = new VirtualClock();
    const slow = new Slow(clock);
    let cutOff = false;
    const choice = { size: 1, handler: which === 'handler' ? slow.call : () => 1, retry };
    const sinks = which === 'sink' ? [{ name: 'Ledger', sink: { put: slow.call } }] : [];
    const p = new Process(database, {
      clock,
      around: (call) => (cutOff ? Promise.reject(new Error('away')) : call.proceed()),
    }).consumer({ ...choice, sinks });
    await p.start();
    await p.put(1, 2);
    await some();
    expect(slow.began).toHaveLength(1);
    cutOff = true;
    const other = new Process(database, { clock }).consumer({ size: 1, handler: () => new Promise(() => undefined) });
    await Promise.all([other.start(), clock.advance(2 * LEASE, some)]);
    await clock.advance(2 * LEASE, some);
    expect(other.seen).toHaveLength(1);
    cutOff = false;
    await clock.advance(LEASE, some);
    expect(p.engine.status()[0]?.state).toBe('standby');
    const stopping = other.engine.stop(0);
    await clock.advance(3 * LEASE, some);
    await stopping;
    expect(p.engine.status()[0]?.state).toBe('running');
    expect(slow.began).toHaveLength(1);
    slow.settle.shift()?.();
    await some();
    expect(slow.began).toHaveLength(2);
    expect(slow.most).toBe(1);
    await stop(p);
  });
});
