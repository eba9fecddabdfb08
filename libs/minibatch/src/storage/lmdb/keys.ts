import { createHash } from 'node:crypto';
import type { MessageId } from '../stream-store.interface.js';

/**
 * What lies where. One B-tree; a key begins with the kind of its record, then come ids of fixed width, so that the bytes' order
 * is the order in which records are read. Names have no bounds and keys have: streams and groups are known by numbers, which
 * are never given twice.
 *
 * ```text
 * meta       ·                                        schema version, last stream number
 * name       · sha256(stream name)                    number of the stream
 * stream     · stream                                 StreamRecord
 * tail       · stream                                 last sequence number, flags
 * count      · stream partition                       messages in the buffer
 * message    · stream partition seq                   the message
 * time       · stream partition created seq           index for reads by time
 * dedupe     · stream id                              where the message is, or when it left (tombstone)
 * tombstone  · stream settled id                      tombstones by age
 * consumer   · stream group partition                 lease, progress, finished windows
 * position   · stream group partition                 up to where the group has committed, and how much
 * done       · stream group partition seq             committed by the group, beyond its position
 * window     · stream group partition number          an open window
 * keptMsg    · stream settled partition seq           a message kept after its commit
 * keptAt     · stream seq                             when and where the message was kept: kept messages by their ids
 * keptWin    · stream settled group partition number  a window kept after its commit
 * checkpoint · stream sha256(source)                  position of a source
 * cleanup    · stream group                           a removal that takes several transactions
 * deadCount  · stream                                 last number of a dead letter, how many there are
 * letter     · stream number group partition died seq a dead letter
 * replay     · stream seq copy                        a copy of the kept message `seq` was put into the buffer as `copy`
 * returned   · stream seq                             which groups the redriven message is for
 * buried     · stream group partition seq             the message is a dead letter of the group
 * state      · stream group partition slot            a row of the consumer's state
 * due        · stream group partition due slot        rows of state by the time when they are due
 * note       · stream group partition                 what a holder of the lease said last
 * ```
 *
 * Dead letters outlive their group and its number: theirs is a place of its name in the stream's `letterGroups`.
 */
export const Kind = {
  Meta: 1,
  Name: 2,
  Stream: 3,
  Tail: 4,
  Count: 5,
  Message: 6,
  Time: 7,
  Dedupe: 8,
  Tombstone: 9,
  Consumer: 10,
  Position: 11,
  Done: 12,
  Window: 13,
  KeptMessage: 14,
  KeptWindow: 15,
  Checkpoint: 16,
  Cleanup: 17,
  DeadLetterCounter: 18,
  Letter: 19,
  Buried: 20,
  KeptAt: 21,
  Replay: 22,
  Returned: 23,
  State: 24,
  Due: 25,
  Note: 26,
} as const;
export type Kind = (typeof Kind)[keyof typeof Kind];

/** Kinds whose key begins with a stream and which go when the stream goes. */
export const STREAM_KINDS: readonly Kind[] = [
  Kind.Tail,
  Kind.Count,
  Kind.Message,
  Kind.Time,
  Kind.Dedupe,
  Kind.Tombstone,
  Kind.Consumer,
  Kind.Position,
  Kind.Done,
  Kind.Window,
  Kind.KeptMessage,
  Kind.KeptAt,
  Kind.Replay,
  Kind.Returned,
  Kind.KeptWindow,
  Kind.Checkpoint,
  Kind.DeadLetterCounter,
  Kind.Letter,
  Kind.Buried,
  Kind.State,
  Kind.Due,
  Kind.Note,
];

/** Kinds whose key begins with a stream and a group. */
export const GROUP_KINDS: readonly Kind[] = [
  Kind.Consumer,
  Kind.Position,
  Kind.Done,
  Kind.Window,
  Kind.State,
  Kind.Due,
  Kind.Note,
];
/** Of these, those that tell what a group has committed. */
export const PLACE_KINDS: readonly Kind[] = [Kind.Position, Kind.Done];

