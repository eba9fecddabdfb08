import { defined } from '../../common/defined.js';
import { isA } from '../../errors/error-text.js';
import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import { unknownGroup, unknownStream } from '../../errors/store-faults.js';
import { allPartitions, partitionCount } from '../partitions.js';
import { NO_PROGRESS, type ConsumerKey, type GroupKey, type RegisterGroupOptions } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import { consumerDocumentId, NOT_RETIRED, removedConsumerId, WITHOUT_EFFECTS } from './consumer-document.js';
import {
  type ConsumerState,
  FRESH,
  type GroupList,
  insertFresh,
  LIST,
  listsOf,
  publishList,
  toList,
} from './consumer-inserts.js';
import type { MessageRemoval } from './message-removal.js';
import { ARRAY, WELL_FORMED } from './foreign.js';
import type { GroupListVersions } from './group-list-versions.js';
import { makePartitionIndex, makeTimeIndex } from './indexes.js';
import type { ConsumerDocument } from './schemas/consumer.schema.js';
import { guarded, isDuplicateKey, retriedIfLost } from './store-errors.js';
import type { StateRoles } from './state-roles.js';
import type { Streams } from './streams.js';
import { joined } from './turn-batch.js';

/** That of a group that takes no other one's place. */
interface Registration {
  readonly key: GroupKey;
  readonly timeOrder: boolean;
}

/** A stream is dropped so often in the middle of a registration only if somebody does so on purpose. */
const MOST_DROPS = 10;

/** What makes the stream first, once more if it was dropped in the meantime. */
async function againIfDropped(register: () => Promise<unknown>): Promise<void> {
  for (let drops = 1; ; drops += 1) {
    try {
      await register();
      return;
    } catch (error) {
      const wasDropped = isA(error, MinibatchError) && error.code === ErrorCode.UnknownStream;
      if (!wasDropped || drops === MOST_DROPS) throw error;
    }
  }
}

/**
 * The groups of a stream. The list in the stream's document is authoritative. Each consumer's document has a copy, because the commit point
 * has to return the groups in the same step in which it commits.
 *
 * A copy carries the version of the list and is replaced only by a newer one. Adding and removing single names would be wrong: a process
 * that read the list, was suspended, and then added what it had read would bring back a group that was removed in between, and no message
 * would leave the buffer again.
 */
export class Groups {
  private readonly registrations = joined<Registration, undefined>(
    async ({ key, timeOrder }) => {
      await this.registerOne(key, { timeOrder });
      return undefined;
    },
    (registrations) => this.registerAll(registrations),
  );

  constructor(
    private readonly collections: Collections,
    private readonly streams: Streams,
    private readonly removal: MessageRemoval,
    private readonly versions: GroupListVersions,
    private readonly state: Pick<StateRoles, 'decided' | 'removal'>,
  ) {}

  async register(key: GroupKey, { timeOrder = false, replaces }: RegisterGroupOptions): Promise<void> {
    const others = replaces !== undefined && replaces !== key.group;
    await againIfDropped(() =>
      others ? this.registerOne(key, { timeOrder, replaces }) : this.registrations.add({ key, timeOrder }),
    );
  }

  private async registerOne(key: GroupKey, { timeOrder, replaces }: RegisterGroupOptions): Promise<void> {
    await guarded(`register group '${key.group}' on '${key.stream}'`, async () => {
      if (timeOrder) await makeTimeIndex(this.collections);
      const stream = await this.streams.ensure(key.stream);
      // Somebody may have dropped the collection.
      if (partitionCount(stream) > 1) await makePartitionIndex(this.collections);
      const list = await this.add(key.stream, key.group);
      this.versions.hear(key.stream, list.groupsVersion);
      if (replaces !== undefined && replaces !== key.group) await this.replace(key.stream, replaces, key.group);
      for (const partition of allPartitions(stream)) await this.insertConsumer({ ...key, partition }, FRESH, list);
      // The new group also gets messages that others have committed and that are still there, even if those groups are gone.
      await this.removal.waitForAll(key.stream, [key.group]);
    });
  }

