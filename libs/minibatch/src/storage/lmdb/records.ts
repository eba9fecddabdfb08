import { BSON } from 'bson';
import { ErrorCode, MinibatchError, messageOf } from '../../errors/minibatch.error.js';
import type {
  ConsumerProgress,
  Growth,
  LeaseOwner,
  MessageId,
  StreamInfo,
  WindowRecord,
  WindowRequest,
} from '../stream-store.interface.js';
import { NO_PROGRESS } from '../stream-store.interface.js';
import { decodeSplit, encodeSplit } from '../split-codec.js';
import { formatId, parseId } from './keys.js';

export interface GroupRecord {
  readonly id: number;
  readonly name: string;
  /** Earlier versions refuse a record without it. */
  readonly registered: true;
  /** What it commits is kept. */
  readonly keeps: boolean;
}

export interface StreamRecord {
  readonly id: number;
  readonly name: string;
  readonly status: StreamInfo['status'];
  readonly created: Date;
  readonly closed?: Date;
  readonly paused: boolean;
  readonly flushes: number;
  readonly clearings?: number;
  /** Number of the last message that was there at the last clearing. */
  readonly clearedTo?: number;
  readonly requests?: readonly WindowRequest[];
  /** How often consumers were asked for something. Absent: never. */
  readonly asked?: number;
  readonly groups: readonly GroupRecord[];
  /** Groups that have kept messages which wait for others, and were removed: their places tell which messages. */
  readonly keepers?: readonly number[];
  /** The number the next group gets; never given twice. */
  readonly nextGroup: number;
  /** The highest fence of any consumer that was removed, at least 1; new ones begin there, so that a fence never goes back. Absent: none was. */
  readonly removedFence?: number;
  /**
   * Names of the groups that have or had dead letters; letters know theirs by its place here. A name is in it more than once when
   * its group has replaced others that had letters, too.
   */
  readonly letterGroups?: readonly string[];
  /** Every kept message has its `keptAt`. Absent on streams that an earlier version has made. */
  readonly keptOrder?: true;
  /** Absent: one. Earlier versions keep it, and work for the first partition only. */
  readonly partitions?: number;
  readonly growths?: readonly Growth[];
}

/** Read and written by every append: short, and of fixed places. */
export interface Tail {
  readonly lastSeq: number;
  /** Grows when messages may have come back to a consumer that had passed them. */
  readonly returns: number;
  /** An index of the messages by time is kept. */
  readonly timeOrder: boolean;
}

/** Who asks for a lease, and the fence it had then: with another one it counts no more. Earlier versions don't remove it. */
export interface LeaseHeir {
  readonly owner: LeaseOwner;
  readonly fence: number;
}

/** Lease and progress of a consumer: what the commit point changes. */
export interface ConsumerRecord {
  readonly owner?: LeaseOwner;
  readonly heir?: LeaseHeir;
  readonly fence: number;
  readonly counter: number;
  readonly holdTime?: number;
  readonly progress: ConsumerProgress;
  readonly finished: readonly number[];
}

/** How far a group has come on a stream that has several. */
export interface Position {
  /** Everything in the buffer up to here is committed; done marks stand only for messages beyond. */
  readonly upTo: number;
  /** Messages in the buffer that the group has committed. */
  readonly done: number;
}

/** Of a stream's dead letters. */
export interface DeadLetterCounter {
  /** The last number that was given; none is given twice. */
  readonly last: number;
  readonly count: number;
}

/** Of a redriven message, which other groups have had before it was put back. */
export interface Returned {
  /** Number of the group that it was put back for. */
  readonly owner: number;
  /** Groups from this number on were registered later, and get it, too. */
  readonly later: number;
}

export interface Meta {
  readonly version: number;
  readonly lastStream: number;
}

export const NEW_TAIL: Tail = { lastSeq: 0, returns: 0, timeOrder: false };
export const NEW_CONSUMER: ConsumerRecord = { fence: 0, counter: 0, progress: NO_PROGRESS, finished: [] };
export const NEW_POSITION: Position = { upTo: 0, done: 0 };
/** Where the key says everything. */
export const PRESENT = Buffer.from([1]);

export function encodeRecord(record: StreamRecord | ConsumerRecord | Meta): Buffer {
  return Buffer.from(BSON.serialize(record, { ignoreUndefined: true }));
}