/** Greater than every sequence number. */
const LAST_SEQ = 0xffff_ffff_ffff;
/** Bytes of a dedupe id that its key holds. */
const LONGEST_DEDUPE_ID = 200;
const DIGEST_BYTES = 32;
/** In a cleanup key in place of a group: the whole stream. */
export const WHOLE_STREAM = 0xffff_ffff;

/** `end` is exclusive. */
export interface KeyRange {
  readonly start: Buffer;
  readonly end: Buffer;
}

/** A group's part of a stream, in numbers. */
export interface Place {
  readonly stream: number;
  readonly group: number;
  readonly partition: number;
}

/** What the key of a dead letter says. */
export interface LetterKey extends Place {
  readonly number: number;
  /** Milliseconds. */
  readonly died: number;
  /** Of its message. */
  readonly seq: number;
}

export const META_KEY = Buffer.from([Kind.Meta]);

/** Every step begins with the stream's name. */
const nameKeys = new Map<string, Buffer>();
const MOST_NAME_KEYS = 10_000;

export function nameKey(stream: string): Buffer {
  const known = nameKeys.get(stream);
  if (known) return known;
  if (nameKeys.size >= MOST_NAME_KEYS) nameKeys.clear();
  const key = Buffer.concat([Buffer.from([Kind.Name]), digest(stream)]);
  nameKeys.set(stream, key);
  return key;
}

export function streamKey(kind: Kind, stream: number): Buffer {
  const key = Buffer.allocUnsafe(5);
  key[0] = kind;
  key.writeUInt32BE(stream, 1);
  return key;
}

export function partitionKey(kind: Kind, stream: number, partition: number): Buffer {
  const key = Buffer.allocUnsafe(7);
  key[0] = kind;
  key.writeUInt32BE(stream, 1);
  key.writeUInt16BE(partition, 5);
  return key;
}

export function messageKey(stream: number, partition: number, seq: number): Buffer {
  const key = Buffer.allocUnsafe(13);
  key[0] = Kind.Message;
  key.writeUInt32BE(stream, 1);
  key.writeUInt16BE(partition, 5);
  key.writeUIntBE(seq, 7, 6);
  return key;
}

export function timeKey(stream: number, partition: number, created: number, seq: number): Buffer {
  const key = Buffer.allocUnsafe(21);
  key[0] = Kind.Time;
  key.writeUInt32BE(stream, 1);
  key.writeUInt16BE(partition, 5);
  writeTime(key, created, 7);
  key.writeUIntBE(seq, 15, 6);
  return key;
}

export function placeKey(kind: Kind, place: Place): Buffer {
  const key = Buffer.allocUnsafe(11);
  writePlace(key, kind, place);
  return key;
}

/** Of a done mark or a window. */
export function placeSeqKey(kind: Kind, place: Place, seq: number): Buffer {
  const key = Buffer.allocUnsafe(17);
  writePlace(key, kind, place);
  key.writeUIntBE(seq, 11, 6);
  return key;
}

export function groupKey(kind: Kind, stream: number, group: number): Buffer {
  const key = Buffer.allocUnsafe(9);
  key[0] = kind;
  key.writeUInt32BE(stream, 1);
  key.writeUInt32BE(group, 5);
  return key;
}

/** A short id as it is, so that those of one source lie together; what does not fit into a key by its digest. */
export function dedupeKey(stream: number, dedupeId: string): Buffer {
  const length = Buffer.byteLength(dedupeId);
  const isShort = length <= LONGEST_DEDUPE_ID;
  const key = Buffer.allocUnsafe(6 + (isShort ? length : DIGEST_BYTES));
  key[0] = Kind.Dedupe;
  key.writeUInt32BE(stream, 1);
  key[5] = isShort ? 0 : 1;
  if (isShort) key.write(dedupeId, 6);
  else digest(dedupeId).copy(key, 6);
  return key;
}

