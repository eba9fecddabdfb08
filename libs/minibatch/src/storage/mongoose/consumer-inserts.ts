import { NO_PROGRESS, type ConsumerKey } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import { consumerDocumentId } from './consumer-document.js';
import { insertMissing } from './insert-missing.js';
import type { ConsumerDocument } from './schemas/consumer.schema.js';
import type { StreamDocument } from './schemas/stream.schema.js';

/** What a consumer begins with. */
export type ConsumerState = Pick<
  ConsumerDocument,
  'lease' | 'adopted' | 'finished' | 'progress' | 'replaces' | 'stateId' | 'effects' | 'effectsFence'
>;

export const FRESH: ConsumerState = {
  lease: { fence: 0, counter: 0 },
  adopted: 0,
  finished: [],
  progress: NO_PROGRESS,
};

/** The groups of a stream. */
export type GroupList = Required<Pick<StreamDocument, 'groups' | 'groupsVersion'>>;

export const LIST = { groups: 1, groupsVersion: 1 } as const;

export function toList({
  groups = [],
  groupsVersion = 0,
}: Pick<StreamDocument, 'groups' | 'groupsVersion'>): GroupList {
  return { groups, groupsVersion };
}

/** Those of the streams that exist, in one command. */
export async function listsOf(
  { stream }: Pick<Collections, 'stream'>,
  names: readonly string[],
): Promise<ReadonlyMap<string, GroupList>> {
  const found = await stream
    .find({ name: { $in: [...names] } }, { projection: { ...LIST, name: 1 }, batchSize: names.length + 1 })
    .toArray();
  return new Map(found.map((document) => [document.name, toList(document)]));
}

/** Inserts those that have no document, in a few commands. The lists have those of all their streams. */
export async function insertFresh(
  { consumer, window }: Pick<Collections, 'consumer' | 'window'>,
  keys: readonly ConsumerKey[],
  lists: ReadonlyMap<string, GroupList>,
): Promise<void> {
  const ids = keys.map(consumerDocumentId);
  const found = await consumer
    .find({ _id: { $in: ids } }, { projection: { _id: 1 }, batchSize: ids.length + 1 })
    .toArray();
  const present = new Set(found.map(({ _id }) => _id));
  const fresh = keys
    .map((key) => ({
      _id: consumerDocumentId(key),
      created: new Date(),
      ...key,
      ...FRESH,
      ...lists.get(key.stream)!,
    }))
    .filter(({ _id }) => !present.has(_id));
  if (fresh.length === 0) return;
  // Leftovers of earlier registrations: nobody holds these leases.
  await window.deleteMany({ processed: false, consumer: { $in: fresh.map(({ _id }) => _id) } });
  await insertMissing(consumer, fresh);
}

/** Brings the copies of all consumers up to date. */
export async function publishList(
  { consumer }: Pick<Collections, 'consumer'>,
  stream: string,
  { groups, groupsVersion }: GroupList,
): Promise<void> {
  await consumer.updateMany({ stream, groupsVersion: { $lt: groupsVersion } }, { $set: { groups, groupsVersion } });
}
