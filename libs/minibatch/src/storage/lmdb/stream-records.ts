import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import { createdOf, isIntact } from '../encoded-message.js';
import type { ConsumerKey, NewStream } from '../stream-store.interface.js';
import { DecodedRecords } from './decoded-records.js';
import {
  groupKey,
  Kind,
  META_KEY,
  messageRange,
  nameKey,
  partitionKey,
  type Place,
  prefixRange,
  seqOf,
  streamKey,
  timeKey,
  WHOLE_STREAM,
} from './keys.js';
import {
  damagedRecord,
  decodeMeta,
  decodePosition,
  decodeStream,
  decodeTail,
  encodeRecord,
  encodeTail,
  type GroupRecord,
  type Meta,
  PRESENT,
  type StreamRecord,
  type Tail,
} from './records.js';
import type { ReadView, WriteView } from './view.js';

/** Records of streams and groups, and the numbers that stand for their names. */

const streams = new DecodedRecords<StreamRecord>(decodeStream);

/** Grows when an older version of the package could not read what is written. */
const SCHEMA_VERSION = 1;

/** @throws MinibatchError `SchemaTooNew` */
export function checkSchema(view: WriteView, path: string): void {
  const bytes = view.get(META_KEY);
  if (bytes === undefined) {
    view.put(META_KEY, encodeRecord({ version: SCHEMA_VERSION, lastStream: 0 }));
    return;
  }
  const { version } = decodeMeta(bytes);
  if (version <= SCHEMA_VERSION) return;
  throw new MinibatchError(
    ErrorCode.SchemaTooNew,
    `The LMDB store at '${path}' has schema version ${version}, this version of the package knows ${SCHEMA_VERSION}. ` +
      'Update nestjs-minibatch, or give another path',
    { details: { path, version, known: SCHEMA_VERSION } },
  );
}

export function findStreamId(view: ReadView, name: string): number | undefined {
  const bytes = view.get(nameKey(name));
  if (bytes !== undefined && bytes.length !== 4) throw damagedRecord(`the number of stream '${name}'`);
  return bytes?.readUInt32BE(0);
}

export function findStream(view: ReadView, name: string): StreamRecord | undefined {
  const id = findStreamId(view, name);
  return id === undefined ? undefined : streamById(view, id);
}

export function streamById(view: ReadView, id: number): StreamRecord | undefined {
  const bytes = view.get(streamKey(Kind.Stream, id));
  return bytes && streams.decode(String(id), bytes);
}

export function ensureStreamRecord(view: WriteView, name: string, made: NewStream = {}): StreamRecord {
  return findStream(view, name) ?? makeStream(view, name, made);
}

export function ensureStreamId(view: WriteView, name: string): number {
  return findStreamId(view, name) ?? makeStream(view, name).id;
}

export function saveStream(view: WriteView, stream: StreamRecord): StreamRecord {
  view.put(streamKey(Kind.Stream, stream.id), encodeRecord(stream));
  return stream;
}

export function groupNames(stream: StreamRecord): string[] {
  return stream.groups.map(({ name }) => name);
}

export function tailOf(view: ReadView, stream: number): Tail {
  return decodeTail(view.get(streamKey(Kind.Tail, stream)));
}

export function saveTail(view: WriteView, stream: number, tail: Tail): void {
  view.put(streamKey(Kind.Tail, stream), encodeTail(tail));
  view.touch(stream);
}

/** Where the consumer's records are, or undefined if there can't be any. */
export function findPlace(view: ReadView, key: ConsumerKey): { stream: StreamRecord; place: Place } | undefined {
  const stream = findStream(view, key.stream);
  const group = stream?.groups.find(({ name }) => name === key.group);
  if (stream === undefined || group === undefined) return undefined;
  return { stream, place: { stream: stream.id, group: group.id, partition: key.partition } };
}

export function addGroup(stream: StreamRecord, name: string): StreamRecord {
  const group: GroupRecord = { id: stream.nextGroup, name, registered: true, keeps: false };
  return { ...stream, groups: [...stream.groups, group], nextGroup: stream.nextGroup + 1 };
}

/** Changes one group of the stream. */
export function withGroup(stream: StreamRecord, id: number, change: Partial<GroupRecord>): StreamRecord {
  return { ...stream, groups: stream.groups.map((group) => (group.id === id ? { ...group, ...change } : group)) };
}

/** Notes what further transactions have to remove; see cleanup.ts. */
export function planCleanup(view: WriteView, stream: number, group: number = WHOLE_STREAM): void {
  view.put(groupKey(Kind.Cleanup, stream, group), PRESENT);
}

/** True while messages that the group has committed wait for others. */
export function isWaitedFor(view: ReadView, stream: number, group: number): boolean {
  const positions = view.entries(prefixRange(groupKey(Kind.Position, stream, group)));
  return [...positions].some(({ value }) => decodePosition(value).done > 0);
}

/** Forgets a removed group once its kept messages have left the buffer. */
export function forgetKeeper(view: WriteView, id: number, group: number): void {
  const stream = streamById(view, id);
  if (stream === undefined || isWaitedFor(view, id, group)) return;
  saveStream(view, { ...stream, keepers: stream.keepers?.filter((other) => other !== group) ?? [] });
  planCleanup(view, id, group);
}

/** Creates the index of messages by time. Every later append writes to it, as it sees the flag in its own transaction. */
export function ensureTimeOrder(view: WriteView, stream: number): void {
  const tail = tailOf(view, stream);
  if (tail.timeOrder) return;
  for (const countKey of [...view.keys(prefixRange(streamKey(Kind.Count, stream)))]) {
    const partition = countKey.readUInt16BE(5);
    const keys: Buffer[] = [];
    for (const { key, value } of view.entries(messageRange(stream, partition, 0))) {
      if (!isIntact(value)) continue;
      keys.push(timeKey(stream, partition, createdOf(value).getTime(), seqOf(key)));
    }
    for (const key of keys) view.put(key, PRESENT);
  }
  saveTail(view, stream, { ...tail, timeOrder: true });
}

export function countKeyOf(stream: number, partition: number): Buffer {
  return partitionKey(Kind.Count, stream, partition);
}

function makeStream(view: WriteView, name: string, { partitions }: NewStream = {}): StreamRecord {
  const bytes = view.get(META_KEY);
  const meta: Meta = bytes === undefined ? { version: SCHEMA_VERSION, lastStream: 0 } : decodeMeta(bytes);
  const id = meta.lastStream + 1;
  view.put(META_KEY, encodeRecord({ ...meta, lastStream: id }));
  const number = Buffer.allocUnsafe(4);
  number.writeUInt32BE(id);
  view.put(nameKey(name), number);
  return saveStream(view, {
    id,
    name,
    status: 'init',
    created: new Date(),
    paused: false,
    flushes: 0,
    groups: [],
    nextGroup: 1,
    keptOrder: true,
    ...(partitions !== undefined && { partitions }),
  });
}

export function partitionsWithMessages(view: ReadView, stream: number): number[] {
  return [...view.keys(prefixRange(streamKey(Kind.Count, stream)))].map((key) => key.readUInt16BE(5));
}
