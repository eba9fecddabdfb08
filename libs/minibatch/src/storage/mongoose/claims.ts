import { mongo } from 'mongoose';
import { leaseLost } from '../store-faults.js';
import type { Lease, Recovery, WindowRecord } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import { consumerDocumentId, heldBy, inRanges } from './consumer-document.js';
import { DUPLICATE_KEY, guarded, isDuplicateKey, isInDoubt, unwrapped, writeErrorsOf } from './store-errors.js';
import { toWindowDocument, toWindowRecord } from './window-codec.js';

/** Windows from their claim to their commit, and their adoption by a new holder of the lease. */
export class Claims {
  constructor(private readonly collections: Collections) {}

  async claim(lease: Lease, windows: readonly WindowRecord[]): Promise<void> {
    if (windows.length === 0) return;
    await guarded(`claim windows of '${lease.key.group}' on '${lease.key.stream}'`, async () => {
      try {
        await this.collections.window.insertMany(
          windows.map((window) => toWindowDocument(lease, window)),
          { ordered: false },
        );
      } catch (error) {
        // Only this lease makes these ids: they are there since an earlier try whose answer was lost.
        if (!onlyDuplicates(error)) throw error;
      }
    });
  }

  async reschedule(lease: Lease, window: WindowRecord): Promise<void> {
    const { seq, attempt, recoveries, nextTry, error } = window;
    // Null and not unset: an update without any field to unset is refused by older servers.
    const change = { attempt, recoveries, nextTry: nextTry ?? null, error: error ?? null };
    await guarded(`store the next try of window '${window.id}'`, async () => {
      const { matchedCount } = await this.collections.window.updateOne(
        { processed: false, consumer: consumerDocumentId(lease.key), seq, fence: lease.fence },
        { $set: change },
      );
      // Another holder has adopted it, or it is not there at all: the consumer's document tells.
      if (matchedCount === 0 && !(await this.isHeld(lease))) throw leaseLost(lease.key);
    });
  }

  /**
   * The order is what makes it safe. Windows are adopted before the new fence is stored as adopted; so a claim of a former
   * holder is either there in time and adopted, or it turns up later with a fence below the adopted one and is void. A
   * holder that is replaced while it recovers changes nothing any more: its last step finds the lease gone, and the windows
   * it may still touch are void or belong to fences below its own.
   */
  async recover(lease: Lease): Promise<Recovery> {
    const { consumer, window } = this.collections;
    const own = consumerDocumentId(lease.key);
    return guarded(`recover '${lease.key.group}' on '${lease.key.stream}'`, async () => {
      const state = await consumer.findOne(heldBy(lease));
      if (!state) throw leaseLost(lease.key);
      const open = { processed: false, consumer: own };
      await window.deleteMany({ ...open, fence: { $lt: state.adopted } });
      await window.updateMany(
        { ...open, fence: { $gte: state.adopted, $lt: lease.fence } },
        { $set: { fence: lease.fence } },
      );
      const adopted = await consumer.findOneAndUpdate(
        heldBy(lease),
        { $set: { adopted: lease.fence }, $inc: { 'lease.counter': 1 } },
        { returnDocument: 'after' },
      );
      if (!adopted) throw leaseLost(lease.key);
      const documents = await window
        .find({ ...open, fence: lease.fence })
        .sort({ seq: 1 })
        .toArray();
      const records = documents.map(toWindowRecord);
      return {
        progress: adopted.progress,
        finished: records.filter(({ seq }) => inRanges(adopted.finished, seq)),
        open: records.filter(({ seq }) => !inRanges(adopted.finished, seq)),
        groups: adopted.groups,
      };
    });
  }

  private async isHeld(lease: Lease): Promise<boolean> {
    return (await this.collections.consumer.findOne(heldBy(lease), { projection: { _id: 1 } })) !== null;
  }
}

function onlyDuplicates(error: unknown): boolean {
  const cause = unwrapped(error);
  if (!(cause instanceof mongo.MongoBulkWriteError)) return isDuplicateKey(cause);
  return !isInDoubt(cause) && writeErrorsOf(cause).every(({ code }) => code === DUPLICATE_KEY);
}
