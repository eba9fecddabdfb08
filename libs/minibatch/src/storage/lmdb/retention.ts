import type { SweepResult, SweepTimes } from '../stream-store.interface.js';
import type { LmdbEnvironment } from './environment.js';
import { dedupeOfTombstone, Kind, settledBefore } from './keys.js';
import { removeKept } from './kept-messages.js';
import { MessageRemoval } from './message-removal.js';
import { findStream, partitionsWithMessages } from './stream-records.js';
import type { WriteView } from './view.js';

/** Records of each kind that one transaction of a sweep removes. */
const SWEEP_CHUNK = 5_000;
/** Messages that one transaction examines to find expired ones. */
const EXPIRE_CHUNK = 1_000;

export async function sweep(environment: LmdbEnvironment, stream: string, before: SweepTimes): Promise<SweepResult> {
  const total = { tombstones: 0, messages: 0, windows: 0 };
  for (;;) {
    const swept = await environment.write((view) => sweepSome(view, stream, before, SWEEP_CHUNK));
    total.tombstones += swept.tombstones;
    total.messages += swept.messages;
    total.windows += swept.windows;
    if (Math.max(swept.tombstones, swept.messages, swept.windows) < SWEEP_CHUNK) return total;
  }
}

export async function expire(environment: LmdbEnvironment, stream: string, before: Date | undefined): Promise<number> {
  for (let total = 0; ;) {
    const expired = await environment.write((view) => expireSome(view, stream, before?.getTime(), EXPIRE_CHUNK));
    if (expired === 0) return total;
    total += expired;
  }
}

/** One transaction of a sweep: at most `limit` records of each kind. */
function sweepSome(view: WriteView, name: string, before: SweepTimes, limit: number): SweepResult {
  const stream = findStream(view, name);
  if (stream === undefined) return { tombstones: 0, messages: 0, windows: 0 };
  const some = (kind: Kind, until: Date | undefined) =>
    until === undefined ? [] : [...view.keys(settledBefore(kind, stream.id, until.getTime()), limit)];
  const tombstones = some(Kind.Tombstone, before.tombstones);
  const messages = some(Kind.KeptMessage, before.kept);
  const windows = some(Kind.KeptWindow, before.kept);
  for (const key of tombstones) view.remove(dedupeOfTombstone(key));
  for (const key of [...tombstones, ...windows]) view.remove(key);
  removeKept(view, stream, messages);
  return { tombstones: tombstones.length, messages: messages.length, windows: windows.length };
}

/** One transaction: removes messages that are cleared or too old from a stream that has no groups. */
function expireSome(view: WriteView, name: string, before: number | undefined, limit: number): number {
  const stream = findStream(view, name);
  if (stream === undefined || stream.groups.length > 0) return 0;
  let expired = 0;
  for (const partition of partitionsWithMessages(view, stream.id)) {
    const removal = new MessageRemoval(view, stream, partition, Date.now());
    expired += removal.expire(before, limit);
    removal.finish();
  }
  return expired;
}
