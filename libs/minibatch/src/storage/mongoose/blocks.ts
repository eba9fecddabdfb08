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
import { joined } from './turn-batch.js';

export type BufferFilter = mongo.Filter<BufferDocument>;

/** How long a stream is read with the whole filter after a foreign document was found in it, in milliseconds. */
const FOREIGN_AGE = 60_000;

/** Consumers that read together; below that it gains nothing. */
const FEWEST_TOGETHER = 4;
/** Messages of one such read. */
const MOST_TOGETHER = 12_000;

interface FirstRead {
  readonly key: ConsumerKey;
  readonly limit: number;
}

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
  private readonly firsts = joined<FirstRead, BufferPage>(
    (read) => this.findFirstOf(read),
    (reads) => this.findFirsts(reads),
  );

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

  /**
   * What a group has not committed, from the start. Many consumers that read in one turn, as they do when they begin, or when many streams
   * wake, share a read: if together they have little, it is all of it.
   */
  findFirst(key: ConsumerKey, limit: number): Promise<BufferPage> {
    return this.firsts.add({ key, limit });
  }

  private findFirstOf({ key, limit }: FirstRead): Promise<BufferPage> {
    return this.find(key.stream, { filter: waiting(key), sort: { _id: 1 }, limit, groups: [key.group] });
  }

  private async findFirsts(reads: readonly FirstRead[]): Promise<readonly BufferPage[]> {
    const few = reads.length < FEWEST_TOGETHER || !this.refusals.isEmpty;
    const together = few ? undefined : await this.findTogether(reads);
    return together ?? Promise.all(reads.map((read) => this.findFirstOf(read)));
  }

  /** Undefined if there is more than one reply holds, or if something is not as plain as a message: then each reads for itself. */
  private async findTogether(reads: readonly FirstRead[]): Promise<readonly BufferPage[] | undefined> {
    const names = [...new Set(reads.map(({ key }) => key.stream))];
    const groups = [...new Set(reads.map(({ key }) => key.group))];
    const filter = { stream: { $in: names }, processed: false, waits: { $in: [null, ...groups] } } as BufferFilter;
    const { documents, more } = await this.read({ filter, limit: MOST_TOGETHER });
    if (more || !documents.every(isMessage)) return undefined;
    const byStream = new Map<unknown, RawDocument[]>();
    for (const document of documents) {
      const stream = document.get('stream');
      const others = byStream.get(stream);
      if (others) others.push(document);
      else byStream.set(stream, [document]);
    }
    return reads.map(({ key, limit }) => {
      const own = (byStream.get(key.stream) ?? [])
        .filter((document) => this.waitsFor(document, key.group) && isOf(document, key.partition))
        .toSorted((a, b) => (idOf(a) < idOf(b) ? -1 : 1));
      return { documents: own.slice(0, limit), more: own.length >= limit };
    });
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

function isOf(document: RawDocument, partition: number): boolean {
  return ((document.get('partition') as number | null | undefined) ?? 0) === partition;
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