  /** The same in a few commands, for what a start with many consumers registers in one turn. */
  private async registerAll(registrations: readonly Registration[]): Promise<readonly undefined[]> {
    const groups = registrations.map(({ key }) => key);
    await guarded('register groups', async () => {
      if (registrations.some(({ timeOrder }) => timeOrder)) await makeTimeIndex(this.collections);
      const names = [...new Set(groups.map(({ stream }) => stream))];
      const infos = await this.streams.ensureAll(names);
      const keys = groups.flatMap((key) =>
        allPartitions(infos.get(key.stream) ?? {}).map((partition) => ({ ...key, partition })),
      );
      if (keys.some(({ partition }) => partition > 0)) await makePartitionIndex(this.collections);
      await this.addAll(groups);
      const lists = await this.lists(names);
      for (const [stream, { groupsVersion }] of lists) this.versions.hear(stream, groupsVersion);
      await this.insertConsumers(keys, lists);
      await this.publishAll(names);
      for (const [stream, waiting] of await this.halfDone(groups)) await this.removal.waitForAll(stream, waiting);
    });
    return registrations.map(() => undefined);
  }

  private async addAll(keys: readonly GroupKey[]): Promise<void> {
    const names = new Map<string, string[]>();
    for (const { stream, group } of keys) {
      const others = names.get(group);
      if (others) others.push(stream);
      else names.set(group, [stream]);
    }
    const operations = [...names].map(([group, streams]) => ({
      updateMany: {
        filter: { name: { $in: streams }, groups: { $ne: group } },
        update: { $addToSet: { groups: group }, $inc: { groupsVersion: 1 } },
      },
    }));
    await retriedIfLost(() => this.collections.stream.bulkWrite(operations, { ordered: false }));
  }

  /** @throws MinibatchError `UnknownStream` if one was dropped in this moment */
  private async lists(names: readonly string[]): Promise<ReadonlyMap<string, GroupList>> {
    const lists = await listsOf(this.collections, names);
    const gone = names.find((name) => !lists.has(name));
    if (gone !== undefined) throw unknownStream(gone);
    return lists;
  }

  private async insertConsumers(keys: readonly ConsumerKey[], lists: ReadonlyMap<string, GroupList>): Promise<void> {
    const { consumer } = this.collections;
    await insertFresh(this.collections, keys, lists);
    const ids = keys.map(consumerDocumentId);
    const retired = await consumer.find({ _id: { $in: ids }, retired: true }, { projection: { _id: 1 } }).toArray();
    for (const { _id } of retired) await this.revive(_id, FRESH);
  }

  /** Consumers may have been inserted with a list from which a change is missing that was published before. */
  private async publishAll(names: readonly string[]): Promise<void> {
    const lists = await this.lists(names);
    const copies = await this.collections.consumer
      .find({ stream: { $in: [...names] } }, { projection: { stream: 1, groupsVersion: 1 } })
      .toArray();
    const outdated = new Set<string>();
    for (const { stream, groupsVersion } of copies) {
      if (groupsVersion < (lists.get(stream)?.groupsVersion ?? 0)) outdated.add(stream);
    }
    for (const stream of outdated) await publishList(this.collections, stream, lists.get(stream)!);
  }

  /** The groups to be told of messages that others have committed, by stream: there are such messages in few streams. */
  private async halfDone(keys: readonly GroupKey[]): Promise<ReadonlyMap<string, readonly string[]>> {
    const names = [...new Set(keys.map(({ stream }) => stream))];
    const found = await this.collections.buffer
      .aggregate<{ _id: string }>([
        { $match: { stream: { $in: names }, processed: false, waits: { $type: ARRAY } } },
        { $group: { _id: '$stream' } },
      ])
      .toArray();
    return new Map(
      found.map(({ _id }) => [_id, keys.filter(({ stream }) => stream === _id).map(({ group }) => group)]),
    );
  }

