import type { mongo } from 'mongoose';
import type { Block, ConsumerKey, FetchLimits, MessageId, StoredMessage } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import { isMessage, LEAST_ID, MESSAGES } from './foreign.js';
import { BufferMessage } from './buffer-message.js';
import { toObjectId } from './message-ids.js';
import { RawDocument } from './raw-document.js';
import { findRaw, type Query } from './raw-reads.js';
import type { Refusals } from './refusals.js';
import type { BufferDocument } from './schemas/buffer.schema.js';

export type BufferFilter = mongo.Filter<BufferDocument>;

/** How long a stream is read with the whole filter after a foreign document was found in it, in milliseconds. */
const FOREIGN_AGE = 60_000;

/** Documents of the buffer, in the order of the query. */
export interface BufferPage {
  readonly documents: readonly RawDocument[];
  /** True if the read ended at a limit. */
  readonly more: boolean;
}

/** A query for documents of one stream whose `_id` is an `ObjectId`. */
export interface BufferQuery extends Query<BufferDocument> {
  /** The groups that read: without what the server does not let them mark. Absent: without these restrictions. */
  readonly groups?: readonly string[];
}

/**
 * Reads pages of the buffer without foreign documents. To exclude these in the query costs a server up to a fifth more for each read, and
 * there are none as a rule. So the documents that arrive are checked here, and only a stream in which one was found is read with the
 * whole filter for a while.
 */
export class BufferPages {
  /** When a foreign document was last found in a stream. */
  private readonly foreign = new Map<string, number>();

  constructor(
    private readonly collections: Pick<Collections, 'buffer'>,
    private readonly refusals: Refusals,
    private readonly now: () => number = () => performance.now(),
  ) {}

  async find(stream: string, { groups, ...query }: BufferQuery): Promise<BufferPage> {
    const wanted = groups ? { ...query, filter: this.without(groups, query.filter) } : query;
    const found = this.foreign.get(stream);
    if (found === undefined || this.now() - found > FOREIGN_AGE) {
      const page = await this.read(wanted);
      if (page.documents.every(isMessage)) {
        if (found !== undefined) this.foreign.delete(stream);
        return page;
      }
      this.foreign.set(stream, this.now());
    }
    return this.read({ ...wanted, filter: narrowed(wanted.filter, [MESSAGES]) });
  }

  /** Without what the server lets none of the groups mark. */
  without(groups: readonly string[], filter: BufferFilter): BufferFilter {
    return narrowed(filter, this.refusals.without(groups, toObjectId));
  }

  /** The condition of a read for one of several groups. */
  waitsFor(document: RawDocument, group: string): boolean {
    return waitsFor(document, group) && (this.refusals.isEmpty || !this.refusals.has(idOf(document), group));
  }

  private async read(query: Query<BufferDocument>): Promise<BufferPage> {
    const { documents, more } = await findRaw(this.collections.buffer, query);
    return {
      documents: documents.map((bytes) => new RawDocument(bytes)),
      more: more || documents.length >= query.limit,
    };
  }
}

function narrowed(filter: BufferFilter, conditions: readonly BufferFilter[]): BufferFilter {
  return conditions.length === 0 ? filter : { ...filter, $and: [...(filter.$and ?? []), ...conditions] };
}

function idOf(document: RawDocument): MessageId {
  return (document.get('_id') as mongo.ObjectId).toHexString();
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
  return { _id: { $gte: LEAST_ID }, stream, ...marks } as BufferFilter;
}

export function behind(after: MessageId | undefined): BufferFilter {
  return after === undefined ? {} : { _id: { $gt: toObjectId(after) } };
}

/** The condition of `waiting`, for one document. */
function waitsFor(document: RawDocument, group: string): boolean {
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