/** @throws MinibatchError `StoreDamaged` */
export function decodeStream(bytes: Buffer, place: string): StreamRecord {
  return decodeRecord<StreamRecord>(bytes, `the record of stream number ${place}`, (record) => {
    const { id, name, created, paused, flushes, groups, nextGroup } = record;
    const isGroup = (group: unknown) => isRecord(group) && isCount(group['id']) && typeof group['name'] === 'string';
    return (
      [id, flushes, nextGroup].every(isCount) &&
      typeof name === 'string' &&
      isDate(created) &&
      typeof paused === 'boolean' &&
      Array.isArray(groups) &&
      groups.every(isGroup)
    );
  });
}

/** @throws MinibatchError `StoreDamaged` */
export function decodeConsumer(bytes: Buffer, place: string): ConsumerRecord {
  return decodeRecord<ConsumerRecord>(bytes, `the lease and progress of consumer ${place}`, (record) => {
    const { fence, counter, progress, finished } = record;
    return (
      [fence, counter].every(isCount) &&
      isRecord(progress) &&
      [progress['lastSeq'], progress['windows'], progress['messages']].every(isCount) &&
      Array.isArray(finished) &&
      finished.every(isCount)
    );
  });
}

/** @throws MinibatchError `StoreDamaged` */
export function decodeMeta(bytes: Buffer): Meta {
  return decodeRecord<Meta>(bytes, 'the record of the schema', ({ version, lastStream }) =>
    [version, lastStream].every(isCount),
  );
}

export function damagedRecord(what: string, cause?: unknown): MinibatchError {
  return new MinibatchError(
    ErrorCode.StoreDamaged,
    `The LMDB store is damaged: ${what} is not valid${cause === undefined ? '' : ` (${messageOf(cause)})`}. ` +
      'Restore its directory from a copy, or give another path',
    { cause, details: { record: what } },
  );
}

function decodeRecord<R>(bytes: Buffer, what: string, isSound: (record: Record<string, unknown>) => boolean): R {
  let record: Record<string, unknown>;
  try {
    record = BSON.deserialize(bytes, { promoteBuffers: true });
  } catch (error) {
    throw damagedRecord(what, error);
  }
  if (!isSound(record)) throw damagedRecord(what);
  return record as R;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

function isDate(value: unknown): boolean {
  return value instanceof Date && !Number.isNaN(value.getTime());
}

/** Numbers of 8 bytes each, of which at least one byte more may follow. */
function decodeCounts(bytes: Buffer, count: number, length: number, what: string): number[] {
  if (bytes.length !== length) throw damagedRecord(what);
  const counts = Array.from({ length: count }, (_, index) => bytes.readDoubleBE(8 * index));
  if (!counts.every(isCount)) throw damagedRecord(what);
  return counts;
}

export function encodeTail({ lastSeq, returns, timeOrder }: Tail): Buffer {
  const bytes = Buffer.allocUnsafe(17);
  bytes.writeDoubleBE(lastSeq, 0);
  bytes.writeDoubleBE(returns, 8);
  bytes[16] = timeOrder ? 1 : 0;
  return bytes;
}

export function decodeTail(bytes: Buffer | undefined): Tail {
  if (bytes === undefined) return NEW_TAIL;
  const [lastSeq = 0, returns = 0] = decodeCounts(bytes, 2, 17, 'the last number of a stream');
  return { lastSeq, returns, timeOrder: bytes[16] === 1 };
}

export function encodeNumber(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeDoubleBE(value);
  return bytes;
}

export function decodeNumber(bytes: Buffer | undefined): number {
  return bytes === undefined ? 0 : (decodeCounts(bytes, 1, 8, 'the number of messages of a stream')[0] ?? 0);
}

export function encodePosition({ upTo, done }: Position): Buffer {
  const bytes = Buffer.allocUnsafe(16);
  bytes.writeDoubleBE(upTo, 0);
  bytes.writeDoubleBE(done, 8);
  return bytes;
}

export function decodePosition(bytes: Buffer | undefined): Position {
  if (bytes === undefined) return NEW_POSITION;
  const [upTo = 0, done = 0] = decodeCounts(bytes, 2, 16, 'the position of a group');
  return { upTo, done };
}

export function encodeDeadLetterCounter({ last, count }: DeadLetterCounter): Buffer {
  const bytes = Buffer.allocUnsafe(16);
  bytes.writeDoubleBE(last, 0);
  bytes.writeDoubleBE(count, 8);
  return bytes;
}

export function decodeDeadLetterCounter(bytes: Buffer | undefined): DeadLetterCounter {
  if (bytes === undefined) return { last: 0, count: 0 };
  const [last = 0, count = 0] = decodeCounts(bytes, 2, 16, 'the number of dead letters of a stream');
  return { last, count };
}

export function encodeReturned({ owner, later }: Returned): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeUInt32BE(owner, 0);
  bytes.writeUInt32BE(later, 4);
  return bytes;
}

