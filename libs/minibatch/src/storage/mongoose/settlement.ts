import { mongo } from 'mongoose';
import type {
  Lease,
  MessageId,
  SettledWindow,
  SettleOptions,
  StoredMessage,
  WindowRecord,
} from '../stream-store.interface.js';
import type { ClaimPlaces } from './claim-places.js';
import type { Collections } from './collections.js';
import { consumerDocumentId } from './consumer-document.js';
import type { Departures } from './departures.js';
import { insertMissingRaw, portions } from './insert-missing.js';
import { documentOf } from './message-codec.js';
import type { RawDocument } from './raw-document.js';
import { findByIds } from './raw-reads.js';
import { type RawValue, sizeOf } from './raw-value.js';
import { throwIfFailed, write } from './raw-writes.js';
import type { WindowDocument } from './schemas/window.schema.js';
import { guarded } from './store-errors.js';
import { toWindowDocument } from './window-codec.js';

/** A kept window's data are copied into its document up to here; beyond, they are only in the buffer. */
const KEPT_DATA_BYTES = 15 * 1024 * 1024;
/** Of an element's type and of its name, its place in the array. */
const ELEMENT_BYTES = 8;

/** After the commit point: the messages leave, then the windows. Everything is by ids, so it may be repeated. */
export class Settlement {
  /** By stream: the end of the last settlement that was begun. */
  private readonly turns = new Map<string, Promise<void>>();

  constructor(
    private readonly collections: Collections,
    private readonly departures: Departures,
    private readonly places: ClaimPlaces,
  ) {}

  async settle(lease: Lease, windows: readonly SettledWindow[], options: SettleOptions): Promise<void> {
    if (windows.length === 0) return;
    const { group, stream } = lease.key;
    await guarded(`settle windows of '${group}' on '${stream}'`, async () => {
      const messages = windows.flatMap((settled) => settled.messages);
      const work = () => this.settleMessages(group, messages, options);
      await (options.groups.some((other) => other !== group) ? this.inTurn(stream, work) : work());
      await (options.keep
        ? this.keepWindows(lease, windows, options.at ?? new Date())
        : this.removeWindows(lease, windows));
    });
  }

  /**
   * One group of a stream after the other: side by side, each would mark the same messages; so the later one knows the marks of the
   * earlier one and removes what they have both committed.
   */
  private inTurn(stream: string, work: () => Promise<void>): Promise<void> {
    const turn = (this.turns.get(stream) ?? Promise.resolve()).then(work);
    const over = turn
      .catch(() => undefined)
      .finally(() => {
        if (this.turns.get(stream) === over) this.turns.delete(stream);
      });
    this.turns.set(stream, over);
    return turn;
  }

  /** Messages that no other group waits for leave at once; the others are marked, and leave if this was the last mark. */
  private async settleMessages(
    group: string,
    messages: readonly StoredMessage[],
    { groups, keep, at }: SettleOptions,
  ): Promise<void> {
    const others = groups.filter((other) => other !== group);
    const isLast = ({ id, doneBy }: StoredMessage) => isCovered(others, doneBy) || this.departures.isMarked(id, others);
    const last: StoredMessage[] = [];
    const rest: StoredMessage[] = [];
    for (const message of messages) (isLast(message) ? last : rest).push(message);
    await this.departures.leave(
      last.map(({ id, deduped }) => ({ _id: toId(id), deduped: deduped === true, keep })),
      at,
    );
    await this.departures.mark(
      rest.map(({ id }) => toId(id)),
      group,
      groups,
      keep,
      at,
    );
  }

  private async removeWindows(lease: Lease, windows: readonly SettledWindow[]): Promise<void> {
    await this.removeBySeq(
      lease,
      windows.map(({ window }) => window.seq),
    );
  }

