import { afterEach, describe, expect, it } from 'vitest';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import { LEASE, Process, STREAM } from './process.spec.support.js';

/** As far apart as MongoDB's. */
class Remote extends MemoryStreamStore {
  override readonly polling = { busy: 50, idle: 2_000 };
}

const HOUR = 3_600_000;

describe('what other processes ask of a stream', () => {
  let process: Process | undefined;
  afterEach(async () => {
    const stopping = process?.engine.stop(0);
    await process?.advance(10_000);
    await stopping;
  });

  const start = async () => {
    const database = new MemoryDatabase();
    const looks: number[] = [];
    const p = new Process(database, {
      store: new Remote(database),
      around: (call) => {
        if (call.method === 'listStreams') looks.push(p.clock.monotonic());
        return call.proceed();
      },
    });
    process = p;
    await p.consumer({ size: 100 }).start();
    return { p, looks, other: new Remote(database) };
  };

  it('is seen within ten polls while messages come', async () => {
    const { p, other } = await start();
    for (let n = 0; n < 20; n += 1) {
      await p.append(n);
      await p.advance(100);
    }
    await other.updateStream(STREAM, { flush: true });
    await p.advance(500);
    expect(p.values).toHaveLength(20);
    await p.append(20);
    await other.updateStream(STREAM, { flush: true });
    await p.advance(500);
    expect(p.values).toHaveLength(21);
  });

  it('is seen within the longest poll while a tail waits', async () => {
    const { p, other } = await start();
    await p.append(1, 2);
    await p.advance(HOUR);
    await other.updateStream(STREAM, { flush: true });
    await p.advance(2_000);
    expect(p.values).toEqual([1, 2]);
  });

  it('is looked for by the rounds of leases alone while nothing is there', async () => {
    const { p, looks } = await start();
    await p.append(...Array.from({ length: 100 }, (_, n) => n));
    await p.advance(60_000);
    looks.length = 0;
    await p.advance(60_000);
    // A round each third of the lease time, at the most.
    expect(looks.length).toBeLessThanOrEqual(60_000 / (LEASE / 3) + 1);
    expect(looks.length).toBeGreaterThan(0);
  });

  it('is checked less and less often while a tail only waits', async () => {
    const { p, looks } = await start();
    await p.append(1);
    await p.advance(60_000);
    looks.length = 0;
    await p.advance(60_000);
    expect(looks.length).toBeLessThanOrEqual(60_000 / 2_000 + 60_000 / (LEASE / 3) + 2);
  });
});
