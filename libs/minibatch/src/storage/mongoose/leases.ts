import type { mongo } from 'mongoose';
import type { ConsumerKey, Lease, LeaseOwner, LeaseState, Renewal, RenewalNotice } from '../stream-store.interface.js';
import type { AddedPartitions } from './added-partitions.js';
import type { Collections } from './collections.js';
import { consumerDocumentId, heldBy, NOT_RETIRED } from './consumer-document.js';
import type { DecidedEffects } from './decided-effects.js';
import type { ConsumerDocument, LeaseHeir } from './schemas/consumer.schema.js';
import { updateLeases, type LeaseUpdate } from './lease-updates.js';
import { guarded } from './store-errors.js';
import { joined } from './turn-batch.js';

const MISSING: LeaseState = { fence: 0, counter: 0, missing: true };

interface Acquisition {
  readonly key: ConsumerKey;
  readonly owner: LeaseOwner;
  readonly expected: LeaseState;
  readonly holdTime: number | undefined;
}

interface Request {
  readonly key: ConsumerKey;
  /** Absent: it is withdrawn. */
  readonly heir: LeaseOwner | undefined;
  readonly expected: LeaseState;
}

/** Leases. Each is part of its consumer's document. What is asked for many of them in one turn takes two commands, or one. */
export class Leases {
  private readonly acquisitions = joined<Acquisition, Lease | undefined>(
    (acquisition) => this.acquireOne(acquisition),
    (acquisitions) => this.acquireAll(acquisitions),
  );
  private readonly requests = joined<Request, boolean>(
    (request) => this.requestOne(request),
    (requests) => this.requestAll(requests),
  );
  private readonly releases = joined<Lease, undefined>(
    async (lease) => void (await this.collections.consumer.updateOne(heldBy(lease), this.toRelease(lease))),
    (leases) => this.releaseAll(leases),
  );

  constructor(
    private readonly collections: Pick<Collections, 'consumer'>,
    private readonly added: AddedPartitions,
    private readonly effects: DecidedEffects,
  ) {}

  async read(keys: readonly ConsumerKey[]): Promise<readonly LeaseState[]> {
    const ids = keys.map(consumerDocumentId);
    const documents = await guarded('read leases', async () => {
      const found = await this.find(ids);
      if (found.length === ids.length) return found;
      const known = new Set(found.map(({ _id }) => _id));
      const isNew = await this.added.complete(keys.filter((key) => !known.has(consumerDocumentId(key))));
      return isNew ? this.find(ids) : found;
    });
    const byId = new Map(documents.map((document) => [document._id, document]));
    return ids.map((id) => leaseState(byId.get(id)));
  }

  async acquire(
    key: ConsumerKey,
    owner: LeaseOwner,
    expected: LeaseState,
    holdTime: number | undefined,
  ): Promise<Lease | undefined> {
    return guarded(`acquire the lease of '${key.group}' on '${key.stream}'`, () =>
      this.acquisitions.add({ key, owner, expected, holdTime }),
    );
  }

  private async acquireOne(acquisition: Acquisition): Promise<Lease | undefined> {
    const { key, owner } = acquisition;
    const { filter, update } = toAcquire(acquisition);
    const { consumer } = this.collections;
    const taken = await consumer.findOneAndUpdate(filter, update, {
      returnDocument: 'after',
      projection: { lease: 1 },
    });
    if (taken) return { key, owner, fence: taken.lease.fence };
    // It may be ours already, if the answer to an earlier attempt was lost.
    return acquired(acquisition, await consumer.findOne({ _id: filter._id }, { projection: { lease: 1 } }));
  }

  private async acquireAll(acquisitions: readonly Acquisition[]): Promise<readonly (Lease | undefined)[]> {
    const byId = await this.updateAll(acquisitions.map(toAcquire));
    return acquisitions.map((each) => acquired(each, byId.get(consumerDocumentId(each.key))));
  }

  /** Resolves with the documents as they are afterwards, whether the updates applied to them or not. */
  private async updateAll(
    updates: readonly LeaseUpdate[],
  ): Promise<ReadonlyMap<string, Pick<ConsumerDocument, 'lease'>>> {
    await updateLeases(this.collections.consumer, updates);
    const documents = await this.find(updates.map(({ filter }) => filter._id));
    return new Map(documents.map((document) => [document._id, document]));
  }

  /** False if the lease is not as expected. */
  async request(key: ConsumerKey, heir: LeaseOwner | undefined, expected: LeaseState): Promise<boolean> {
    return guarded(`request the lease of '${key.group}' on '${key.stream}'`, () =>
      this.requests.add({ key, heir, expected }),
    );
  }

  private async requestOne(request: Request): Promise<boolean> {
    const { filter, update } = toRequest(request);
    const { matchedCount } = await this.collections.consumer.updateOne(filter, update);
    return matchedCount === 1;
  }

  private async requestAll(requests: readonly Request[]): Promise<readonly boolean[]> {
    // The result of a withdrawal can't be seen in the document: somebody else may have asked since.
    if (requests.some(({ heir }) => heir === undefined))
      return Promise.all(requests.map((request) => this.requestOne(request)));
    const byId = await this.updateAll(requests.map(toRequest));
    return requests.map(({ key, heir, expected }) => {
      const lease = byId.get(consumerDocumentId(key))?.lease;
      return lease?.heir?.id === heir?.id && lease?.heir?.fence === expected.fence && lease.fence === expected.fence;
    });
  }

