import type { mongo } from 'mongoose';
import { leaseLost } from '../../errors/store-faults.js';
import type { Commit, Lease } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import { consumerDocumentId, heldBy, isHeldBy, toRanges } from './consumer-document.js';
import type { CommitEffects, EffectsChange } from './effects.js';
import type { GroupListVersions } from './group-list-versions.js';
import type { ConsumerDocument } from './schemas/consumer.schema.js';
import { guarded } from './store-errors.js';
import { joined } from './turn-batch.js';

interface CommitRequest {
  readonly lease: Lease;
  readonly commit: Commit;
  readonly change: EffectsChange | undefined;
}

/** What the consumer's document says after the commit; undefined: the lease is lost. */
type Committed = Pick<ConsumerDocument, 'groups' | 'groupsVersion' | 'asked'> | undefined;

/**
 * The commit point: one conditional update of the consumer's document, which also renews the lease. Many consumers that commit in one turn
 * share two commands: the updates, and a read of what they have become.
 */
export class CommitPoint {
  private readonly commits = joined<CommitRequest, Committed>(
    (request) => this.commitOne(request),
    (requests) => this.commitAll(requests),
  );

  constructor(
    private readonly collections: Pick<Collections, 'consumer'>,
    private readonly versions: GroupListVersions,
    private readonly effects: CommitEffects,
  ) {}

  /** Resolves with the groups of the stream as of the commit. @throws MinibatchError `LeaseLost` */
  async commit(lease: Lease, commit: Commit, asked?: (count: number) => void): Promise<readonly string[]> {
    const { change, document } = await guarded(
      `commit windows of '${lease.key.group}' on '${lease.key.stream}'`,
      async () => {
        const change = await this.effects.change(lease, commit);
        return { change, document: await this.commits.add({ lease, commit, change }) };
      },
    );
    if (!document) {
      this.effects.lost(lease);
      throw leaseLost(lease.key);
    }
    this.effects.committed(lease, change);
    this.versions.committed(lease.key, document.groupsVersion);
    asked?.(document.asked ?? 0);
    return document.groups;
  }

  private async commitOne({ lease, ...request }: CommitRequest): Promise<Committed> {
    const options = { returnDocument: 'after', projection: COMMITTED } as const;
    return (await this.collections.consumer.findOneAndUpdate(heldBy(lease), toUpdate(request), options)) ?? undefined;
  }

  /**
   * A fence is never held twice. So if the lease is held after the update, it was held before, and the commit is recorded. The groups are as
   * of a moment after it: they include every group that was registered before.
   */
  private async commitAll(requests: readonly CommitRequest[]): Promise<readonly Committed[]> {
    // Two commands either way, and this way each has its own answer.
    if (requests.length <= 2) return Promise.all(requests.map((request) => this.commitOne(request)));
    const { consumer } = this.collections;
    await consumer.bulkWrite(
      requests.map(({ lease, ...request }) => ({ updateOne: { filter: heldBy(lease), update: toUpdate(request) } })),
      { ordered: false },
    );
    const ids = requests.map(({ lease }) => consumerDocumentId(lease.key));
    const projection = { ...COMMITTED, 'lease.fence': 1, 'lease.owner.id': 1 };
    const documents = await consumer.find({ _id: { $in: ids } }, { projection, batchSize: ids.length + 1 }).toArray();
    const byId = new Map(documents.map((document) => [document._id, document]));
    return requests.map(({ lease }) => {
      const document = byId.get(consumerDocumentId(lease.key));
      return document && isHeldBy(document, lease) ? document : undefined;
    });
  }
}

const COMMITTED = { groups: 1, groupsVersion: 1, asked: 1 } as const;

function toUpdate({ commit, change }: Omit<CommitRequest, 'lease'>): mongo.UpdateFilter<ConsumerDocument> {
  const { finished, progress } = commit;
  return {
    $set: { finished: toRanges(finished), progress, ...change?.set },
    ...(change && Object.keys(change.unset).length > 0 && { $unset: change.unset }),
    $inc: { 'lease.counter': 1 },
  };
}
