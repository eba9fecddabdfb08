import type { Lease, SettledWindow, SettleOptions } from '../stream-store.interface.js';
import { held } from './leases.js';
import type { MemoryDatabase } from './memory.database.js';

/** What follows the commit point: messages and windows leave, or are kept. @throws LeaseLost */
export function settle(
  database: MemoryDatabase,
  lease: Lease,
  windows: readonly SettledWindow[],
  { groups, keep, at = new Date() }: SettleOptions,
): void {
  const { stream, consumer } = held(database, lease);
  const { group, partition } = lease.key;
  // A group that was removed after the commit point holds nothing back.
  const waiting = groups.filter((other) => other !== group && stream.groups.has(other));
  for (const { window, messages } of windows) {
    for (const { id } of messages) {
      const entry = stream.messages.get(id);
      if (entry === undefined) continue;
      entry.doneBy.add(group);
      if (keep) entry.kept = true;
      if (waiting.every((other) => entry.doneBy.has(other))) stream.remove(entry, at);
    }
    const claimed = consumer.windows.get(window.seq);
    consumer.windows.delete(window.seq);
    if (claimed !== undefined && keep) stream.keptWindows.add({ settled: at, group, partition, window: claimed });
  }
}