  async remove(stream: string, group: string): Promise<void> {
    await guarded(`remove group '${group}' from '${stream}'`, async () => {
      const consumers = await this.consumersOf(stream, group);
      const present = await this.collections.stream.findOne(
        { name: stream, groups: group },
        { projection: { _id: 1 } },
      );
      if (!present && consumers.length === 0) throw unknownGroup(stream, group);
      await this.forget(stream, group, consumers);
    });
  }

  /** Hands everything that belongs to one group over to another. If it was interrupted, the next call completes it. */
  private async replace(stream: string, from: string, to: string): Promise<void> {
    const consumers = await this.consumersOf(stream, from);
    const list = await this.list(stream);
    if (!list.groups.includes(from) && consumers.length === 0) return;
    for (const consumer of consumers) await this.handOver(consumer, to, list);
    await this.removal.updateMany(
      { done: from, stream, processed: false, ...WELL_FORMED },
      { $addToSet: { done: to } },
    );
    await this.removal.updateMany(
      { stream, processed: false, waits: from, ...WELL_FORMED },
      { $addToSet: { waits: to } },
    );
    // Otherwise nobody could redrive them.
    await this.collections.deadletter.updateMany({ stream, group: from }, { $set: { group: to } });
    await this.forget(stream, from, consumers);
  }

  /**
   * The former holder loses its lease first. The new consumer begins where the old one stopped, with a fence above those of the windows
   * that are moved. If somebody acquires the new lease before they arrive, they are void, and their messages are delivered again.
   */
  private async handOver(from: ConsumerDocument, group: string, list: GroupList): Promise<void> {
    const { consumer, window } = this.collections;
    const deposed = await consumer.findOneAndUpdate(
      { _id: from._id },
      { $inc: { 'lease.fence': 1, 'lease.counter': 1 }, $unset: { 'lease.owner': '' } },
      { returnDocument: 'after' },
    );
    if (!deposed) return;
    const key = { stream: from.stream, group, partition: from.partition };
    const to = consumerDocumentId(key);
    this.state.decided.lost(from._id);
    const { adopted, finished, progress, stateId, effects, effectsFence } = deposed;
    const state = {
      lease: { fence: deposed.lease.fence, counter: 0 },
      adopted,
      finished,
      progress,
      replaces: from._id,
      ...defined({ stateId, effects, effectsFence }),
    };
    await this.insertConsumer(key, state, list);
    // A consumer that was registered and never held has no state to preserve.
    const unheld = await consumer.findOne({ _id: to }, { projection: { lease: 1, firstFence: 1 } });
    if (unheld && unheld.lease.fence === (unheld.firstFence ?? 0)) {
      const lease = {
        fence: Math.max(unheld.lease.fence, state.lease.fence),
        counter: unheld.lease.counter + 1,
      };
      await consumer.updateOne(
        { _id: to, 'lease.fence': unheld.lease.fence },
        { $set: { ...state, lease }, $unset: { firstFence: '' } },
      );
    }
    const heir = await consumer.findOne({ _id: to }, { projection: { replaces: 1, stateId: 1 } });
    if (heir?.replaces !== from._id) return; // It has state: the old windows are removed, and their messages are delivered again.
    await window.updateMany(
      { processed: false, consumer: from._id, fence: { $gte: adopted } },
      { $set: { consumer: to } },
    );
    await window.updateMany({ processed: true, consumer: from._id }, { $set: { consumer: to } });
    if (stateId && heir.stateId?.equals(stateId))
      await consumer.updateOne({ _id: from._id }, { $unset: { stateId: '', effects: '', effectsFence: '' } });
  }

