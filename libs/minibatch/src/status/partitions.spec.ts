import { describe, expect, it } from 'vitest';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { reportStreams } from './status.report.js';
import { unservedGroups } from './unserved-groups.js';

async function streamWith(...pending: number[]): Promise<MemoryStreamStore> {
  const store = new MemoryStreamStore(new MemoryDatabase());
  await store.ensureStream('s', { partitions: pending.length });
  await store.registerGroup({ stream: 's', group: 'g' });
  for (const [partition, count] of pending.entries()) {
    const messages = Array.from({ length: count }, (_, data) => ({
      stream: 's',
      data,
      created: new Date(0),
      partition,
    }));
    await store.append(messages);
  }
  return store;
}

describe('a stream with partitions', () => {
  it.each([
    { pending: [100, 100, 100, 700], hot: [3] },
    { pending: [100, 100, 100, 300], hot: [] },
    { pending: [0, 0, 0, 99], hot: [] },
    { pending: [0, 0, 0, 100], hot: [3] },
    { pending: [900], hot: [] },
  ])('is shown with those that have too much to do: $pending', async ({ pending, hot }) => {
    const store = await streamWith(...pending);
    const [report] = reportStreams(await store.stats(), [], []);
    expect(report?.stored?.partitions).toBe(pending.length);
    expect(report?.consumers.map(({ stored }) => stored?.pending)).toEqual(pending);
    const marked = report?.consumers.filter(({ stored }) => stored?.hot).map(({ partition }) => partition);
    expect(marked).toEqual(hot);
  });

  it('has a group that is not served if nobody works for one of them', async () => {
    const store = await streamWith(1, 20, 300);
    const owner = { id: 'a', host: 'elsewhere', bootId: '', pid: 1, startTime: '' };
    const leases = [];
    for (const partition of [0, 1]) {
      const key = { stream: 's', group: 'g', partition };
      const [state] = await store.readLeases([key]);
      leases.push((await store.acquireLease(key, owner, state!))!);
    }
    const clock = new VirtualClock();
    const pause = { clock, leaseTime: 1_000, signal: new AbortController().signal };
    const found = unservedGroups(store, await store.listStreams(), () => false, pause);
    await clock.advance(500);
    // The first is renewed, the second is not any more.
    await store.renewLeases(leases.slice(0, 1));
    await clock.advance(500);
    expect(await found).toEqual([{ stream: 's', group: 'g', pending: 320 }]);
  });
});
