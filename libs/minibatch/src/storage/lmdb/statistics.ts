import type { ConsumerStats, StreamStats, SweepResult } from '../stream-store.interface.js';
import { findStream, findStreamId, infoOf, pickStreams, registered, tailOf } from './streams.js';
import {
  dedupeOfTombstone,
  groupKey,
  Kind,
  type KeyRange,
  type Place,
  placeKey,
  prefixRange,
  settledBefore,
  streamKey,
} from './keys.js';
import { removeKept } from './kept-messages.js';
import { consumerAt, stateOf } from './leases.js';
import { deadLetterCounterOf } from './dead-letters.js';
import { oldestCreated } from './reads.js';
import { decodeNumber, decodePosition, type StreamRecord } from './records.js';
import type { ReadView, WriteView } from './view.js';

/** Counters are kept by the transactions that change what they count, so nothing is counted here. */
export function streamStats(view: ReadView, names: readonly string[] | undefined): StreamStats[] {
  return pickStreams(view, names).map((stream) => {
    const counts = partitionCounts(view, stream.id);
    const buffered = [...counts.values()].reduce((sum, count) => sum + count, 0);
    const times = [...counts.keys()]
      .map((partition) => oldestCreated(view, stream, partition))
      .filter((time) => time !== undefined);
    return {
      ...infoOf(stream),
      buffered,
      ...(times.length > 0 && { oldest: new Date(Math.min(...times)) }),
      deadLetters: deadLetterCounterOf(view, stream.id).count,
      consumers: consumerStats(view, stream, counts),
    };
  });
}

export function countMessages(view: ReadView, name: string): number {
  const stream = findStreamId(view, name);
  if (stream === undefined) return 0;
  return [...partitionCounts(view, stream).values()].reduce((sum, count) => sum + count, 0);
}

function partitionCounts(view: ReadView, stream: number): Map<number, number> {
  const counts = new Map<number, number>();
  for (const { key, value } of view.entries(prefixRange(streamKey(Kind.Count, stream)))) {
    counts.set(key.readUInt16BE(5), decodeNumber(value));
  }
  return counts;
}

function consumerStats(view: ReadView, stream: StreamRecord, counts: ReadonlyMap<number, number>): ConsumerStats[] {
  return registered(stream).flatMap(({ id, name }) =>
    partitionsOf(view, stream.id, id).map((partition): ConsumerStats => {
      const place: Place = { stream: stream.id, group: id, partition };
      const consumer = consumerAt(view, stream, place);
      const { done } = decodePosition(view.get(placeKey(Kind.Position, place)));
      return {
        group: name,
        partition,
        lease: stateOf(consumer),
        progress: consumer.progress,
        openWindows: view.count(prefixRange(placeKey(Kind.Window, place))),
        pending: (counts.get(partition) ?? 0) - done,
      };
    }),
  );
}

/** Those that were ever leased; before that there is the first. */
function partitionsOf(view: ReadView, stream: number, group: number): number[] {
  const partitions = [...view.keys(prefixRange(groupKey(Kind.Consumer, stream, group)))].map((key) =>
    key.readUInt16BE(9),
  );
  return partitions.length === 0 ? [0] : partitions;
}

/** A token that moves with every append and every return. */
export function pollToken(view: ReadView, stream: number | undefined): string {
  if (stream === undefined) return '';
  const { lastSeq, returns } = tailOf(view, stream);
  return `${stream}.${lastSeq}.${returns}`;
}

/** One transaction's part of a sweep: at most `limit` of each. */
export function sweepSome(
  view: WriteView,
  name: string,
  before: { readonly tombstones?: Date; readonly kept?: Date },
  limit: number,
): SweepResult {
  const stream = findStream(view, name);
  if (stream === undefined) return { tombstones: 0, messages: 0, windows: 0 };
  const some = (kind: Kind, until: Date | undefined) =>
    until === undefined ? [] : keysOf(view, settledBefore(kind, stream.id, until.getTime()), limit);
  const tombstones = some(Kind.Tombstone, before.tombstones);
  const messages = some(Kind.KeptMessage, before.kept);
  const windows = some(Kind.KeptWindow, before.kept);
  for (const key of tombstones) view.remove(dedupeOfTombstone(key));
  for (const key of [...tombstones, ...windows]) view.remove(key);
  removeKept(view, stream, messages);
  return { tombstones: tombstones.length, messages: messages.length, windows: windows.length };
}

function keysOf(view: ReadView, range: KeyRange, limit: number): Buffer[] {
  return [...view.keys(range, limit)];
}
