import { allPartitions, partitionCount } from '../partitions.js';
import type { ConsumerKey, StreamInfo } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import { consumerDocumentId, NOT_RETIRED } from './consumer-document.js';
import { insertFresh, listsOf, publishList } from './consumer-inserts.js';
import { guarded } from './store-errors.js';

/** The consumers of registered groups in partitions that a stream was given later. */
export class AddedPartitions {
  constructor(private readonly collections: Pick<Collections, 'consumer' | 'stream' | 'window'>) {}

  /** Those of all groups. */
  async extend(stream: StreamInfo): Promise<void> {
    await guarded(`register the groups of '${stream.name}' in its partitions`, async () => {
      const lists = await listsOf(this.collections, [stream.name]);
      const { groups = [] } = lists.get(stream.name) ?? {};
      const partitions = allPartitions(stream);
      await this.insert(
        groups.flatMap((group) => partitions.map((partition) => ({ stream: stream.name, group, partition }))),
      );
    });
  }

  /**
   * Makes those of these consumers that only a growth can have left without a document: another process is about to make it, or died before,
   * or registered the group with the partitions that it had read earlier. After a drop, a group has no document in the first partition
   * either. Resolves with true if there were any.
   */
  async complete(keys: readonly ConsumerKey[]): Promise<boolean> {
    const later = keys.filter(({ partition }) => partition > 0);
    if (later.length === 0) return false;
    const { consumer, stream } = this.collections;
    const firsts = [...new Set(later.map((key) => consumerDocumentId({ ...key, partition: 0 })))];
    const found = await consumer
      .find({ _id: { $in: firsts }, ...NOT_RETIRED }, { projection: { _id: 1 }, batchSize: firsts.length + 1 })
      .toArray();
    if (found.length === 0) return false;
    const registered = new Set(found.map(({ _id }) => _id));
    const names = [...new Set(later.map((key) => key.stream))];
    const streams = await stream
      .find(
        { name: { $in: names } },
        { projection: { name: 1, groups: 1, partitions: 1 }, batchSize: names.length + 1 },
      )
      .toArray();
    const byName = new Map(streams.map((each) => [each.name, each]));
    const added = later.filter((key) => {
      const { groups = [], ...partitioning } = byName.get(key.stream) ?? {};
      const isThere = groups.includes(key.group) && key.partition < partitionCount(partitioning);
      return isThere && registered.has(consumerDocumentId({ ...key, partition: 0 }));
    });
    await this.insert(added);
    return added.length > 0;
  }

  private async insert(keys: readonly ConsumerKey[]): Promise<void> {
    if (keys.length === 0) return;
    const names = [...new Set(keys.map(({ stream }) => stream))];
    const lists = await listsOf(this.collections, names);
    await insertFresh(
      this.collections,
      keys.filter(({ stream }) => lists.has(stream)),
      lists,
    );
    // A group may have been added or removed, and the stream dropped, between the list and the insert.
    const now = await listsOf(this.collections, names);
    for (const [stream, list] of now) await publishList(this.collections, stream, list);
    const gone = keys.filter(({ stream, group }) => !now.get(stream)?.groups.includes(group)).map(consumerDocumentId);
    if (gone.length > 0)
      await this.collections.consumer.deleteMany({ _id: { $in: gone }, 'lease.fence': 0, 'lease.counter': 0 });
  }
}