export function tombstoneKey(stream: number, settled: number, dedupe: Buffer): Buffer {
  const key = Buffer.allocUnsafe(8 + dedupe.length);
  key[0] = Kind.Tombstone;
  key.writeUInt32BE(stream, 1);
  writeTime(key, settled, 5);
  // What follows the stream in the dedupe key.
  dedupe.copy(key, 13, 5);
  return key;
}

/** The dedupe key that a tombstone key stands for. */
export function dedupeOfTombstone(tombstone: Buffer): Buffer {
  const key = Buffer.concat([tombstone.subarray(0, 5), tombstone.subarray(13)]);
  key[0] = Kind.Dedupe;
  return key;
}

export function keptMessageKey(stream: number, settled: number, partition: number, seq: number): Buffer {
  const key = Buffer.allocUnsafe(21);
  key[0] = Kind.KeptMessage;
  key.writeUInt32BE(stream, 1);
  writeTime(key, settled, 5);
  key.writeUInt16BE(partition, 13);
  key.writeUIntBE(seq, 15, 6);
  return key;
}

/** What the key of a kept message says. */
export interface KeptKey {
  readonly stream: number;
  /** Milliseconds. */
  readonly settled: number;
  readonly partition: number;
  readonly seq: number;
}

export function parseKeptMessageKey(key: Buffer): KeptKey {
  return {
    stream: key.readUInt32BE(1),
    settled: readTime(key, 5),
    partition: key.readUInt16BE(13),
    seq: key.readUIntBE(15, 6),
  };
}

export function keptAtKey(stream: number, seq: number): Buffer {
  return seqKey(Kind.KeptAt, stream, seq);
}

export function returnedKey(stream: number, seq: number): Buffer {
  return seqKey(Kind.Returned, stream, seq);
}

/** `seqOf` gives the copy. */
export function replayKey(stream: number, seq: number, copy: number): Buffer {
  const key = Buffer.allocUnsafe(17);
  seqKey(Kind.Replay, stream, seq).copy(key);
  key.writeUIntBE(copy, 11, 6);
  return key;
}

/** The copies of one kept message. */
export function replayRange(stream: number, seq: number): KeyRange {
  return { start: replayKey(stream, seq, 0), end: replayKey(stream, seq, LAST_SEQ) };
}

/** Kept messages with `after` < seq ≤ `until`. */
export function keptAtRange(stream: number, after: number, until: number = LAST_SEQ - 1): KeyRange {
  return { start: keptAtKey(stream, after + 1), end: keptAtKey(stream, until + 1) };
}

export function keptWindowKey(place: Place, settled: number, seq: number): Buffer {
  const key = Buffer.allocUnsafe(25);
  key[0] = Kind.KeptWindow;
  key.writeUInt32BE(place.stream, 1);
  writeTime(key, settled, 5);
  key.writeUInt32BE(place.group, 13);
  key.writeUInt16BE(place.partition, 17);
  key.writeUIntBE(seq, 19, 6);
  return key;
}

export function checkpointKey(stream: number, source: string): Buffer {
  return Buffer.concat([streamKey(Kind.Checkpoint, stream), digest(source)]);
}

export function letterKey({ stream, number, group, partition, died, seq }: LetterKey): Buffer {
  const key = Buffer.allocUnsafe(31);
  writeLetter(key, stream, number);
  key.writeUInt32BE(group, 11);
  key.writeUInt16BE(partition, 15);
  writeTime(key, died, 17);
  key.writeUIntBE(seq, 25, 6);
  return key;
}

export function parseLetterKey(key: Buffer): LetterKey {
  return {
    stream: key.readUInt32BE(1),
    number: key.readUIntBE(5, 6),
    group: key.readUInt32BE(11),
    partition: key.readUInt16BE(15),
    died: readTime(key, 17),
    seq: key.readUIntBE(25, 6),
  };
}

export function buriedKey(place: Place, seq: number): Buffer {
  return placeSeqKey(Kind.Buried, place, seq);
}

