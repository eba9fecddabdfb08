import type { mongo } from 'mongoose';
import type { Lease } from '../stream-store.interface.js';
import type { ClaimLocations, Leaving } from './claim-locations.js';
import type { Collections } from './collections.js';
import { consumerDocumentId } from './consumer-document.js';
import type { WindowDocument } from './schemas/window.schema.js';
import { TurnBatch } from './turn-batch.js';

/**
 * How committed windows leave the collection of windows. Groups that settle in the same turn share the commands: each document was
 * written under one lease and is named by its `_id`, so no group touches what is another's.
 */
export class WindowRemoval {
  private readonly batch: TurnBatch<Leaving, boolean>;

  constructor(
    private readonly collections: Collections,
    private readonly places: ClaimLocations,
  ) {
    this.batch = new TurnBatch(async (leaving) => {
      const isComplete = await this.take(leaving);
      return leaving.map(() => isComplete);
    });
  }

  /** By `_id`s where they are known. If not all were found, what is left goes by what the documents have in common. */
  async remove(lease: Lease, seqs: readonly number[]): Promise<void> {
    if (!(await this.batch.add(this.places.leaving(lease, seqs)))) await this.removeBySeq(lease, seqs);
    this.places.left(lease, seqs);
  }

  /** True if everything was there. */
  private async take(leaving: readonly Leaving[]): Promise<boolean> {
    const { window } = this.collections;
    const documents = leaving.flatMap((each) => each.documents);
    const parts = leaving.flatMap((each) => each.parts);
    let found = 0;
    if (documents.length > 0) {
      const { deletedCount } = await window.deleteMany({ _id: { $in: documents } });
      found += deletedCount;
    }
    if (parts.length > 0) {
      const { matchedCount } = await window.bulkWrite(
        parts.map(({ _id, seqs }) => ({ updateOne: { filter: { _id }, update: without(seqs) } })),
        { ordered: false },
      );
      found += matchedCount;
    }
    return found === documents.length + parts.length;
  }

  private async removeBySeq(lease: Lease, seqs: readonly number[]): Promise<void> {
    const { window } = this.collections;
    const open = { processed: false, consumer: consumerDocumentId(lease.key), fence: lease.fence };
    await window.deleteMany({ ...open, seq: { $in: [...seqs] } });
    await window.updateMany({ ...open, 'windows.seq': { $in: [...seqs] } }, without(seqs));
    await window.deleteMany({ ...open, windows: { $size: 0 } });
  }
}

/** Takes these windows out of a document that they share with others. */
export function without(seqs: readonly number[]): mongo.UpdateFilter<WindowDocument> {
  return { $pull: { windows: { seq: { $in: [...seqs] } } } };
}
