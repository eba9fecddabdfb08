import { decodeMessage } from '../encoded-message.js';
import type {
  Block,
  ConsumerKey,
  FetchLimits,
  MessageId,
  StoredMessage,
  TimeCursor,
  TimeRange,
} from '../stream-store.interface.js';
import type { MemoryDatabase } from './memory.database.js';
import { isVisible, type MemoryStream } from './memory.stream.js';
import type { BufferedEntry } from './message-list.js';

export function fetchMessages(
  database: MemoryDatabase,
  key: ConsumerKey,
  after: MessageId | undefined,
  limits: FetchLimits,
): Block {
  return block(database.streams.get(key.stream), visible(database, key, after), limits);
}

export function fetchMessagesByTime(
  database: MemoryDatabase,
  key: ConsumerKey,
  range: TimeRange,
  after: TimeCursor | undefined,
  limits: FetchLimits,
): Block {
  const from = range.from?.getTime() ?? Number.NEGATIVE_INFINITY;
  const to = range.to?.getTime() ?? Number.POSITIVE_INFINITY;
  const entries = [...visible(database, key, undefined)]
    .filter(({ created, id }) => {
      if (created < from || created >= to) return false;
      if (after === undefined) return true;
      const cursor = after.created.getTime();
      return created > cursor || (created === cursor && id > after.id);
    })
    // The sort is stable, and the entries come in the order of their ids.
    .sort((a, b) => a.created - b.created);
  return block(database.streams.get(key.stream), entries, limits);
}

export function scanMessages(
  database: MemoryDatabase,
  key: ConsumerKey,
  after: MessageId | undefined,
  until: MessageId | undefined,
  limit: number,
): MessageId[] {
  const ids: MessageId[] = [];
  for (const { id } of visible(database, key, after)) {
    if (ids.length >= limit || (until !== undefined && id > until)) break;
    ids.push(id);
  }
  return ids;
}

export function loadMessages(database: MemoryDatabase, key: ConsumerKey, ids: readonly MessageId[]): StoredMessage[] {
  const stream = database.streams.get(key.stream);
  if (stream === undefined) return [];
  return ids
    .map((id) => stream.messages.get(id))
    .filter((entry) => entry !== undefined)
    .filter((entry) => isVisible(entry, key))
    .map((entry) => toMessage(stream, entry));
}

export function readBlock(
  entries: Iterable<BufferedEntry>,
  limits: FetchLimits,
  toStored: (entry: BufferedEntry) => StoredMessage,
): Block {
  const messages: StoredMessage[] = [];
  let bytes = 0;
  for (const entry of entries) {
    messages.push(toStored(entry));
    bytes += entry.encoded.length;
    if (messages.length >= limits.messages || bytes >= limits.bytes) return { messages, full: true };
  }
  return { messages, full: false };
}

function* visible(database: MemoryDatabase, key: ConsumerKey, after: MessageId | undefined): Generator<BufferedEntry> {
  const stream = database.streams.get(key.stream);
  if (stream === undefined) return;
  for (const entry of stream.messages.after(after)) if (isVisible(entry, key)) yield entry;
}

function block(stream: MemoryStream | undefined, entries: Iterable<BufferedEntry>, limits: FetchLimits): Block {
  if (stream === undefined) return { messages: [], full: false };
  return readBlock(entries, limits, (entry) => toMessage(stream, entry));
}

function toMessage(stream: MemoryStream, entry: BufferedEntry): StoredMessage {
  const message = decodeMessage(entry.id, entry.encoded);
  return stream.isCleared(entry) ? Object.assign(message, { cleared: true }) : message;
}
