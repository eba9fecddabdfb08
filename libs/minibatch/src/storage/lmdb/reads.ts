import { AppendError } from '../../errors/minibatch.error.js';
import { createdOf, decodeMessage, type EncodedMessage, encodeMessage, isIntact } from '../encoded-message.js';
import type {
  AppendOutcome,
  Block,
  ConsumerKey,
  FetchLimits,
  MessageId,
  NewMessage,
  StoredMessage,
  TimeCursor,
  TimeRange,
} from '../stream-store.interface.js';
import { countKeyOf, ensureStreamId, findStream, saveTail, tailOf } from './streams.js';
import { dedupeKey, formatId, messageKey, messageRange, parseId, seqOf, timeKey } from './keys.js';
import { UncommittedFilter } from './group-offsets.js';
import { decodeNumber, encodeNumber, PRESENT, type StreamRecord, type Tail } from './records.js';
import type { ReadView, WriteView } from './view.js';

/** A message ready to be written, or why it can't be. */
export type PreparedMessage = { readonly message: NewMessage; readonly encoded: EncodedMessage } | AppendOutcome;

const EMPTY_BLOCK: Block = { messages: [], full: false };
/**
 * So many at the most are looked up one by one. What an iteration of lmdb-js refers to, and what that leads to, survives minor garbage
 * collections: one for each message is a major collection every two seconds at 1,000 messages/s.
 */
const FEW = 16;

/** Before the transaction: in it nothing may throw because of what a user appended. */
export function prepare(message: NewMessage): PreparedMessage {
  try {
    return { message, encoded: encodeMessage(message) };
  } catch (error) {
    if (error instanceof AppendError) return { status: 'failed', error };
    throw error;
  }
}

export function writeMessages(view: WriteView, prepared: readonly PreparedMessage[]): AppendOutcome[] {
  const streams = new Map<string, StreamAppend>();
  const outcomes = prepared.map((each): AppendOutcome => {
    if (!('encoded' in each)) return each;
    const { stream } = each.message;
    let append = streams.get(stream);
    if (append === undefined) {
      append = new StreamAppend(view, ensureStreamId(view, stream));
      streams.set(stream, append);
    }
    return append.write(each.message, each.encoded);
  });
  for (const append of streams.values()) append.finish();
  return outcomes;
}

/** Messages on their way into one stream's buffer, within one transaction: numbers are counted here and written once. */
export class StreamAppend {
  private readonly tail: Tail;
  private lastSeq: number;
  private readonly counts = new Map<number, number>();

  constructor(
    private readonly view: WriteView,
    private readonly stream: number,
  ) {
    this.tail = tailOf(view, stream);
    this.lastSeq = this.tail.lastSeq;
  }

  write(message: NewMessage, encoded: EncodedMessage): AppendOutcome {
    const { view, stream } = this;
    const { partition = 0, dedupeId } = message;
    if (dedupeId !== undefined && !view.add(dedupeKey(stream, dedupeId), PRESENT)) return { status: 'duplicate' };
    return { status: 'stored', id: formatId(stream, this.put(partition, encoded)) };
  }

  /** Behind all that is there; the message's number. */
  put(partition: number, encoded: EncodedMessage): number {
    const { view, stream } = this;
    this.lastSeq += 1;
    const seq = this.lastSeq;
    view.put(messageKey(stream, partition, seq), encoded);
    if (this.tail.timeOrder) view.put(timeKey(stream, partition, createdOf(encoded).getTime(), seq), PRESENT);
    this.counts.set(partition, (this.counts.get(partition) ?? 0) + 1);
    return seq;
  }

  finish(): void {
    if (this.counts.size === 0) return;
    saveTail(this.view, this.stream, { ...this.tail, lastSeq: this.lastSeq });
    for (const [partition, count] of this.counts) {
      const key = countKeyOf(this.stream, partition);
      this.view.put(key, encodeNumber(decodeNumber(this.view.get(key)) + count));
    }
  }
}

export function fetchMessages(
  view: ReadView,
  key: ConsumerKey,
  after: MessageId | undefined,
  limits: FetchLimits,
): Block {
  const stream = findStream(view, key.stream);
  if (stream === undefined) return EMPTY_BLOCK;
  const uncommitted = new UncommittedFilter(view, stream, key);
  const block = new BlockBuilder(stream, limits);
  const from = Math.max(seqAfter(stream, after), uncommitted.upTo);
  const { lastSeq } = tailOf(view, stream.id);
  if (lastSeq - from <= FEW) {
    for (let seq = from + 1; seq <= lastSeq; seq += 1) {
      const value = uncommitted.isDone(seq) ? undefined : view.get(messageKey(stream.id, key.partition, seq));
      if (value !== undefined && block.add(seq, value)) return block.full();
    }
    return block.ended();
  }
  for (const { key: messageAt, value } of view.entries(messageRange(stream.id, key.partition, from))) {
    const seq = seqOf(messageAt);
    if (!uncommitted.isDone(seq) && block.add(seq, value)) return block.full();
  }
  return block.ended();
}

