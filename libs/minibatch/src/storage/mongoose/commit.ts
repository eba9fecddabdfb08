import { leaseLost } from '../../errors/store-faults.js';
import type { Commit, Lease } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import { heldBy, toRanges } from './consumer-document.js';
import type { GroupListVersions } from './group-list-versions.js';
import { guarded } from './store-errors.js';

/** The commit point: one conditional update of the consumer's document, which also renews the lease. */
export class CommitPoint {
  constructor(
    private readonly collections: Pick<Collections, 'consumer'>,
    private readonly versions: GroupListVersions,
  ) {}

  /** Resolves with the groups of the stream as of the commit. @throws MinibatchError `LeaseLost` */
  async commit(
    lease: Lease,
    { finished, progress }: Commit,
    asked?: (count: number) => void,
  ): Promise<readonly string[]> {
    const document = await guarded(`commit windows of '${lease.key.group}' on '${lease.key.stream}'`, () =>
      this.collections.consumer.findOneAndUpdate(
        heldBy(lease),
        { $set: { finished: toRanges(finished), progress }, $inc: { 'lease.counter': 1 } },
        { returnDocument: 'after', projection: { groups: 1, groupsVersion: 1, asked: 1 } },
      ),
    );
    if (!document) throw leaseLost(lease.key);
    this.versions.committed(lease.key, document.groupsVersion);
    asked?.(document.asked ?? 0);
    return document.groups;
  }
}
