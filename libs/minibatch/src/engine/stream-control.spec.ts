import { describe, expect, it } from 'vitest';
import { Activity } from '../common/activity.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { wrapStore } from '../testing/wrapped-store.js';
import type { ConsumerRecord, ConsumerRecords } from './consumer-records.js';
import type { ConsumerPartitions } from './consumer-partitions.js';
import type { ConsumerRegistration } from './consumer-registration.js';
import type { EngineParts } from './lease-term.js';
import { StreamControl } from './stream-control.js';

describe('what consumers of a stream were asked for', () => {
  const recordOf = (group: string) =>
    ({
      definition: { key: { stream: 's', group, partition: 0 } },
      current: { loop: { setPaused() {}, setClearings() {}, setRequests() {}, setGrowths() {}, flush() {} } },
    }) as unknown as ConsumerRecord;

  it('is read once as long as a consumer holds a lease, and forgotten with the last one', async () => {
    let reads = 0;
    const store = wrapStore(new MemoryStreamStore(new MemoryDatabase()), (call) => {
      if (call.method === 'listStreams') reads += 1;
      return call.proceed();
    });
    await store.ensureStream('s');
    const clock = new VirtualClock();
    const activity = new Activity();
    const active = new Set([recordOf('a'), recordOf('b')]);
    const control = new StreamControl(
      { store, clock, activity, options: { leaseTime: 1_000 } } as unknown as EngineParts,
      { of: () => [...active], isConsumed: () => active.size > 0 } as unknown as ConsumerRecords,
      {} as ConsumerRegistration,
      { follow: () => undefined } as unknown as ConsumerPartitions,
      { holding: () => [] },
    );
    const readsOf = async (count: number) => {
      const before = reads;
      control.asked('s', count);
      await activity.idle();
      return reads - before;
    };
    expect([await readsOf(2), await readsOf(2), await readsOf(3)]).toEqual([1, 0, 1]);
    for (const [group, expected] of [
      ['a', 0],
      ['b', 1],
    ] as const) {
      const [record] = [...active].filter(({ definition }) => definition.key.group === group);
      active.delete(record!);
      control.ended(record!);
      expect(await readsOf(3), group).toBe(expected);
    }
    // Nobody consumes it here: that read left nothing, either.
    expect(await readsOf(3)).toBe(1);
  });
});
