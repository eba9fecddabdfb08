import type { ConsumerKey, Lease, LeaseOwner, LeaseState, Renewal, RenewalNotice } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import { consumerDocumentId, heldBy, NOT_RETIRED } from './consumer-document.js';
import type { ConsumerDocument, LeaseHeir } from './schemas/consumer.schema.js';
import { guarded } from './store-errors.js';

const MISSING: LeaseState = { fence: 0, counter: 0, missing: true };

/** Leases. Each is part of its consumer's document. */
export class Leases {
  constructor(private readonly collections: Pick<Collections, 'consumer'>) {}

  async read(keys: readonly ConsumerKey[]): Promise<readonly LeaseState[]> {
    const ids = keys.map(consumerDocumentId);
    const documents = await guarded('read leases', () => this.find(ids));
    const byId = new Map(documents.map((document) => [document._id, document]));
    return ids.map((id) => leaseState(byId.get(id)));
  }

  async acquire(
    key: ConsumerKey,
    owner: LeaseOwner,
    expected: LeaseState,
    holdTime: number | undefined,
  ): Promise<Lease | undefined> {
    const _id = consumerDocumentId(key);
    return guarded(`acquire the lease of '${key.group}' on '${key.stream}'`, async () => {
      const taken = await this.collections.consumer.findOneAndUpdate(
        { _id, 'lease.fence': expected.fence, 'lease.counter': expected.counter, ...NOT_RETIRED },
        {
          $set: { 'lease.owner': owner, ...(holdTime !== undefined && { 'lease.holdTime': holdTime }) },
          $unset: { 'lease.heir': '', ...(holdTime === undefined && { 'lease.holdTime': '' }) },
          $inc: { 'lease.fence': 1, 'lease.counter': 1 },
        },
        { returnDocument: 'after', projection: { lease: 1 } },
      );
      if (taken) return { key, owner, fence: taken.lease.fence };
      // It may be ours already, if the answer to an earlier attempt was lost.
      const present = await this.collections.consumer.findOne({ _id }, { projection: { lease: 1 } });
      const fence = expected.fence + 1;
      const ours = present?.lease.owner?.id === owner.id && present.lease.fence === fence;
      return ours ? { key, owner, fence } : undefined;
    });
  }

  /** False if the lease is not as expected. */
  async request(key: ConsumerKey, heir: LeaseOwner | undefined, expected: LeaseState): Promise<boolean> {
    const filter = { _id: consumerDocumentId(key), 'lease.fence': expected.fence, ...NOT_RETIRED };
    const isNobody = { 'lease.heir.fence': { $ne: expected.fence } };
    const isExpected = expected.heir
      ? { 'lease.heir.fence': expected.fence, 'lease.heir.id': expected.heir.id }
      : isNobody;
    return guarded(`request the lease of '${key.group}' on '${key.stream}'`, async () => {
      const { matchedCount } = heir
        ? await this.collections.consumer.updateOne(
            {
              ...filter,
              'lease.owner': { $exists: true },
              // The answer to an earlier call may have been lost.
              $or: [isExpected, isNobody, { 'lease.heir.id': heir.id }],
            },
            { $set: { 'lease.heir': { ...heir, fence: expected.fence } } },
          )
        : await this.collections.consumer.updateOne({ ...filter, ...isExpected }, { $unset: { 'lease.heir': '' } });
      return matchedCount === 1;
    });
  }

  async renew(leases: readonly Renewal[]): Promise<readonly RenewalNotice[]> {
    if (leases.length === 0) return [];
    const ids = leases.map(({ key }) => consumerDocumentId(key));
    return guarded('renew leases', async () => {
      const { matchedCount, modifiedCount } = await this.collections.consumer.bulkWrite(
        [
          ...leases.map((lease) => ({
            updateOne: {
              filter: heldBy(lease),
              update: {
                $inc: { 'lease.counter': 1 },
                ...(lease.holdTime !== undefined && { $set: { 'lease.holdTime': lease.holdTime } }),
              },
            },
          })),
          // Changes nothing. It matches if one of them is asked for: that takes no command as long as none is.
          {
            updateOne: {
              filter: { _id: { $in: ids }, 'lease.heir': { $exists: true } },
              update: { $unset: { 'lease.none': '' } },
            },
          },
        ],
        { ordered: false },
      );
      if (matchedCount === leases.length && modifiedCount === leases.length) return [];
      const documents = await this.find(ids);
      const byId = new Map(documents.map((document) => [document._id, document]));
      return leases.flatMap(({ key, owner, fence }): RenewalNotice[] => {
        const now = leaseState(byId.get(consumerDocumentId(key)));
        if (now.fence !== fence || now.owner?.id !== owner.id) return [{ key, owner, fence }];
        return now.heir ? [{ key, owner, fence, heir: now.heir }] : [];
      });
    });
  }

  async release(lease: Lease): Promise<void> {
    await guarded(`release the lease of '${lease.key.group}' on '${lease.key.stream}'`, () =>
      this.collections.consumer.updateOne(heldBy(lease), {
        $unset: { 'lease.owner': '', 'lease.holdTime': '' },
        $inc: { 'lease.counter': 1 },
      }),
    );
  }

  private find(ids: string[]): Promise<Pick<ConsumerDocument, '_id' | 'lease'>[]> {
    return this.collections.consumer
      .find({ _id: { $in: ids } }, { projection: { lease: 1 }, batchSize: ids.length + 1 })
      .toArray();
  }
}

export async function isHeld(collections: Pick<Collections, 'consumer'>, lease: Lease): Promise<boolean> {
  return (await collections.consumer.findOne(heldBy(lease), { projection: { _id: 1 } })) !== null;
}

export function leaseState(document: Pick<ConsumerDocument, 'lease'> | undefined): LeaseState {
  if (!document) return MISSING;
  const { owner, heir, fence, counter, holdTime } = document.lease;
  return {
    ...(owner && { owner }),
    ...(heir?.fence === fence && { heir: ownerOf(heir) }),
    fence,
    counter,
    ...(holdTime !== undefined && { holdTime }),
  };
}

function ownerOf({ fence: _, ...owner }: LeaseHeir): LeaseOwner {
  return owner;
}
