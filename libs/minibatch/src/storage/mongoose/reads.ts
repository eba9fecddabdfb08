import type {
  Block,
  ConsumerKey,
  FetchLimits,
  MessageId,
  StoredMessage,
  TimeCursor,
  TimeRange,
} from '../stream-store.interface.js';
import { behind, type BufferFilter, type BufferPages, type BufferQuery, kept, toBlock, waiting } from './blocks.js';
import type { Collections } from './collections.js';
import { isMessage, MESSAGES } from './foreign.js';
import type { GroupListVersions } from './group-list-versions.js';
import { BufferMessage } from './buffer-message.js';
import { toObjectId } from './message-ids.js';
import { findByIds } from './raw-reads.js';
import type { SharedReads } from './shared-reads.js';
import { guarded } from './store-errors.js';
import { groupsOf } from './streams.js';

/** Reads of the buffer. Each is one round trip as long as the reply fits into one message of the server. */
export class Reads {
  constructor(
    private readonly collections: Pick<Collections, 'buffer' | 'stream'>,
    private readonly pages: BufferPages,
    private readonly shared: SharedReads,
    private readonly versions: GroupListVersions,
  ) {}

  async fetch(key: ConsumerKey, after: MessageId | undefined, limits: FetchLimits): Promise<Block> {
    if (limits.aside) return this.waiting(key, behind(after), { _id: 1 }, limits);
    return guarded(`fetch from '${key.stream}'`, () => this.shared.fetch(key, after, limits));
  }

  async kept(stream: string, after: MessageId | undefined, limits: FetchLimits): Promise<Block> {
    const groups = await guarded(`read the groups of '${stream}'`, () => groupsOf(this.collections, stream));
    return this.block(stream, { filter: { ...kept(stream, groups), ...behind(after) }, sort: { _id: 1 } }, limits);
  }

  async fetchByTime(
    key: ConsumerKey,
    { from, to }: TimeRange,
    after: TimeCursor | undefined,
    limits: FetchLimits,
  ): Promise<Block> {
    const first = after?.created ?? from;
    const created = { ...(first && { $gte: first }), ...(to && { $lt: to }) };
    const filter: BufferFilter = {
      ...(first || to ? { created } : {}),
      // The bound above lets the index start there; this one excludes messages of that moment that have been read.
      ...(after && { $or: [{ created: { $gt: after.created } }, { _id: { $gt: toObjectId(after.id) } }] }),
    };
    return this.waiting(key, filter, { created: 1, _id: 1 }, limits);
  }

  async scan(
    key: ConsumerKey,
    after: MessageId | undefined,
    until: MessageId | undefined,
    limit: number,
  ): Promise<readonly MessageId[]> {
    const bounds = {
      ...(after !== undefined && { $gt: toObjectId(after) }),
      ...(until !== undefined && { $lte: toObjectId(until) }),
    };
    this.shared.begin(key);
    const filter: BufferFilter = after === undefined && until === undefined ? {} : { _id: bounds };
    const found = await guarded(`scan '${key.stream}'`, () =>
      this.collections.buffer
        .find(this.pages.without([key.group], { ...waiting(key), ...MESSAGES, ...filter }), { projection: { _id: 1 } })
        .sort({ _id: 1 })
        .limit(limit)
        .batchSize(limit + 1)
        .toArray(),
    );
    return found.map(({ _id }) => _id.toHexString());
  }

  async load(key: ConsumerKey, ids: readonly MessageId[]): Promise<readonly StoredMessage[]> {
    if (ids.length === 0) return [];
    const found = new Map<MessageId, StoredMessage>();
    const groupsVersion = this.versions.current(key.stream);
    const documents = await guarded(`load messages of '${key.stream}'`, () => findByIds(this.collections.buffer, ids));
    for (const document of documents) {
      if (document.get('processed') || !isMessage(document)) continue;
      const done = document.get('done') as readonly string[] | undefined;
      if (done?.includes(key.group)) continue;
      const message = new BufferMessage(document, groupsVersion);
      found.set(message.id, message);
    }
    return ids.flatMap((id) => found.get(id) ?? []);
  }

  private waiting(
    key: ConsumerKey,
    filter: BufferFilter,
    sort: Record<string, 1>,
    limits: FetchLimits,
  ): Promise<Block> {
    return this.block(key.stream, { filter: { ...waiting(key), ...filter }, sort, groups: [key.group] }, limits);
  }

  private async block(stream: string, query: Omit<BufferQuery, 'limit'>, limits: FetchLimits): Promise<Block> {
    const groupsVersion = this.versions.current(stream);
    const page = await guarded(`fetch from '${stream}'`, () =>
      this.pages.find(stream, { ...query, limit: limits.messages }),
    );
    return toBlock(page, limits, groupsVersion);
  }
}