  async renew(leases: readonly Renewal[]): Promise<readonly RenewalNotice[]> {
    if (leases.length === 0) return [];
    const ids = leases.map(({ key }) => consumerDocumentId(key));
    return guarded('renew leases', async () => {
      // Changes nothing. It matches if one of them is asked for: that takes no command as long as none is.
      const isAskedFor = {
        updateOne: {
          filter: { _id: { $in: ids }, 'lease.heir': { $exists: true } },
          update: { $unset: { 'lease.none': '' as const } },
        },
      };
      const { consumer } = this.collections;
      const unsets = leases.map((lease) => this.effects.unset(lease));
      const renewals = leases.map((lease, n) => toRenew(lease, unsets[n]));
      const { matchedCount, modifiedCount } = await updateLeases(consumer, renewals, [isAskedFor]);
      for (const [n, lease] of leases.entries()) this.effects.wasUnset(lease, unsets[n]);
      if (matchedCount === leases.length && modifiedCount === leases.length) return [];
      const documents = await this.find(ids);
      const byId = new Map(documents.map((document) => [document._id, document]));
      return leases.flatMap(({ key, owner, fence }): RenewalNotice[] => {
        const now = leaseState(byId.get(consumerDocumentId(key)));
        if (now.fence !== fence || now.owner?.id !== owner.id) {
          this.effects.lost(consumerDocumentId(key));
          return [{ key, owner, fence }];
        }
        return now.heir ? [{ key, owner, fence, heir: now.heir }] : [];
      });
    });
  }

  async release(lease: Lease): Promise<void> {
    await guarded(`release the lease of '${lease.key.group}' on '${lease.key.stream}'`, () => this.releases.add(lease));
  }

  private async releaseAll(leases: readonly Lease[]): Promise<readonly undefined[]> {
    const updates = leases.map((lease) => ({ filter: heldBy(lease), update: this.toRelease(lease) }));
    await updateLeases(this.collections.consumer, updates);
    return leases.map(() => undefined);
  }

  private toRelease(lease: Lease): mongo.UpdateFilter<ConsumerDocument> {
    const unset = this.effects.unset(lease);
    return unset ? { ...RELEASE, $unset: { ...RELEASE.$unset, ...unset } } : RELEASE;
  }

  private find(ids: string[]): Promise<Pick<ConsumerDocument, '_id' | 'lease'>[]> {
    return this.collections.consumer
      .find({ _id: { $in: ids } }, { projection: { lease: 1 }, batchSize: ids.length + 1 })
      .toArray();
  }
}

const RELEASE = { $unset: { 'lease.owner': '', 'lease.holdTime': '' }, $inc: { 'lease.counter': 1 } } as const;

/** @param unset effects that are applied: a document that is renewed again and again is to be small */
function toRenew(lease: Renewal, unset: Record<string, ''> | undefined): LeaseUpdate {
  const { holdTime, note } = lease;
  const set = { ...(holdTime !== undefined && { 'lease.holdTime': holdTime }), ...(note !== undefined && { note }) };
  return {
    filter: heldBy(lease),
    update: {
      $inc: { 'lease.counter': 1 },
      ...(unset && { $unset: unset }),
      ...(Object.keys(set).length > 0 && { $set: set }),
    },
  };
}

function toAcquire({ key, owner, expected, holdTime }: Acquisition): LeaseUpdate {
  return {
    filter: {
      _id: consumerDocumentId(key),
      'lease.fence': expected.fence,
      'lease.counter': expected.counter,
      ...NOT_RETIRED,
    },
    update: {
      $set: { 'lease.owner': owner, ...(holdTime !== undefined && { 'lease.holdTime': holdTime }) },
      $unset: { 'lease.heir': '', ...(holdTime === undefined && { 'lease.holdTime': '' }) },
      $inc: { 'lease.fence': 1, 'lease.counter': 1 },
    },
  };
}

/** The lease, if the document says that it is this owner's now. */
function acquired(
  { key, owner, expected }: Acquisition,
  document: Pick<ConsumerDocument, 'lease'> | null | undefined,
): Lease | undefined {
  const fence = expected.fence + 1;
  const ours = document?.lease.owner?.id === owner.id && document.lease.fence === fence;
  return ours ? { key, owner, fence } : undefined;
}

function toRequest({ key, heir, expected }: Request): LeaseUpdate {
  const filter = { _id: consumerDocumentId(key), 'lease.fence': expected.fence, ...NOT_RETIRED };
  const isNobody = { 'lease.heir.fence': { $ne: expected.fence } };
  const isExpected = expected.heir
    ? { 'lease.heir.fence': expected.fence, 'lease.heir.id': expected.heir.id }
    : isNobody;
  if (!heir) return { filter: { ...filter, ...isExpected }, update: { $unset: { 'lease.heir': '' } } };
  return {
    filter: {
      ...filter,
      'lease.owner': { $exists: true },
      // The answer to an earlier call may have been lost.
      $or: [isExpected, isNobody, { 'lease.heir.id': heir.id }],
    },
    update: { $set: { 'lease.heir': { ...heir, fence: expected.fence } } },
  };
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
