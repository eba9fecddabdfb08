import { asReplayed } from '../encoded-message.js';
import type { KeptRange, MessageId } from '../stream-store.interface.js';
import type { MemoryDatabase } from './memory.database.js';
import type { BufferedEntry } from './message-list.js';

/** Puts copies of kept messages into the buffer, for one group. Returns how many. */
export function replayMessages(database: MemoryDatabase, name: string, group: string, range: KeptRange): number {
  const stream = database.streams.get(name);
  if (!stream?.groups.has(group)) return 0;
  const waiting = new Set<MessageId>();
  for (const { origin, doneBy } of stream.messages.after(undefined)) {
    if (origin !== undefined && !doneBy.has(group)) waiting.add(origin);
  }
  let copies = 0;
  for (const entry of stream.kept.after(undefined)) {
    const { id: origin, partition, created, encoded } = entry;
    if (!isInRange(entry, range) || waiting.has(origin)) continue;
    stream.putBack(group, { id: database.nextId(), partition, created, encoded: asReplayed(encoded), origin });
    copies += 1;
  }
  return copies;
}

function isInRange({ id, created }: BufferedEntry, { from, to, created: time }: KeptRange): boolean {
  if ((from !== undefined && id < from) || (to !== undefined && id >= to)) return false;
  return created >= (time?.from?.getTime() ?? -Infinity) && created < (time?.to?.getTime() ?? Infinity);
}