/** Undefined if there is no such record, or a damaged one: the message has to leave all the same. */
export function decodeReturned(bytes: Buffer | undefined): Returned | undefined {
  return bytes?.length === 8 ? { owner: bytes.readUInt32BE(0), later: bytes.readUInt32BE(4) } : undefined;
}

/** The ids as runs of consecutive numbers: a window of a stream's next thousand messages is one run. */
export function encodeWindow(stream: number, window: WindowRecord): Buffer {
  const { messageIds, split, ...rest } = window;
  const document: Record<string, unknown> = rest;
  document['runs'] = encodeRuns(stream, messageIds);
  if (split) document['apart'] = encodeSplit(split);
  return Buffer.from(BSON.serialize(document, { ignoreUndefined: true }));
}

/**
 * @param lastSeq number of the stream's last message: no window has one beyond
 * @throws MinibatchError `StoreDamaged`
 */
export function decodeWindow(stream: number, bytes: Buffer, lastSeq: number): WindowRecord {
  // Earlier versions wrote `split` and do not know `apart`: a version that finds only the other one starts over.
  const {
    runs,
    apart,
    split: _,
    ...rest
  } = decodeRecord<PackedWindow>(bytes, `a window of stream number ${stream}`, (record) => {
    const { seq, id, created, attempt, recoveries } = record;
    return (
      [seq, attempt, recoveries].every(isCount) &&
      typeof id === 'string' &&
      isDate(created) &&
      Buffer.isBuffer(record['runs']) &&
      areRuns(record['runs'], lastSeq)
    );
  });
  const split = decodeSplit(Buffer.isBuffer(apart) ? apart : undefined);
  return { ...rest, messageIds: decodeRuns(stream, runs), ...(split && { split }) };
}

/** Undefined if it is damaged. */
export function soundWindow(stream: number, bytes: Buffer, lastSeq: number): WindowRecord | undefined {
  try {
    return decodeWindow(stream, bytes, lastSeq);
  } catch (error) {
    if (error instanceof MinibatchError && error.code === ErrorCode.StoreDamaged) return undefined;
    throw error;
  }
}

type PackedWindow = Omit<WindowRecord, 'messageIds' | 'split'> & {
  readonly runs: Buffer;
  readonly apart?: unknown;
  readonly split?: unknown;
};

const RUN_BYTES = 10;

function encodeRuns(stream: number, ids: readonly MessageId[]): Buffer {
  // The first and the length of one run after the other.
  const runs: number[] = [];
  for (const id of ids) {
    // One of an earlier stream of the same name can't be in this one's buffer.
    const seq = parseId(stream, id);
    if (seq === undefined) continue;
    const last = runs.length - 1;
    if (last > 0 && runs[last - 1]! + runs[last]! === seq) runs[last]! += 1;
    else runs.push(seq, 1);
  }
  const bytes = Buffer.allocUnsafe((runs.length / 2) * RUN_BYTES);
  for (let run = 0, at = 0; run < runs.length; run += 2, at += RUN_BYTES) {
    bytes.writeUIntBE(runs[run]!, at, 6);
    bytes.writeUInt32BE(runs[run + 1]!, at + 6);
  }
  return bytes;
}

/** Each lies within the stream: otherwise a flipped bit could ask for billions of ids. */
function areRuns(bytes: Buffer, lastSeq: number): boolean {
  if (bytes.length % RUN_BYTES !== 0) return false;
  for (let at = 0; at < bytes.length; at += RUN_BYTES) {
    const start = bytes.readUIntBE(at, 6);
    if (start < 1 || start + bytes.readUInt32BE(at + 6) - 1 > lastSeq) return false;
  }
  return true;
}

function decodeRuns(stream: number, bytes: Buffer): MessageId[] {
  const ids: MessageId[] = [];
  for (let at = 0; at < bytes.length; at += RUN_BYTES) {
    const start = bytes.readUIntBE(at, 6);
    const length = bytes.readUInt32BE(at + 6);
    for (let n = 0; n < length; n += 1) ids.push(formatId(stream, start + n));
  }
  return ids;
}
