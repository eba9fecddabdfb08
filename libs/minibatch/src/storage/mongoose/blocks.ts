import type { mongo } from 'mongoose';
import type { Block, ConsumerKey, FetchLimits, MessageId, StoredMessage } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import { isMessage, LEAST_ID, MESSAGES } from './foreign.js';
import { BufferMessage } from './buffer-message.js';
import { toObjectId } from './message-ids.js';
import { RawDocument } from './raw-document.js';
import { findRaw } from './raw-reads.js';
import type { BufferDocument } from './schemas/buffer.schema.js';

export type BufferFilter = mongo.Filter<BufferDocument>;

/** Documents of the buffer, in the order of the query. */
export interface BufferPage {
  readonly documents: readonly RawDocument[];
  /** True if the read ended at a limit. */
  readonly more: boolean;
}

/**
 * Reads pages of the buffer without foreign documents. To exclude these in the query costs a server up to a fifth more for each read, and
 * there are none as a rule. So the documents that arrive are checked here, and only a stream in which one was found is read with the
 * whole filter from then on.
 */
export class BufferPages {
  private readonly streamsWithForeign = new Set<string>();

  constructor(private readonly collections: Pick<Collections, 'buffer'>) {}

  /** @param filter for documents of the stream whose `_id` is an `ObjectId` */
  async find(stream: string, filter: BufferFilter, sort: Record<string, 1>, limit: number): Promise<BufferPage> {
    if (!this.streamsWithForeign.has(stream)) {
      const page = await this.read(filter, sort, limit);
      if (page.documents.every(isMessage)) return page;
      this.streamsWithForeign.add(stream);
    }
    return this.read({ ...filter, $and: [...(filter.$and ?? []), MESSAGES] }, sort, limit);
  }

  private async read(filter: BufferFilter, sort: Record<string, 1>, limit: number): Promise<BufferPage> {
    const { documents, more } = await findRaw(this.collections.buffer, { filter, sort, limit });
    return { documents: documents.map((bytes) => new RawDocument(bytes)), more: more || documents.length >= limit };
  }
}

/**
 * What the consumer has not committed: `waits` narrows the index range, `done` decides. Documents written by Python have neither of these
 * lists, and no partition.
 */
export function waiting({ stream, group, partition }: ConsumerKey): BufferFilter {
  return { ...waitingForAny(stream, partition, [group]), done: { $ne: group } } as BufferFilter;
}

/** What any of the groups has not committed, and some messages that all of them have. */
export function waitingForAny(stream: string, partition: number, groups: readonly string[]): BufferFilter {
  return {
    _id: { $gte: LEAST_ID },
    stream,
    processed: false,
    waits: { $in: [null, ...groups] },
    partition: partition === 0 ? { $in: [0, null] } : partition,
  } as BufferFilter;
}

/**
 * What this package has kept; a document that Python has kept has no `settled`. `waits` narrows the index range. It names groups only if a
 * group has marked the message after it was kept, and until that is noticed.
 */
export function kept(stream: string, groups: readonly string[]): BufferFilter {
  const marks: object = { processed: true, waits: { $in: [null, ...groups] }, keep: true, settled: { $exists: true } };
  return { ...MESSAGES, stream, ...marks };
}

export function behind(after: MessageId | undefined): BufferFilter {
  return after === undefined ? {} : { _id: { $gt: toObjectId(after) } };
}

/** The condition of `waiting`, for one document that was read for several groups. */
export function waitsFor(document: RawDocument, group: string): boolean {
  const waits = document.get('waits') as readonly unknown[] | undefined;
  if (waits && !waits.includes(null) && !waits.includes(group)) return false;
  const done = document.get('done') as readonly unknown[] | undefined;
  return !done?.includes(group);
}

/** @param groupsVersion see `BufferMessage` */
export function toBlock({ documents, more }: BufferPage, limits: FetchLimits, groupsVersion?: number): Block {
  const messages: StoredMessage[] = [];
  let bytes = 0;
  for (const document of documents) {
    messages.push(new BufferMessage(document, groupsVersion));
    bytes += document.bytes.length;
    if (bytes >= limits.bytes || messages.length >= limits.messages) return { messages, full: true };
  }
  return { messages, full: more };
}
