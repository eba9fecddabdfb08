import { asReplayed, isReplayed, originalOf } from '../encoded-message.js';
import type { KeptRange } from '../stream-store.interface.js';
import type { MemoryDatabase } from './memory.database.js';
import type { BufferedEntry } from './message-list.js';

/** Puts copies of kept messages into the buffer, for one group. Returns how many. */
export function replayMessages(database: MemoryDatabase, name: string, group: string, range: KeptRange): number {
  const stream = database.streams.get(name);
  if (!stream?.groups.has(group)) return 0;
  const waiting = new Set<number | undefined>();
  for (const { encoded, doneBy } of stream.messages.after(undefined)) {
    if (isReplayed(encoded) && !doneBy.has(group)) waiting.add(originalOf(encoded));
  }
  let copies = 0;
  for (const entry of stream.kept.after(undefined)) {
    const { id, partition, created, encoded } = entry;
    const original = Number.parseInt(id, 16);
    if (!isInRange(entry, range) || waiting.has(original)) continue;
    stream.putBack(group, { id: database.nextId(), partition, created, encoded: asReplayed(encoded, original) });
    copies += 1;
  }
  return copies;
}

function isInRange({ id, created }: BufferedEntry, { from, to, created: time }: KeptRange): boolean {
  if ((from !== undefined && id < from) || (to !== undefined && id >= to)) return false;
  return created >= (time?.from?.getTime() ?? -Infinity) && created < (time?.to?.getTime() ?? Infinity);
}
