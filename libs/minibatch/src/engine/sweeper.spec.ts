import { describe, expect, it } from 'vitest';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { Process, STREAM } from './process.spec.support.js';
import { Activity } from '../common/activity.js';
import { Ages } from '../common/ages.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { Sweeper, type SweptStream } from './sweeper.js';

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

  it('forgets when it was to sweep a stream that it has not swept for hours', async () => {
    const clock = new VirtualClock();
    const store = new MemoryStreamStore();
    const sweeps: number[] = [];
    store.discard = async () => sweeps.push(clock.monotonic());
    const swept: SweptStream = { stream: 's', consumed: true, retention: { deadLetters: 30 * 24 * HOUR } };
    let streams = [swept];
    const log = () => undefined;
    const activity = new Activity();
    const sweeper = new Sweeper(
      store,
      clock,
      new Ages(clock),
      { log, warn: log, error: log },
      activity,
      HOUR,
      () => streams,
      () => undefined,
    );
    const advance = (ms: number) => clock.advance(ms, () => activity.idle());
    sweeper.start();
    await advance(1);
    streams = [];
    await advance(10 * HOUR);
    streams = [swept];
    sweeper.refresh();
    await advance(1);
    expect(sweeps).toEqual([]);
    await advance(2 * HOUR);
    expect(sweeps.length).toBeGreaterThan(0);
    sweeper.stop();
  });
});
