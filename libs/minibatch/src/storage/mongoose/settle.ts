import { mongo } from 'mongoose';
import type {
  ConsumerKey,
  Lease,
  MessageId,
  SettledWindow,
  SettleOptions,
  StoredMessage,
  WindowRecord,
} from '../stream-store.interface.js';
import type { ClaimLocations } from './claim-locations.js';
import type { Collections } from './collections.js';
import { consumerDocumentId } from './consumer-document.js';
import type { MessageRemoval } from './message-removal.js';
import type { GroupListVersions } from './group-list-versions.js';
import { insertMissingRaw, portions } from './insert-missing.js';
import { BufferMessage, documentOf } from './buffer-message.js';
import { toObjectId } from './message-ids.js';
import type { RawDocument } from './raw-document.js';
import { findByIds } from './raw-reads.js';
import { type RawValue, sizeOf } from './raw-value.js';
import { throwIfFailed, write } from './raw-writes.js';
import type { WindowDocument } from './schemas/window.schema.js';
import type { SharedReads } from './shared-reads.js';
import type { MarkDelay } from './mark-delay.js';
import { guarded } from './store-errors.js';
import { toWindowDocument } from './window-codec.js';
import type { WindowRemoval } from './window-removal.js';

/** A kept window's data are copied into its document up to here; beyond, they are only in the buffer. */
const KEPT_DATA_BYTES = 15 * 1024 * 1024;
/** Of an element's type and of its name, its place in the array. */
const ELEMENT_BYTES = 8;

const NEVER = new AbortController().signal;

/** After the commit point: the messages leave, then the windows. Everything is by ids, so it may be repeated. */
export class Settlement {
  /** By stream: the end of the last settlement that was begun. */
  private readonly turns = new Map<string, Promise<void>>();

  constructor(
    private readonly collections: Collections,
    private readonly departures: MessageRemoval,
    private readonly places: ClaimLocations,
    private readonly removals: WindowRemoval,
    private readonly reads: SharedReads,
    private readonly sideBySide: MarkDelay,
    private readonly lists: GroupListVersions,
  ) {}

  async settle(lease: Lease, windows: readonly SettledWindow[], options: SettleOptions): Promise<void> {
    if (windows.length === 0) return;
    const { group, stream } = lease.key;
    this.reads.settled(lease.key, windows);
    await guarded(`settle windows of '${group}' on '${stream}'`, async () => {
      const messages = windows.flatMap((settled) => settled.messages);
      const gone = idsWithoutMessages(windows);
      // They were loaded for a former holder's commit, and it had marked them: it may have ended before they left.
      if (gone.length > 0) await this.departures.finish(gone, options.groups, options.at);
      const others = options.groups.filter((other) => other !== group);
      const groupsVersion = this.lists.atCommit(lease.key);
      const isUncertain = (message: StoredMessage) => isKept(message) || isOutdated(message, groupsVersion);
      await (others.length === 0 && !messages.some(isUncertain)
        ? this.leave(messages, options)
        : this.settleAmongOthers(lease.key, messages, others, isUncertain, options));
      await (options.keep
        ? this.keepWindows(lease, windows, options.at ?? new Date())
        : this.removals.remove(
            lease,
            windows.map(({ window }) => window.seq),
          ));
    });
  }

  /**
   * Messages that no other group waits for leave at once. The others are marked, unless the groups that they wait for are about to
   * commit them, too: then those let them leave.
   *
   * @param isUncertain of a message whose document has to tell whether it is kept: the group that keeps it may be gone, or keep nothing by
   * now
   */
  private async settleAmongOthers(
    key: ConsumerKey,
    messages: readonly StoredMessage[],
    others: readonly string[],
    isUncertain: (message: StoredMessage) => boolean,
    options: SettleOptions,
  ): Promise<void> {
    const { stream, group } = key;
    const { keep, at: settled, closing } = options;
    const { commits } = this.departures;
    const waiting: StoredMessage[] = [];
    const hold = await this.inTurn(stream, async () => {
      const covered = (message: StoredMessage) =>
        !isUncertain(message) && (isCovered(message, others) || commits.covers(message.id, others));
      const last: StoredMessage[] = [];
      for (const message of messages) (covered(message) ? last : waiting).push(message);
      const ids = waiting.map(({ id }) => id);
      // One that keeps its messages wants them marked, and not removed by whoever comes last.
      if (!keep) commits.add(ids, group);
      await this.leave(last, options);
      return commits.hold(ids);
    });
    try {
      const patience = keep || hold.isEmpty || others.length === 0 ? 0 : this.sideBySide.patience(key, others);
      if (patience > 0) {
        await hold.untilLeft(patience, closing ?? NEVER);
        this.sideBySide.waited(key, !hold.isEmpty);
      }
      if (hold.isEmpty) return;
      await this.inTurn(stream, async () => {
        // Others may have let them leave while this group waited for its turn.
        const rest = waiting.filter(({ id }) => hold.has(id));
        const marked = rest.map((message) => ({ _id: toObjectId(message.id), fresh: isFresh(message) }));
        await this.departures.mark(marked, { group, others, keep, settled });
      });
    } finally {
      hold.release();
    }
  }

  /** One group of a stream after the other: side by side, each would mark the same messages. */
  private inTurn<R>(stream: string, work: () => Promise<R>): Promise<R> {
    const turn = (this.turns.get(stream) ?? Promise.resolve()).then(work);
    const over = turn
      .then(
        () => undefined,
        () => undefined,
      )
      .finally(() => {
        if (this.turns.get(stream) === over) this.turns.delete(stream);
      });
    this.turns.set(stream, over);
    return turn;
  }

  private leave(messages: readonly StoredMessage[], { keep, at }: SettleOptions): Promise<void> {
    return this.departures.leave(
      messages.map((message) => {
        const { id, deduped } = message;
        return { _id: toObjectId(id), deduped: deduped === true, keep: keep && !isReplayed(message) };
      }),
      at,
    );
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
      await this.removals.remove(
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

function idsWithoutMessages(windows: readonly SettledWindow[]): readonly MessageId[] {
  return windows.flatMap(({ window, messages }) => {
    if (messages.length >= window.messageIds.length) return [];
    const present = new Set(messages.map(({ id }) => id));
    return window.messageIds.filter((id) => !present.has(id));
  });
}

/** A window with what its messages were appended with. */
interface KeptWindow {
  readonly window: WindowRecord;
  readonly data: readonly (RawValue | undefined)[];
}

function asKept({ data }: KeptWindow, settled: Date) {
  return { processed: true, settled, data };
}

/** As it was read: all others have committed it. */
function isCovered(message: StoredMessage, others: readonly string[]): boolean {
  if (!(message instanceof BufferMessage)) return false;
  return others.every((group) => message.done?.includes(group));
}

function isKept(message: StoredMessage): boolean {
  return message instanceof BufferMessage && message.keep === true;
}

/** The groups of the stream have changed since it was read. */
function isOutdated(message: StoredMessage, groupsVersion: number | undefined): boolean {
  return !(message instanceof BufferMessage) || message.groupsVersion !== groupsVersion;
}

/** What it is a copy of is kept already. */
function isReplayed(message: StoredMessage): boolean {
  return message instanceof BufferMessage && message.replayed === true;
}

function isFresh(message: StoredMessage): boolean {
  return !(message instanceof BufferMessage) || message.done === undefined;
}
