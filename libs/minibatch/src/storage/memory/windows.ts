import { decodeMessage } from '../encoded-message.js';
import type {
  Block,
  ConsumerKey,
  FetchLimits,
  MessageId,
  WindowPage,
  WindowRecord,
} from '../stream-store.interface.js';
import { copyWindow } from './claims.js';
import type { MemoryDatabase } from './memory.database.js';
import { readBlock } from './reads.js';

/** Reading windows and kept messages: read-only, and without a lease. */

export function readWindows(
  database: MemoryDatabase,
  key: ConsumerKey,
  state: 'claimed' | 'kept',
  after: string | undefined,
  limit: number,
): WindowPage {
  const stream = database.streams.get(key.stream);
  if (stream === undefined) return { windows: [] };
  if (state === 'kept') return stream.keptWindows.page(key.group, key.partition, after, limit);
  const { windows = new Map<number, WindowRecord>(), finished = [] } = stream.consumer(key) ?? {};
  const claimed = [...windows.values()].sort((a, b) => a.seq - b.seq);
  return {
    windows: claimed.map((window) => ({
      ...copyWindow(window),
      ...(finished.includes(window.seq) && { finished: true as const }),
    })),
  };
}

export function findWindow(database: MemoryDatabase, key: ConsumerKey, window: string): WindowRecord | undefined {
  const { windows = new Map<number, WindowRecord>() } = database.streams.get(key.stream)?.consumer(key) ?? {};
  const found = [...windows.values()].find(({ id }) => id === window);
  return found && copyWindow(found);
}

export function readKept(
  database: MemoryDatabase,
  name: string,
  after: MessageId | undefined,
  limits: FetchLimits,
): Block {
  const kept = database.streams.get(name)?.kept.after(after) ?? [];
  return readBlock(kept, limits, ({ id, encoded }) => decodeMessage(id, encoded));
}
