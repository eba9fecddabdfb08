import { leaseLost } from '../../errors/store-faults.js';
import type { ConsumerKey, Lease, Recovery, WindowRecord } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import { consumerDocumentId, inRanges } from './consumer-document.js';
import type { CommitEffects } from './effects.js';
import type { GroupListVersions } from './group-list-versions.js';
import { insertMissing } from './insert-missing.js';
import { isHeld } from './leases.js';
import { guarded, isDuplicateKey } from './store-errors.js';
import type { ClaimLocations } from './claim-locations.js';
import type { MarkDelay } from './mark-delay.js';
import { Recoveries } from './recoveries.js';
import type { WindowDocument } from './schemas/window.schema.js';
import { TurnBatch } from './turn-batch.js';
import {
  isWindow,
  toReschedule,
  toSharedDocument,
  toShares,
  toWindowDocument,
  toWindowRecords,
} from './window-codec.js';
import { without } from './window-removal.js';

/** Windows between claim and commit, and their adoption by a new holder of the lease. */
export class Claims {
  /** Ids of claims are unique to a lease, so groups that claim in the same turn of the event loop can share an insert. */
  private readonly inserts: TurnBatch<readonly WindowDocument[], undefined>;
  private readonly recoveries: Recoveries;

  constructor(
    private readonly collections: Pick<Collections, 'consumer' | 'window'>,
    private readonly locations: ClaimLocations,
    private readonly versions: GroupListVersions,
    private readonly markDelay: MarkDelay,
    private readonly effects: CommitEffects,
  ) {
    this.recoveries = new Recoveries(collections);
    this.inserts = new TurnBatch(async (claims) => {
      await insertMissing(this.collections.window, claims.flat());
      return claims.map(() => undefined);
    });
  }

  /** Resolves with the `seq` of the last window of each document that was written. */
  async claim(lease: Lease, windows: readonly WindowRecord[]): Promise<readonly number[]> {
    this.markDelay.claimed(lease.key);
    const fresh = windows.filter(({ seq }) => !this.locations.has(lease, seq));
    if (fresh.length === 0) return [];
    const shares = toShares(fresh);
    const documents = shares.map((share) => {
      const [only, ...others] = share;
      return only && others.length === 0 ? toWindowDocument(lease, only) : toSharedDocument(lease, share);
    });
    await guarded(`claim windows of '${lease.key.group}' on '${lease.key.stream}'`, () => this.inserts.add(documents));
    this.remember(lease, documents);
    return shares.flatMap((share) => share.at(-1)?.seq ?? []);
  }

  async reschedule(lease: Lease, window: WindowRecord): Promise<void> {
    await guarded(`reschedule window '${window.id}'`, async () => {
      const shared = this.locations.sharedBy(lease, window.seq);
      if (shared !== undefined) return this.moveOut(lease, window, shared);
      const { matchedCount } = await this.collections.window.updateOne(
        { processed: false, consumer: consumerDocumentId(lease.key), seq: window.seq, fence: lease.fence },
        toReschedule(window),
      );
      // Either another holder has adopted the window, or it does not exist: the consumer's document tells which.
      if (matchedCount === 0 && !(await isHeld(this.collections, lease))) throw leaseLost(lease.key);
    });
  }

  async find(key: ConsumerKey, windowId: string): Promise<WindowRecord | undefined> {
    const open = { processed: false, consumer: consumerDocumentId(key) };
    const { window } = this.collections;
    return guarded(`find window '${windowId}'`, async () => {
      const alone = await window.findOne({ ...open, windowId });
      const document = alone ?? (await window.findOne({ ...open, 'windows.windowId': windowId }));
      return document ? toWindowRecords(document).find(({ id }) => id === windowId) : undefined;
    });
  }

  /**
   * Gives the window its own document before it leaves the shared one. In between it is in both, and `recover` prefers its own. If this
   * process no longer holds the lease, the new document is void, or it is adopted together with the shared one, which this process then
   * can't change.
   */
  private async moveOut(lease: Lease, record: WindowRecord, shared: string): Promise<void> {
    const { window } = this.collections;
    const { seq } = record;
    await this.saveOwn(lease, record);
    const { matchedCount } = await window.updateOne({ _id: shared, fence: lease.fence }, without([seq]));
    if (matchedCount === 0 && !(await isHeld(this.collections, lease))) throw leaseLost(lease.key);
    const { documents } = this.locations.remove(lease, [seq]);
    // It was the last one in the shared document.
    if (documents.length > 0) await window.deleteMany({ _id: { $in: [...documents] } });
    this.locations.removed(lease, [seq]);
  }

  /** Replaces what an attempt has left that ended halfway: the window may have failed again since. */
  private async saveOwn(lease: Lease, record: WindowRecord): Promise<void> {
    const document = toWindowDocument(lease, record);
    const { window } = this.collections;
    const own = { _id: document._id, fence: lease.fence };
    try {
      await window.replaceOne(own, document, { upsert: true });
    } catch (error) {
      if (!isDuplicateKey(error)) throw error;
      // Another call was first; or another holder has adopted it, and it stays.
      await window.replaceOne(own, document);
    }
  }

  private remember(lease: Lease, documents: readonly WindowDocument[]): void {
    for (const { _id, seq, windows } of documents) {
      if (windows)
        this.locations.put(
          lease,
          _id,
          windows.map((window) => window.seq),
          true,
        );
      else if (seq !== undefined) this.locations.put(lease, _id, [seq], false);
    }
  }

  async recover(lease: Lease): Promise<Recovery> {
    return guarded(`recover '${lease.key.group}' on '${lease.key.stream}'`, async () => {
      this.locations.begin(lease);
      const { state, windows } = await this.recoveries.recover(lease);
      if (!state) throw leaseLost(lease.key);
      this.versions.committed(lease.key, state.groupsVersion);
      const records = await this.adopted(lease, windows);
      const finished = records.filter(({ seq }) => inRanges(state.finished, seq));
      await this.effects.recovered(
        lease,
        state,
        finished.map(({ seq }) => seq),
      );
      return {
        progress: state.progress,
        finished,
        open: records.filter(({ seq }) => !inRanges(state.finished, seq)),
        groups: state.groups,
      };
    });
  }

  /** The open windows, ordered by `seq`, each once. */
  private async adopted(lease: Lease, documents: readonly WindowDocument[]): Promise<readonly WindowRecord[]> {
    const { window } = this.collections;
    const alone = new Set(documents.flatMap(({ seq }) => seq ?? []));
    const kept: WindowDocument[] = [];
    for (const document of documents.filter(isWindow)) {
      const { _id, windows } = document;
      if (!windows) {
        kept.push(document);
        continue;
      }
      // A process stopped before it removed the others from this document.
      const left = windows.filter(({ seq }) => !alone.has(seq));
      if (left.length < windows.length)
        await window.updateOne({ _id, fence: lease.fence }, { $set: { windows: left } });
      if (left.length > 0) kept.push({ ...document, windows: left });
      else await window.deleteOne({ _id, fence: lease.fence });
    }
    this.remember(lease, kept);
    return kept.flatMap(toWindowRecords).toSorted((a, b) => a.seq - b.seq);
  }
}