/** Letters with `after` < number ≤ `until`. */
export function letterRange(stream: number, after: number, until: number = LAST_SEQ - 1): KeyRange {
  const range = { start: Buffer.allocUnsafe(11), end: Buffer.allocUnsafe(11) };
  writeLetter(range.start, stream, after + 1);
  writeLetter(range.end, stream, until + 1);
  return range;
}

/** When the window was kept, by the place that it is of. */
export function parseKeptWindowKey(key: Buffer): { readonly settled: number; readonly place: Place } {
  return {
    settled: readTime(key, 5),
    place: { stream: key.readUInt32BE(1), group: key.readUInt32BE(13), partition: key.readUInt16BE(17) },
  };
}

/** All keys that begin with these bytes. */
export function prefixRange(prefix: Buffer): KeyRange {
  const end = Buffer.from(prefix);
  let at = end.length - 1;
  while (at >= 0 && end[at] === 0xff) at -= 1;
  // A key begins with its kind, which is never 255.
  end[at]! += 1;
  return { start: prefix, end: end.subarray(0, at + 1) };
}

/** Records of the kind from before the time `settled`; for the kinds that are ordered by it. */
export function settledBefore(kind: Kind, stream: number, settled: number): KeyRange {
  const end = Buffer.allocUnsafe(13);
  end[0] = kind;
  end.writeUInt32BE(stream, 1);
  writeTime(end, settled, 5);
  return { start: streamKey(kind, stream), end };
}

/** Messages with `after` < seq ≤ `until`. */
export function messageRange(stream: number, partition: number, after: number, until: number = LAST_SEQ - 1): KeyRange {
  return { start: messageKey(stream, partition, after + 1), end: messageKey(stream, partition, until + 1) };
}

/** The sequence number that ends the key of a message, time index entry, done mark or window. */
export function seqOf(key: Buffer): number {
  return key.readUIntBE(key.length - 6, 6);
}

/** Ids of messages and letters: the numbers of the stream and of the one in hexadecimal, of fixed width. */
export function formatId(stream: number, seq: number): MessageId {
  return stream.toString(16).padStart(8, '0') + seq.toString(16).padStart(12, '0');
}

/** Undefined if it is no id of the stream: one of an earlier stream of the same name. */
export function parseId(stream: number, id: MessageId): number | undefined {
  if (id.length !== 20 || Number.parseInt(id.slice(0, 8), 16) !== stream) return undefined;
  const seq = Number.parseInt(id.slice(8), 16);
  return Number.isNaN(seq) ? undefined : seq;
}

function seqKey(kind: Kind, stream: number, seq: number): Buffer {
  const key = Buffer.allocUnsafe(11);
  key[0] = kind;
  key.writeUInt32BE(stream, 1);
  key.writeUIntBE(seq, 5, 6);
  return key;
}

export function writePlace(key: Buffer, kind: Kind, { stream, group, partition }: Place): void {
  key[0] = kind;
  key.writeUInt32BE(stream, 1);
  key.writeUInt32BE(group, 5);
  key.writeUInt16BE(partition, 9);
}

function writeLetter(key: Buffer, stream: number, number: number): void {
  key[0] = Kind.Letter;
  key.writeUInt32BE(stream, 1);
  key.writeUIntBE(number, 5, 6);
}

/** A double whose bytes sort as the numbers do: the sign is turned round, and all of a negative number. */
export function writeTime(key: Buffer, time: number, at: number): void {
  key.writeDoubleBE(time, at);
  if ((key[at]! & 0x80) === 0) key[at]! ^= 0x80;
  else for (let byte = at; byte < at + 8; byte += 1) key[byte]! ^= 0xff;
}

export function readTime(key: Buffer, at: number): number {
  const bytes = Buffer.from(key.subarray(at, at + 8));
  if ((bytes[0]! & 0x80) !== 0) bytes[0]! ^= 0x80;
  else for (let byte = 0; byte < 8; byte += 1) bytes[byte]! ^= 0xff;
  return bytes.readDoubleBE(0);
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
