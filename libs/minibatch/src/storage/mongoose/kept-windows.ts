import type { mongo } from 'mongoose';
import type { Lease, MessageId, SettledWindow, WindowRecord } from '../stream-store.interface.js';
import { documentOf } from './buffer-message.js';
import type { ClaimLocations } from './claim-locations.js';
import type { Collections } from './collections.js';
import { consumerDocumentId } from './consumer-document.js';
import { inCommands, insertMissingRaw, type RawInsert } from './insert-missing.js';
import type { RawDocument } from './raw-document.js';
import { findByIds } from './raw-reads.js';
import { type RawValue, sizeOf } from './raw-value.js';
import { throwIfFailed, write } from './raw-writes.js';
import type { WindowDocument } from './schemas/window.schema.js';
import { toWindowDocument } from './window-codec.js';
import type { WindowRemoval } from './window-removal.js';

/** Larger data are not copied into the document of a kept window: they are in the buffer only. */
const MAX_KEPT_DATA_BYTES = 15 * 1024 * 1024;
/** The type of an array element and its name, which is its index. */
const ELEMENT_BYTES = 8;

/** A window with the data that its messages were appended with. */
interface KeptWindow {
  readonly window: WindowRecord;
  readonly data: readonly (RawValue | undefined)[];
}

/** Keeps settled windows, with the data of their messages. */
export class KeptWindows {
  constructor(
    private readonly collections: Pick<Collections, 'buffer' | 'window'>,
    private readonly locations: ClaimLocations,
    private readonly removal: WindowRemoval,
  ) {}

  /**
   * A kept window gets a document of its own before it leaves a shared one: for a while it may be in both, but never in none. If the process
   * stops in between, the next holder finds the window in the shared document and keeps it again. So the `_id` is that of the shared document
   * and the number, whoever keeps it. No claim has such an `_id`, so a void claim of a former holder can't be in its place.
   */
  async keep(lease: Lease, windows: readonly SettledWindow[], settled: Date): Promise<void> {
    const alone: KeptWindow[] = [];
    const inserts: RawInsert[] = [];
    const moved: number[] = [];
    for (const kept of await this.withData(windows)) {
      const { seq } = kept.window;
      const shared = this.locations.sharedBy(lease, seq);
      if (shared === undefined) {
        alone.push(kept);
        continue;
      }
      const own = { ...toWindowDocument(lease, kept.window), _id: `${shared}/${seq}` };
      const document = { ...own, ...asKept(kept, settled) };
      inserts.push({ document, bytes: sizeOf(document, kept.data) });
      moved.push(seq);
    }
    if (moved.length > 0) {
      await insertMissingRaw(this.collections.window, inserts);
      await this.removal.remove(lease, moved);
    }
    await this.keepAlone(lease, alone, settled);
  }

  /**
   * The data are copied as bytes. After a restart, messages may have been marked before their windows were: then they are not loaded any
   * more, but they are kept, so they are in the buffer.
   */
  private async withData(windows: readonly SettledWindow[]): Promise<readonly KeptWindow[]> {
    const documents = new Map<MessageId, RawDocument>();
    for (const { messages } of windows) {
      for (const message of messages) documents.set(message.id, documentOf(message));
    }
    const missing = windows.flatMap(({ window }) => window.messageIds).filter((id) => !documents.has(id));
    for (const document of await findByIds(this.collections.buffer, missing)) {
      documents.set((document.get('_id') as mongo.ObjectId).toHexString(), document);
    }
    return windows.map(({ window }) => {
      const found = window.messageIds.flatMap((id) => documents.get(id) ?? []);
      const data = found.map((document) => document.raw('data'));
      const bytes = data.reduce((sum, value) => sum + (value?.length ?? 0) + ELEMENT_BYTES, 0);
      return { window, data: bytes <= MAX_KEPT_DATA_BYTES ? data : [] };
    });
  }

  private async keepAlone(lease: Lease, windows: readonly KeptWindow[], settled: Date): Promise<void> {
    if (windows.length === 0) return;
    const byId = await this.update(windows, settled, (seq) => ({ _id: this.locations.ownOf(lease, seq) }));
    if (byId < windows.length) {
      const adopted = { processed: false, consumer: consumerDocumentId(lease.key), fence: lease.fence };
      await this.update(windows, settled, (seq) => ({ ...adopted, seq }));
    }
    this.locations.removed(
      lease,
      windows.map(({ window }) => window.seq),
    );
  }

  /** Resolves with the number of documents that were found. */
  private async update(
    windows: readonly KeptWindow[],
    settled: Date,
    filter: (seq: number) => mongo.Filter<WindowDocument>,
  ): Promise<number> {
    const statements = windows.map((kept) => {
      // The state of a bisection is of no use any more, and might not fit in addition to the data.
      const u = { $set: asKept(kept, settled), $unset: { apart: '', split: '' } };
      return { statement: { q: filter(kept.window.seq), u }, bytes: sizeOf(u, kept.data) };
    });
    let matched = 0;
    for (const some of inCommands(statements)) {
      const reply = await write(
        this.collections.window,
        'update',
        some.map(({ statement }) => statement),
      );
      throwIfFailed(reply);
      matched += reply.n;
    }
    return matched;
  }
}

function asKept({ data }: KeptWindow, settled: Date) {
  return { processed: true, settled, data };
}
