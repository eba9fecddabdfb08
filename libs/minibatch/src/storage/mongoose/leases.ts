import type { ConsumerKey, Lease, LeaseOwner, LeaseState, Renewal } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import { consumerDocumentId, heldBy, NOT_RETIRED } from './consumer-document.js';
import type { ConsumerDocument } from './schemas/consumer.schema.js';
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
          ...(holdTime === undefined && { $unset: { 'lease.holdTime': '' } }),
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

  async renew(leases: readonly Renewal[]): Promise<readonly Lease[]> {
    if (leases.length === 0) return [];
    return guarded('renew leases', async () => {
      const { matchedCount } = await this.collections.consumer.bulkWrite(
        leases.map((lease) => ({
          updateOne: {
            filter: heldBy(lease),
            update: {
              $inc: { 'lease.counter': 1 },
              ...(lease.holdTime !== undefined && { $set: { 'lease.holdTime': lease.holdTime } }),
            },
          },
        })),
        { ordered: false },
      );
      if (matchedCount === leases.length) return [];
      const documents = await this.find(leases.map(({ key }) => consumerDocumentId(key)));
      const byId = new Map(documents.map((document) => [document._id, document.lease]));
      return leases.filter((lease) => {
        const now = byId.get(consumerDocumentId(lease.key));
        return now?.fence !== lease.fence || now.owner?.id !== lease.owner.id;
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
  const { owner, fence, counter, holdTime } = document.lease;
  return { ...(owner ? { owner } : {}), fence, counter, ...(holdTime === undefined ? {} : { holdTime }) };
}
