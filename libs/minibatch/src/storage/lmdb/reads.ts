import { createdOf, decodeMessage, isIntact } from '../encoded-message.js';
import type {
  Block,
  ConsumerKey,
  FetchLimits,
  MessageId,
  StoredMessage,
  TimeCursor,
  TimeRange,
} from '../stream-store.interface.js';
import { UncommittedFilter } from './group-offsets.js';
import { formatId, messageKey, messageRange, parseId, seqOf, timeKey } from './keys.js';
import type { StreamRecord } from './records.js';
import { findStream, tailOf } from './stream-records.js';
import type { ReadView } from './view.js';

const EMPTY_BLOCK: Block = { messages: [], full: false };
/**
 * Up to this many messages are looked up one at a time. What an iteration of lmdb-js refers to survives minor garbage collections: one
 * iteration for each message causes a major collection every two seconds at 1,000 messages/s.
 */
const FEW = 16;

/** What a fetch needs; undefined if there is no such stream. */
function readingOf(view: ReadView, key: ConsumerKey, limits: FetchLimits) {
  const stream = findStream(view, key.stream);
  if (stream === undefined) return undefined;
  return {
    stream,
    uncommitted: new UncommittedFilter(view, stream, key),
    block: new BlockBuilder(stream, limits),
  };
}

export function fetchMessages(
  view: ReadView,
  key: ConsumerKey,
  after: MessageId | undefined,
  limits: FetchLimits,
): Block {
  const reading = readingOf(view, key, limits);
  if (reading === undefined) return EMPTY_BLOCK;
  const { stream, uncommitted, block } = reading;
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
  const reading = readingOf(view, key, limits);
  if (reading === undefined) return EMPTY_BLOCK;
  const { stream, uncommitted, block } = reading;
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
