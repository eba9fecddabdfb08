import type { mongo } from 'mongoose';
import type { Lease } from '../stream-store.interface.js';
import type { ClaimLocations, WindowsToRemove } from './claim-locations.js';
import type { Collections } from './collections.js';
import { consumerDocumentId } from './consumer-document.js';
import type { WindowDocument } from './schemas/window.schema.js';
import { TurnBatch } from './turn-batch.js';

/**
 * Removes committed windows from their collection. Groups that settle in the same turn of the event loop share the commands. Each document
 * was written under one lease and is addressed by its `_id`, so no group touches a window of another.
 */
export class WindowRemoval {
  private readonly batch: TurnBatch<WindowsToRemove, boolean>;

  constructor(
    private readonly collections: Pick<Collections, 'window'>,
    private readonly locations: ClaimLocations,
  ) {
    this.batch = new TurnBatch(async (removals) => {
      const isComplete = await this.removeFrom(removals);
      return removals.map(() => isComplete);
    });
  }

  /** By `_id` where it is known. If a document was not found, the rest is removed by number, under the fence of the lease. */
  async remove(lease: Lease, seqs: readonly number[]): Promise<void> {
    if (!(await this.batch.add(this.locations.remove(lease, seqs)))) await this.removeBySeq(lease, seqs);
    this.locations.removed(lease, seqs);
  }

  /** True if all documents to delete were found. A document with other windows in it has a known `_id`: if it is missing, it is gone. */
  private async removeFrom(removals: readonly WindowsToRemove[]): Promise<boolean> {
    const { window } = this.collections;
    const documents = new Set(removals.flatMap((each) => each.documents));
    // Another call of the same turn may have removed the other windows of a document.
    const parts = removals.flatMap((each) => each.parts).filter(({ _id }) => !documents.has(_id));
    let deleted = 0;
    if (documents.size > 0) ({ deletedCount: deleted } = await window.deleteMany({ _id: { $in: [...documents] } }));
    if (parts.length > 0) {
      await window.bulkWrite(
        parts.map(({ _id, seqs }) => ({ updateOne: { filter: { _id }, update: without(seqs) } })),
        { ordered: false },
      );
    }
    return deleted === documents.size;
  }

  private async removeBySeq(lease: Lease, seqs: readonly number[]): Promise<void> {
    const { window } = this.collections;
    const open = { processed: false, consumer: consumerDocumentId(lease.key), fence: lease.fence };
    await window.deleteMany({ ...open, seq: { $in: [...seqs] } });
    await window.updateMany({ ...open, 'windows.seq': { $in: [...seqs] } }, without(seqs));
    await window.deleteMany({ ...open, windows: { $size: 0 } });
  }
}

/** An update that removes these windows from a document they share with others. */
export function without(seqs: readonly number[]): mongo.UpdateFilter<WindowDocument> {
  return { $pull: { windows: { seq: { $in: [...seqs] } } } };
}