export function fetchMessagesByTime(
  view: ReadView,
  key: ConsumerKey,
  range: TimeRange,
  after: TimeCursor | undefined,
  limits: FetchLimits,
): Block {
  const stream = findStream(view, key.stream);
  if (stream === undefined) return EMPTY_BLOCK;
  const uncommitted = new UncommittedFilter(view, stream, key);
  const block = new BlockBuilder(stream, limits);
  const { partition } = key;
  const from = range.from?.getTime() ?? Number.NEGATIVE_INFINITY;
  const to = range.to?.getTime() ?? Number.POSITIVE_INFINITY;
  let start = timeKey(stream.id, partition, from, 0);
  if (after !== undefined && after.created.getTime() >= from) {
    start = timeKey(stream.id, partition, after.created.getTime(), seqAfter(stream, after.id) + 1);
  }
  const end = timeKey(stream.id, partition, to, 0);
  if (start.compare(end) >= 0) return EMPTY_BLOCK;
  for (const indexed of view.keys({ start, end })) {
    const seq = seqOf(indexed);
    if (uncommitted.isDone(seq)) continue;
    const value = view.get(messageKey(stream.id, partition, seq));
    if (value !== undefined && block.add(seq, value)) return block.full();
  }
  return block.ended();
}

/** Keys only: the messages themselves are not touched. */
export function scanMessages(
  view: ReadView,
  key: ConsumerKey,
  after: MessageId | undefined,
  until: MessageId | undefined,
  limit: number,
): MessageId[] {
  const ids: MessageId[] = [];
  const stream = findStream(view, key.stream);
  if (stream === undefined) return ids;
  const last = until === undefined ? undefined : parseId(stream.id, until);
  const uncommitted = new UncommittedFilter(view, stream, key);
  const from = Math.max(seqAfter(stream, after), uncommitted.upTo);
  if (limit <= 0 || (last !== undefined && last <= from)) return ids;
  for (const messageAt of view.keys(messageRange(stream.id, key.partition, from, last))) {
    const seq = seqOf(messageAt);
    if (uncommitted.isDone(seq)) continue;
    ids.push(formatId(stream.id, seq));
    if (ids.length >= limit) break;
  }
  return ids;
}

export function loadMessages(view: ReadView, key: ConsumerKey, ids: readonly MessageId[]): StoredMessage[] {
  const stream = findStream(view, key.stream);
  if (stream === undefined) return [];
  const uncommitted = new UncommittedFilter(view, stream, key);
  const messages: StoredMessage[] = [];
  for (const id of ids) {
    const seq = parseId(stream.id, id);
    if (seq === undefined || uncommitted.isDone(seq)) continue;
    const value = view.get(messageKey(stream.id, key.partition, seq));
    if (value !== undefined && isIntact(value)) messages.push(toMessage(stream, seq, value));
  }
  return messages;
}

/** `created` of the first message by number; the oldest but for clocks that went back. */
export function oldestCreated(view: ReadView, stream: StreamRecord, partition: number): number | undefined {
  for (const { value } of view.entries(messageRange(stream.id, partition, 0))) {
    if (isIntact(value)) return createdOf(value).getTime();
  }
  return undefined;
}

export class BlockBuilder {
  private readonly messages: StoredMessage[] = [];
  private damaged: MessageId[] | undefined;
  private bytes = 0;

  constructor(
    private readonly stream: StreamRecord,
    private readonly limits: FetchLimits,
  ) {}

  /** True when a limit has been reached. */
  add(seq: number, value: Buffer): boolean {
    if (!isIntact(value)) {
      (this.damaged ??= []).push(formatId(this.stream.id, seq));
      return false;
    }
    this.messages.push(toMessage(this.stream, seq, value));
    this.bytes += value.length;
    return this.messages.length >= this.limits.messages || this.bytes >= this.limits.bytes;
  }

  full(): Block {
    return this.block(true);
  }

  ended(): Block {
    return this.block(false);
  }

  private block(full: boolean): Block {
    const { messages, damaged } = this;
    return damaged === undefined ? { messages, full } : { messages, full, damaged };
  }
}

function toMessage(stream: StreamRecord, seq: number, value: Buffer): StoredMessage {
  const message = decodeMessage(formatId(stream.id, seq), value);
  const isCleared = seq <= (stream.clearedTo ?? 0) && !message.redriven;
  return isCleared ? Object.assign(message, { cleared: true }) : message;
}

export function seqAfter(stream: StreamRecord, after: MessageId | undefined): number {
  return after === undefined ? 0 : (parseId(stream.id, after) ?? 0);
}
