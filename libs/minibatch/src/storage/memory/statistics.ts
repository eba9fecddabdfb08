import type { ConsumerKey, ConsumerStats, StreamStats } from '../stream-store.interface.js';
import { stateOf } from './leases.js';
import type { MemoryDatabase } from './memory.database.js';
import { isVisible, type MemoryStream } from './memory.stream.js';
import type { BufferedEntry } from './message-list.js';
import { infoOf } from './streams.js';

/** Counts on each call: nothing is kept up to date in between. */
export function streamStats(database: MemoryDatabase, names: readonly string[] | undefined): StreamStats[] {
  return database.pick(names).map((stream) => {
    const entries = [...stream.messages.after(undefined)];
    const oldest = entries.reduce((least, { created }) => Math.min(least, created), Number.POSITIVE_INFINITY);
    return {
      ...infoOf(stream),
      buffered: entries.length,
      ...(entries.length > 0 && { oldest: new Date(oldest) }),
      deadLetters: stream.letters.size,
      consumers: [...stream.groups].flatMap((group) => consumerStats(stream, group, entries)),
    };
  });
}

export function countMessages(database: MemoryDatabase, name: string): number {
  return database.streams.get(name)?.messages.size ?? 0;
}

export function pollToken(database: MemoryDatabase, key: ConsumerKey): string {
  const stream = database.streams.get(key.stream);
  return stream === undefined ? '' : `${stream.serial}.${stream.revision}`;
}

function consumerStats(stream: MemoryStream, group: string, entries: readonly BufferedEntry[]): ConsumerStats[] {
  return [...stream.consumers.values()]
    .filter((consumer) => consumer.group === group)
    .map((consumer) => {
      const { partition, progress, windows, note } = consumer;
      const key = { stream: stream.name, group, partition };
      return {
        group,
        partition,
        lease: stateOf(consumer),
        progress: { ...progress },
        openWindows: windows.size,
        pending: entries.filter((entry) => isVisible(entry, key)).length,
        ...(note !== undefined && { note }),
      };
    });
}
