import { isRedriven } from '../encoded-message.js';
import type { SweepResult, SweepTimes } from '../stream-store.interface.js';
import type { MemoryDatabase } from './memory.database.js';
import type { MemoryStream } from './memory.stream.js';

export function sweep(database: MemoryDatabase, name: string, { tombstones, kept }: SweepTimes): SweepResult {
  const stream = database.streams.get(name);
  return {
    tombstones: stream && tombstones ? sweepTombstones(stream, tombstones) : 0,
    messages: stream && kept ? stream.kept.sweep(kept) : 0,
    windows: stream && kept ? stream.keptWindows.sweep(kept) : 0,
  };
}

function sweepTombstones({ dedupe }: MemoryStream, before: Date): number {
  let swept = 0;
  for (const [id, { settled }] of dedupe) {
    if (settled === undefined || settled >= before) continue;
    dedupe.delete(id);
    swept += 1;
  }
  return swept;
}

export function expire(database: MemoryDatabase, name: string, before: Date | undefined): number {
  const stream = database.streams.get(name);
  if (stream === undefined || stream.groups.size > 0) return 0;
  const now = new Date();
  const limit = before?.getTime() ?? Number.NEGATIVE_INFINITY;
  const expired = [...stream.messages.after(undefined)].filter(
    (entry) => stream.isCleared(entry) || (entry.created < limit && !isRedriven(entry.encoded)),
  );
  for (const entry of expired) stream.remove(entry, now);
  return expired.length;
}