  /** Afterwards no copy of the list names the group, so no message waits for it. */
  private async forget(stream: string, group: string, consumers: readonly ConsumerDocument[]): Promise<void> {
    const { consumer, window } = this.collections;
    await this.collections.stream.updateOne(
      { name: stream, groups: group },
      { $pull: { groups: group }, $inc: { groupsVersion: 1 } },
    );
    const list = await this.list(stream);
    await publishList(this.collections, stream, list);
    // The lease before the windows, so that nobody can commit for the group.
    await consumer.updateMany(
      { stream, group, ...NOT_RETIRED },
      {
        $set: { retired: true, finished: [], progress: NO_PROGRESS },
        $unset: { 'lease.owner': '', replaces: '', firstFence: '', note: '' },
        $inc: { 'lease.fence': 1, 'lease.counter': 1 },
      },
    );
    const owners = await this.state.removal.find({ stream, group, retired: true });
    for (const { _id } of owners) this.state.decided.lost(_id);
    await this.state.removal.appendDecided(owners);
    await window.deleteMany({ processed: false, consumer: { $in: consumers.map(({ _id }) => _id) } });
    await this.state.removal.remove(owners);
    for (const { _id } of consumers)
      await window.updateMany({ processed: true, consumer: _id }, { $set: { consumer: removedConsumerId(_id) } });
    await this.removal.updateMany(
      { done: group, stream, processed: false, ...WELL_FORMED },
      { $pull: { done: group } },
    );
    await this.removal.updateMany(
      { stream, processed: false, waits: group, ...WELL_FORMED },
      { $pull: { waits: group } },
    );
    await this.removal.removeLeftovers(stream, list.groups);
  }

  /** Adds the group to the authoritative list; `insertConsumer` updates the copies. */
  private async add(stream: string, group: string): Promise<GroupList> {
    const changed = await this.collections.stream.findOneAndUpdate(
      { name: stream, groups: { $ne: group } },
      { $addToSet: { groups: group }, $inc: { groupsVersion: 1 } },
      { returnDocument: 'after', projection: LIST },
    );
    return changed ? toList(changed) : this.list(stream);
  }

  private async list(stream: string): Promise<GroupList> {
    const found = await this.collections.stream.findOne({ name: stream }, { projection: LIST });
    if (!found) throw unknownStream(stream);
    return toList(found);
  }

  private async insertConsumer(key: ConsumerKey, state: ConsumerState, list: GroupList): Promise<void> {
    const { stream, group, partition } = key;
    const { consumer } = this.collections;
    const _id = consumerDocumentId(key);
    const fresh = { stream, group, partition, created: new Date(), ...state, ...list };
    let isNew = false;
    // Leftovers of an earlier registration: the consumer's document was dropped, and nobody holds its lease.
    if (!(await consumer.findOne({ _id }, { projection: { _id: 1 } })))
      await this.collections.window.deleteMany({ processed: false, consumer: _id });
    try {
      const { upsertedCount } = await consumer.updateOne({ _id }, { $setOnInsert: fresh }, { upsert: true });
      isNew = upsertedCount > 0;
    } catch (error) {
      if (!isDuplicateKey(error)) throw error;
    }
    if (!isNew) await this.revive(_id, state);
    // `fresh` may lack a change that was published before it was inserted.
    await publishList(this.collections, stream, await this.list(stream));
  }

  /** A group that was removed and is registered again starts afresh, with a fence above the earlier ones. */
  private async revive(_id: string, state: ConsumerState): Promise<void> {
    const { consumer } = this.collections;
    const retired = await consumer.findOne({ _id, retired: true }, { projection: { lease: 1, stateId: 1 } });
    if (!retired) return;
    // The removal was interrupted, or made by a version that does not know state.
    if (retired.stateId) await this.state.removal.remove([retired]);
    const { fence, counter } = retired.lease;
    const lease = { fence: Math.max(fence, state.lease.fence), counter: counter + 1 };
    const adopted = state.replaces === undefined ? lease.fence : state.adopted;
    await consumer.updateOne(
      { _id, retired: true, 'lease.fence': fence },
      {
        $set: { ...state, lease, adopted, ...(state.replaces === undefined && { firstFence: lease.fence }) },
        $unset: { retired: '' },
      },
    );
  }

  private consumersOf(stream: string, group: string): Promise<ConsumerDocument[]> {
    return this.collections.consumer.find({ stream, group, ...NOT_RETIRED }, { projection: WITHOUT_EFFECTS }).toArray();
  }
}
