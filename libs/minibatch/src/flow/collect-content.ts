import type { Message } from '../windows/message.js';
import { batchesOf } from '../common/batches.js';
import type { Place } from './aggregates.js';
import { type ChunkWriter, type ContentKind, type Held, heldOf } from './content.js';
import type { FailedItem, FiredWindow, TimedItem, WindowContent } from './window-logic.js';

/** A message as it lies in a row. */
export interface CollectedMessage extends Message {
  /** Its time in its windows, in milliseconds since the epoch. */
  readonly time: number;
  /** Size as it was stored, in bytes. */
  readonly bytes: number;
}

/** The value of a row of messages, in read order. It is written once, and never changed. */
export interface Chunk {
  readonly messages: readonly CollectedMessage[];
}

/** Where messages are: rows of them, and the last few, which have no row of their own yet. */
interface Collected {
  readonly chunks: readonly ChunkRef[];
  readonly tail: readonly CollectedMessage[];
}

export interface ChunkRef {
  readonly slot: string;
  readonly count: number;
  readonly bytes: number;
}

/** A chunk is read and written as a whole. */
const LARGEST_CHUNK = { items: 1000, bytes: 1024 * 1024 };
/** What is written again with its key at each batch: a key with few messages needs no further row until its window is fired. */
const LARGEST_TAIL = { items: 32, bytes: 8 * 1024 };

/** The messages themselves: each is stored once, however many windows it is in. */
export class CollectContent implements ContentKind {
  readonly revises = false;

  empty(): Held {
    return heldOf({ chunks: [], tail: [] } satisfies Collected, true);
  }

  load(value: unknown): Held {
    return heldOf(value, false);
  }

  add(held: Held, item: TimedItem): void {
    const { chunks, tail } = collectedOf(held);
    if (held.isOwn) (tail as CollectedMessage[]).push(collectedFrom(item));
    else held.value = { chunks, tail: [...tail, collectedFrom(item)] } satisfies Collected;
    held.isOwn = true;
  }

  merge(held: readonly Held[]): Held {
    const all = held.map(collectedOf);
    return heldOf({ chunks: all.flatMap(({ chunks }) => chunks), tail: all.flatMap(({ tail }) => tail) }, true);
  }

  seal(held: Held, writer: ChunkWriter): boolean {
    const { chunks, tail } = collectedOf(held);
    if (tail.length === 0) return false;
    const written = writeChunks(tail, writer).map(({ items: _items, ...ref }) => ref);
    held.value = { chunks: [...chunks, ...written], tail: [] } satisfies Collected;
    held.isOwn = true;
    return true;
  }

  given(held: Held): Pick<FiredWindow, 'content'> {
    const { chunks } = collectedOf(held);
    if (chunks.length === 0) return {};
    return {
      content: {
        chunks: chunks.map(({ slot }) => slot),
        count: chunks.reduce((sum, { count }) => sum + count, 0),
        bytes: chunks.reduce((sum, { bytes }) => sum + bytes, 0),
      },
    };
  }

  rows(held: Held): readonly string[] {
    return collectedOf(held).chunks.map(({ slot }) => slot);
  }

  finish(held: Held, writer: ChunkWriter): readonly FailedItem[] {
    if (tooLong(collectedOf(held).tail)) this.seal(held, writer);
    return [];
  }
}

export interface PartLimits {
  /** Most messages of a part. */
  readonly maxSize: number;
  /** Most bytes of a part; a single message may have more. */
  readonly maxBytes: number;
}

/**
 * The messages of a fired window, in its parts.
 *
 * @param order `time`: by time, then id; `append`: as they were read
 * @param chunk the value of a row
 */
export function partsOf(
  content: WindowContent,
  order: 'time' | 'append',
  limits: PartLimits,
  chunk: (slot: string) => unknown,
): readonly (readonly CollectedMessage[])[] {
  const { skip = 0, after = -Infinity, until = Infinity } = content;
  const all = content.chunks.flatMap((slot) => (chunk(slot) as Chunk).messages).slice(skip);
  const messages = all.filter(({ time }) => time > after && time <= until);
  if (order === 'time') messages.sort(byTime);
  const batches = batchesOf(messages, { items: limits.maxSize, bytes: limits.maxBytes }, ({ bytes }) => bytes);
  return batches.map(({ items }) => items);
}

export function byTime(a: Place, b: Place): number {
  return a.time - b.time || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
}

/** Whether it is to be written as a chunk, and not with its key again and again. */
export function tooLong(tail: readonly CollectedMessage[]): boolean {
  return tail.length > LARGEST_TAIL.items || tail.reduce((sum, { bytes }) => sum + bytes, 0) > LARGEST_TAIL.bytes;
}

/** Writes messages as rows that do not change any more. */
export function writeChunks(
  messages: readonly CollectedMessage[],
  writer: ChunkWriter,
): readonly (ChunkRef & { readonly items: readonly CollectedMessage[] })[] {
  return batchesOf(messages, LARGEST_CHUNK, ({ bytes }) => bytes).map(({ items, bytes }) => ({
    slot: writer.put({ messages: items } satisfies Chunk),
    count: items.length,
    bytes,
    items,
  }));
}

function collectedOf({ value }: Held): Collected {
  return value as Collected;
}

export function collectedFrom({ id, time, data, message, bytes }: TimedItem): CollectedMessage {
  const { created, key, headers } = message;
  return { id, time, created, data, bytes, ...(key !== undefined && { key }), ...(headers && { headers }) };
}
