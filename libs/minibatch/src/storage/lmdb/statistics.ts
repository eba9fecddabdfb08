import { allPartitions } from '../partitions.js';
import type { ConsumerStats, StreamStats } from '../stream-store.interface.js';
import { findStreamId, tailOf } from './stream-records.js';
import { infoOf, pickStreams } from './streams.js';
import { groupKey, Kind, type Place, placeKey, prefixRange, streamKey } from './keys.js';
import { consumerAt, stateOf } from './leases.js';
import { deadLetterCounterOf } from './dead-letter-records.js';
import { oldestCreated } from './reads.js';
import { decodeNumber, decodePosition, type StreamRecord } from './records.js';
import type { ReadView } from './view.js';

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
  return stream.groups.flatMap(({ id, name }) =>
    partitionsOf(view, stream, id).map((partition): ConsumerStats => {
      const place: Place = { stream: stream.id, group: id, partition };
      const consumer = consumerAt(view, stream, place);
      const note = view.get(placeKey(Kind.Note, place))?.toString();
      const { done } = decodePosition(view.get(placeKey(Kind.Position, place)));
      return {
        group: name,
        partition,
        lease: stateOf(consumer),
        progress: consumer.progress,
        openWindows: view.count(prefixRange(placeKey(Kind.Window, place))),
        pending: (counts.get(partition) ?? 0) - done,
        ...(note !== undefined && { note }),
      };
    }),
  );
}

/** Those of the stream, and any others that were ever leased. */
function partitionsOf(view: ReadView, stream: StreamRecord, group: number): number[] {
  const leased = [...view.keys(prefixRange(groupKey(Kind.Consumer, stream.id, group)))].map((key) =>
    key.readUInt16BE(9),
  );
  return [...new Set([...allPartitions(stream), ...leased])].toSorted((a, b) => a - b);
}

/** A token that moves with every append and every return. */
export function pollToken(view: ReadView, stream: number | undefined): string {
  if (stream === undefined) return '';
  const { lastSeq, returns } = tailOf(view, stream);
  return `${stream}.${lastSeq}.${returns}`;
}