  /** By `_id`s where they are known. If not all were found, what is left goes by what the documents have in common. */
  private async removeBySeq(lease: Lease, seqs: readonly number[]): Promise<void> {
    const { window } = this.collections;
    const { documents, parts } = this.places.leaving(lease, seqs);
    let found = 0;
    if (documents.length > 0) {
      const { deletedCount } = await window.deleteMany({ _id: { $in: [...documents] } });
      found += deletedCount;
    }
    if (parts.length > 0) {
      const { matchedCount } = await window.bulkWrite(
        parts.map(({ _id, seqs: left }) => ({ updateOne: { filter: { _id }, update: without(left) } })),
        { ordered: false },
      );
      found += matchedCount;
    }
    if (found < documents.length + parts.length) {
      const open = { processed: false, consumer: consumerDocumentId(lease.key), fence: lease.fence };
      await window.deleteMany({ ...open, seq: { $in: [...seqs] } });
      await window.updateMany({ ...open, 'windows.seq': { $in: [...seqs] } }, without(seqs));
      await window.deleteMany({ ...open, windows: { $size: 0 } });
    }
    this.places.left(lease, seqs);
  }

  /** In a document of its own each, before it leaves a shared one: it may be in both for a while, but never in none. */
  private async keepWindows(lease: Lease, windows: readonly SettledWindow[], settled: Date): Promise<void> {
    const kept = await this.withData(windows);
    const shared = kept.filter(({ window }) => this.places.sharedBy(lease, window.seq) !== undefined);
    const alone = kept.filter((window) => !shared.includes(window));
    if (shared.length > 0) {
      await insertMissingRaw(
        this.collections.window,
        shared.map((window) => {
          const document = { ...toWindowDocument(lease, window.window), ...asKept(window, settled) };
          return { document, bytes: sizeOf(document, window.data) };
        }),
      );
      await this.removeBySeq(
        lease,
        shared.map(({ window }) => window.seq),
      );
    }
    await this.keepAlone(lease, alone, settled);
  }

  /**
   * What was appended, as bytes. After a restart the messages may have been marked before their windows were: then they are no
   * longer read, but they are kept, so they are in the buffer.
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
      return { window, data: bytes <= KEPT_DATA_BYTES ? data : [] };
    });
  }

  private async keepAlone(lease: Lease, windows: readonly KeptWindow[], settled: Date): Promise<void> {
    if (windows.length === 0) return;
    const update = async (filter: (seq: number) => mongo.Filter<WindowDocument>) => {
      const statements = windows.map((kept) => {
        // Done with, and it might not fit beside the data.
        const u = { $set: asKept(kept, settled), $unset: { apart: '', split: '' } };
        return { statement: { q: filter(kept.window.seq), u }, bytes: sizeOf(u, kept.data) };
      });
      let matched = 0;
      for (const some of portions(statements)) {
        const reply = await write(
          this.collections.window,
          'update',
          some.map(({ statement }) => statement),
        );
        throwIfFailed(reply);
        matched += reply.n;
      }
      return matched;
    };
    if ((await update((seq) => ({ _id: this.places.ownOf(lease, seq) }))) < windows.length) {
      const adopted = { processed: false, consumer: consumerDocumentId(lease.key), fence: lease.fence };
      await update((seq) => ({ ...adopted, seq }));
    }
    this.places.left(
      lease,
      windows.map(({ window }) => window.seq),
    );
  }
}

/** A window with what its messages were appended with. */
interface KeptWindow {
  readonly window: WindowRecord;
  readonly data: readonly (RawValue | undefined)[];
}

function without(seqs: readonly number[]): mongo.UpdateFilter<WindowDocument> {
  return { $pull: { windows: { seq: { $in: [...seqs] } } } };
}

function asKept({ data }: KeptWindow, settled: Date) {
  return { processed: true, settled, data };
}

/** An empty list of marks does not mean that nobody has committed: see `toMessage`. */
function isCovered(others: readonly string[], doneBy: readonly string[] | undefined): boolean {
  if (doneBy === undefined) return others.length === 0;
  return doneBy.length > 0 && others.every((other) => doneBy.includes(other));
}

function toId(id: string): mongo.ObjectId {
  return mongo.ObjectId.createFromHexString(id);
}
