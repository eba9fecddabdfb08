import { unknownStream } from '../../errors/store-faults.js';
import { grown } from '../partitions.js';
import { asksConsumers, type NewStream, type StreamInfo, type StreamUpdate } from '../stream-store.interface.js';
import { changedRequests } from '../window-requests.js';
import { Kind, nameKey, prefixRange, streamKey } from './keys.js';
import { decodeStream, type StreamRecord } from './records.js';
import {
  ensureStreamRecord,
  findStream,
  findStreamId,
  groupNames,
  planCleanup,
  saveStream,
  tailOf,
} from './stream-records.js';
import type { ReadView, WriteView } from './view.js';

export function ensureStream(view: WriteView, name: string, made: NewStream = {}): StreamInfo {
  const found = ensureStreamRecord(view, name, made);
  return infoOf(found.status === 'init' ? saveStream(view, { ...found, status: 'open' }) : found);
}

export function describeStream(view: ReadView, name: string): StreamInfo | undefined {
  const found = findStream(view, name);
  return found && infoOf(found);
}

export function listStreams(view: ReadView, names: readonly string[] | undefined): StreamInfo[] {
  return pickStreams(view, names).map(infoOf);
}

/** @throws UnknownStream */
export function updateStream(view: WriteView, name: string, change: StreamUpdate): StreamInfo {
  const found = findStream(view, name);
  if (found === undefined) throw unknownStream(name);
  return infoOf(saveStream(view, changed(found, change, tailOf(view, found.id).lastSeq)));
}

/** The stream is gone at once; its records go with the next cleanup. */
export function dropStream(view: WriteView, name: string): void {
  const id = findStreamId(view, name);
  if (id === undefined) return;
  view.remove(nameKey(name));
  view.remove(streamKey(Kind.Stream, id));
  planCleanup(view, id);
}

/** By name; those that exist. */
export function pickStreams(view: ReadView, names: readonly string[] | undefined): StreamRecord[] {
  if (names === undefined) return allStreams(view);
  return byName([...new Set(names)].map((name) => findStream(view, name)).filter((stream) => stream !== undefined));
}

export function infoOf(stream: StreamRecord): StreamInfo {
  const { name, status, created, closed, paused, flushes, clearings, requests = [], asked } = stream;
  const { partitions, growths } = stream;
  return {
    name,
    status,
    created,
    ...(closed !== undefined && { closed }),
    groups: groupNames(stream),
    paused,
    flushes,
    ...(clearings !== undefined && { clearings }),
    ...(requests.length > 0 && { requests: requests.map((request) => ({ ...request })) }),
    ...(asked !== undefined && { asked }),
    ...(partitions !== undefined && { partitions }),
    ...(growths !== undefined && { growths: growths.map((growth) => ({ ...growth })) }),
  };
}

/** All streams in the order of their names. */
export function allStreams(view: ReadView): StreamRecord[] {
  const streams: StreamRecord[] = [];
  for (const { key, value } of view.entries(prefixRange(Buffer.from([Kind.Stream])))) {
    streams.push(decodeStream(value, String(key.readUInt32BE(1))));
  }
  return byName(streams);
}

/** @param lastSeq number of the last message that was appended */
function changed(stream: StreamRecord, change: StreamUpdate, lastSeq: number): StreamRecord {
  const { closed, ...rest } = change.grow ? grown(stream.name, stream, change.grow) : stream;
  const status = change.status ?? stream.status;
  const closedAt = status === 'closed' ? (closed ?? new Date()) : undefined;
  return {
    ...rest,
    status,
    ...(closedAt !== undefined && { closed: closedAt }),
    paused: change.paused ?? stream.paused,
    flushes: stream.flushes + (change.flush ? 1 : 0),
    ...(change.clear && { clearings: (stream.clearings ?? 0) + 1, clearedTo: lastSeq }),
    requests: changedRequests(stream.requests, change),
    ...(asksConsumers(change) && { asked: (stream.asked ?? 0) + 1 }),
  };
}

function byName(streams: StreamRecord[]): StreamRecord[] {
  return streams.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}
