import type { mongo } from 'mongoose';
import type { Lease } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import { consumerDocumentId, heldBy, isHeldBy, WITHOUT_EFFECTS } from './consumer-document.js';
import { updateLeases } from './lease-updates.js';
import type { ConsumerDocument } from './schemas/consumer.schema.js';
import type { WindowDocument } from './schemas/window.schema.js';
import { joined } from './turn-batch.js';

/** What a new holder finds. */
export interface Recovered {
  /** Absent: the lease is lost. */
  readonly state?: ConsumerDocument;
  readonly windows: readonly WindowDocument[];
}

const LOST: Recovered = { windows: [] };

/** A statement that removes void windows, or gives the others the new fence. */
type Adoption =
  | { readonly remove: mongo.Filter<WindowDocument> }
  | { readonly keep: mongo.Filter<WindowDocument>; readonly fence: number };

/**
 * Takes over the open windows of consumers; those whose leases were acquired in one turn, in a few commands together.
 *
 * The order makes this safe. Windows are adopted before the new fence is stored as the adopted one. So a claim of a former holder is either
 * in time and adopted, or it arrives later with a smaller fence and is void. A holder that is replaced while it recovers does no harm: its
 * last step finds that the lease is lost, and the windows it may still change are void or belong to smaller fences.
 */
export class Recoveries {
  private readonly recoveries = joined<Lease, Recovered>(
    (lease) => this.recoverOne(lease),
    (leases) => this.recoverAll(leases),
  );

  constructor(private readonly collections: Pick<Collections, 'consumer' | 'window'>) {}

  recover(lease: Lease): Promise<Recovered> {
    return this.recoveries.add(lease);
  }

  private async recoverOne(lease: Lease): Promise<Recovered> {
    const { consumer, window } = this.collections;
    // There is nothing to adopt for the first holder.
    if (lease.fence > 1) {
      const before = await consumer.findOne(heldBy(lease), { projection: WITHOUT_EFFECTS });
      if (!before) return LOST;
      for (const adoption of toAdopt(lease, before)) {
        if ('remove' in adoption) await window.deleteMany(adoption.remove);
        else await window.updateMany(adoption.keep, { $set: { fence: adoption.fence } });
      }
    }
    const state = await consumer.findOneAndUpdate(heldBy(lease), toHold(lease), { returnDocument: 'after' });
    if (!state) return LOST;
    const open = { processed: false, consumer: consumerDocumentId(lease.key), fence: lease.fence };
    return { state, windows: await window.find(open).toArray() };
  }

  private async recoverAll(leases: readonly Lease[]): Promise<readonly Recovered[]> {
    const { consumer, window } = this.collections;
    const open = { processed: false, consumer: { $in: leases.map(({ key }) => consumerDocumentId(key)) } };
    if (leases.some(({ fence }) => fence > 1)) await this.adoptAll(leases, open);
    await updateLeases(
      consumer,
      leases.map((lease) => ({ filter: heldBy(lease), update: toHold(lease) })),
    );
    const states = await this.statesOf(leases);
    const windows = new Map<unknown, WindowDocument[]>();
    for (const document of await window.find(open).toArray()) {
      windows.set(document.consumer, [...(windows.get(document.consumer) ?? []), document]);
    }
    return leases.map((lease) => {
      const id = consumerDocumentId(lease.key);
      const state = states.get(id);
      if (!state || !isHeldBy(state, lease)) return LOST;
      return { state, windows: (windows.get(id) ?? []).filter(({ fence }) => fence === lease.fence) };
    });
  }

  /** Few consumers have windows open. A claim of a former holder that comes after this look is void, as it would be after the adoption. */
  private async adoptAll(leases: readonly Lease[], open: mongo.Filter<WindowDocument>): Promise<void> {
    const { window } = this.collections;
    const found = await window.find(open, { projection: { consumer: 1 } }).toArray();
    const consumers = new Set(found.map(({ consumer }) => consumer));
    const busy = leases.filter(({ key }) => consumers.has(consumerDocumentId(key)));
    if (busy.length === 0) return;
    const states = await this.statesOf(busy, WITHOUT_EFFECTS);
    const adoptions = busy.flatMap((lease) => {
      const state = states.get(consumerDocumentId(lease.key));
      return state && isHeldBy(state, lease) ? toAdopt(lease, state) : [];
    });
    if (adoptions.length === 0) return;
    await window.bulkWrite(
      adoptions.map((adoption) =>
        'remove' in adoption
          ? { deleteMany: { filter: adoption.remove } }
          : { updateMany: { filter: adoption.keep, update: { $set: { fence: adoption.fence } } } },
      ),
    );
  }

  private async statesOf(
    leases: readonly Lease[],
    projection: mongo.Document = {},
  ): Promise<ReadonlyMap<string, ConsumerDocument>> {
    const ids = leases.map(({ key }) => consumerDocumentId(key));
    const documents = await this.collections.consumer
      .find({ _id: { $in: ids } }, { projection, batchSize: ids.length + 1 })
      .toArray();
    return new Map(documents.map((document) => [document._id, document]));
  }
}

function toAdopt({ key, fence }: Lease, { adopted }: ConsumerDocument): readonly Adoption[] {
  const open = { processed: false, consumer: consumerDocumentId(key) };
  return [
    { remove: { ...open, fence: { $lt: adopted } } },
    { keep: { ...open, fence: { $gte: adopted, $lt: fence } }, fence },
  ];
}

function toHold({ fence }: Lease): mongo.UpdateFilter<ConsumerDocument> {
  return { $set: { adopted: fence }, $inc: { 'lease.counter': 1 } };
}
