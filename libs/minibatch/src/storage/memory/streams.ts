import { unknownStream } from '../../errors/store-faults.js';
import { grown } from '../partitions.js';
import { asksConsumers, type NewStream, type StreamInfo, type StreamUpdate } from '../stream-store.interface.js';
import { changedRequests } from '../window-requests.js';
import type { MemoryDatabase } from './memory.database.js';
import type { MemoryStream } from './memory.stream.js';

export function ensureStream(database: MemoryDatabase, name: string, { partitions }: NewStream = {}): StreamInfo {
  const isNew = !database.streams.has(name);
  const stream = database.ensure(name);
  if (isNew && partitions !== undefined) stream.partitioning = { partitions };
  if (stream.status === 'init') stream.status = 'open';
  return infoOf(stream);
}

export function describeStream(database: MemoryDatabase, name: string): StreamInfo | undefined {
  const stream = database.streams.get(name);
  return stream && infoOf(stream);
}

export function listStreams(database: MemoryDatabase, names: readonly string[] | undefined): StreamInfo[] {
  return database.pick(names).map(infoOf);
}

/** @throws UnknownStream */
export function updateStream(database: MemoryDatabase, name: string, change: StreamUpdate): StreamInfo {
  const stream = database.streams.get(name);
  if (stream === undefined) throw unknownStream(name);
  if (change.grow) {
    stream.partitioning = grown(name, stream.partitioning, change.grow);
    for (const group of stream.groups) stream.ensureConsumers(group);
  }
  if (change.status !== undefined && change.status !== stream.status) {
    stream.status = change.status;
    stream.closed = change.status === 'closed' ? new Date() : undefined;
  }
  if (change.paused !== undefined) stream.paused = change.paused;
  if (change.flush) stream.flushes += 1;
  if (change.clear) stream.clear();
  if (asksConsumers(change)) stream.asked += 1;
  stream.requests = changedRequests(stream.requests, change);
  return infoOf(stream);
}

export function dropStream(database: MemoryDatabase, name: string): void {
  database.streams.delete(name);
}

export function infoOf(stream: MemoryStream): StreamInfo {
  const { name, status, created, closed, groups, paused, flushes, clearings, requests, asked, partitioning } = stream;
  return {
    name,
    status,
    created: new Date(created),
    ...(closed !== undefined && { closed: new Date(closed) }),
    groups: [...groups],
    paused,
    flushes,
    ...(clearings > 0 && { clearings }),
    ...(requests.length > 0 && { requests: structuredClone(requests) }),
    ...(asked > 0 && { asked }),
    ...structuredClone(partitioning),
  };
}
