import { leaseLost } from '../store-faults.js';
import type { Lease, Recovery, WindowRecord } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import { consumerDocumentId, heldBy, inRanges } from './consumer-document.js';
import { insertMissing } from './insert-missing.js';
import { isHeld } from './leases.js';
import { guarded } from './store-errors.js';
import { toReschedule, toWindowDocument, toWindowRecord } from './window-codec.js';

/** Windows from their claim to their commit, and their adoption by a new holder of the lease. */
export class Claims {
  constructor(private readonly collections: Collections) {}

  async claim(lease: Lease, windows: readonly WindowRecord[]): Promise<void> {
    if (windows.length === 0) return;
    await guarded(`claim windows of '${lease.key.group}' on '${lease.key.stream}'`, () =>
      // Only this lease makes these ids.
      insertMissing(
        this.collections.window,
        windows.map((window) => toWindowDocument(lease, window)),
      ),
    );
  }

  async reschedule(lease: Lease, window: WindowRecord): Promise<void> {
    await guarded(`store the next try of window '${window.id}'`, async () => {
      const { matchedCount } = await this.collections.window.updateOne(
        { processed: false, consumer: consumerDocumentId(lease.key), seq: window.seq, fence: lease.fence },
        toReschedule(window),
      );
      // Another holder has adopted it, or it is not there at all: the consumer's document tells.
      if (matchedCount === 0 && !(await isHeld(this.collections, lease))) throw leaseLost(lease.key);
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
}
