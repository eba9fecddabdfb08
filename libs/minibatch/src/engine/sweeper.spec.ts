import { describe, expect, it } from 'vitest';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { Process, STREAM } from './process.spec.support.js';

const HOUR = 3_600_000;

describe('Sweeper', () => {
  it('forgets dedupe ids when their time is over, and not before', async () => {
    const p = await new Process(new MemoryDatabase(), { engine: { dedupeTime: 2 * HOUR } })
      .consumer({ size: 1 })
      .start();
    const append = async () => {
      const created = new Date(p.clock.now());
      const outcomes = await p.store.append([{ stream: STREAM, data: 1, created, dedupeId: 'once' }]);
      p.engine.wake(STREAM);
      await p.engine.settled();
      return outcomes[0]?.status;
    };
    expect(await append()).toBe('stored');
    await p.advance(1.9 * HOUR);
    expect(await append()).toBe('duplicate');
    await p.advance(0.3 * HOUR);
    expect(await append()).toBe('stored');
    expect(p.seen.length).toBe(2);

    const stopping = p.engine.stop(0);
    await p.clock.advance(10_000);
    await stopping;
  });
});
