import type {
  ConsumerKey,
  Lease,
  MessageId,
  RefusedMessages,
  SettledWindow,
  SettleOptions,
  StoredMessage,
} from '../stream-store.interface.js';
import { BufferMessage } from './buffer-message.js';
import type { CommitEffects } from './effects.js';
import type { GroupCommits } from './group-commits.js';
import type { GroupListVersions } from './group-list-versions.js';
import type { KeptWindows } from './kept-windows.js';
import type { MarkDelay } from './mark-delay.js';
import { toObjectId } from './message-ids.js';
import type { MessageRemoval } from './message-removal.js';
import type { Refusals } from './refusals.js';
import type { SharedReads } from './shared-reads.js';
import { guarded } from './store-errors.js';
import type { WindowRemoval } from './window-removal.js';

const NEVER = new AbortController().signal;

/**
 * What becomes of a message that a group has committed.
 *
 * - `leave`: every group has committed it, and the copy at hand says whether it is kept. It leaves the buffer at once.
 * - `mark`: another group may still need it, or only its document knows whether it is kept. The group marks it; then its document is
 *   read, and it leaves if every group has marked it.
 */
type Disposition = 'leave' | 'mark';

/** What the disposition of messages depends on, apart from the messages. */
interface Settling {
  readonly key: ConsumerKey;
  /** The other groups of the stream, as of the commit point. */
  readonly others: readonly string[];
  /** Version of the list of groups that the commit point returned. */
  readonly groupsVersion: number | undefined;
}

/** After the commit point: the messages leave the buffer, then the windows are removed. Everything goes by ids, so it may be repeated. */
export class Settlement {
  /** By stream: the end of the settlement that began last. */
  private readonly turns = new Map<string, Promise<void>>();

  constructor(
    private readonly messages: MessageRemoval,
    private readonly commits: GroupCommits,
    private readonly windows: WindowRemoval,
    private readonly keptWindows: KeptWindows,
    private readonly reads: SharedReads,
    private readonly markDelay: MarkDelay,
    private readonly versions: GroupListVersions,
    private readonly refusals: Refusals,
    private readonly effects: CommitEffects,
  ) {}

  async settle(
    lease: Lease,
    windows: readonly SettledWindow[],
    options: SettleOptions,
  ): Promise<RefusedMessages | undefined> {
    if (windows.length === 0) return undefined;
    const { group, stream } = lease.key;
    this.reads.settled(lease.key, windows);
    await guarded(`settle windows of '${group}' on '${stream}'`, async () => {
      const seqs = windows.map(({ window }) => window.seq);
      const applying = this.effects.apply(lease, seqs);
      const leaving = this.settleMessages(lease, windows, options);
      // Neither needs the other: what is decided stays in the consumer's document, and the messages are committed.
      await (applying ? both(applying, leaving) : leaving);
      // Last: while a window is there, the next holder finds what else is to be done.
      if (options.keep) await this.keptWindows.keep(lease, windows, options.at ?? new Date());
      else await this.windows.remove(lease, seqs);
      this.effects.settled(lease, seqs);
    });
    return this.refusals.takeUnreported();
  }

  private async settleMessages(lease: Lease, windows: readonly SettledWindow[], options: SettleOptions): Promise<void> {
    const { group } = lease.key;
    const all = windows.flatMap((settled) => settled.messages);
    const messages = this.refusals.isEmpty ? all : all.filter(({ id }) => !this.refusals.isUnburied(id, group));
    const missing = idsWithoutMessages(windows);
    // A former holder had marked them when they were loaded, and it may have stopped before they left.
    if (missing.length > 0) await this.messages.finish(missing, options.groups, options.at);
    const settling: Settling = {
      key: lease.key,
      others: options.groups.filter((other) => other !== lease.key.group),
      groupsVersion: this.versions.atCommit(lease.key),
    };
    // Most streams have one group: nothing has to be coordinated.
    const isAlone =
      settling.others.length === 0 && messages.every((message) => this.disposition(message, settling) === 'leave');
    await (isAlone ? this.leave(messages, options) : this.settleAmongOthers(messages, settling, options));
  }

  private disposition(message: StoredMessage, { others, groupsVersion }: Settling): Disposition {
    // Kept by a group that may be gone, or that no longer keeps messages.
    if (!(message instanceof BufferMessage) || message.keep) return 'mark';
    // The groups have changed since the copy was read: one that is gone may have marked the message as kept.
    if (message.groupsVersion !== groupsVersion) return 'mark';
    const isCommitted = others.every((group) => message.done?.includes(group));
    return isCommitted || this.commits.covers(message.id, others) ? 'leave' : 'mark';
  }

  /** Before the group marks messages, it waits a moment for other groups that are about to commit them: the last one lets them leave. */
  private async settleAmongOthers(
    messages: readonly StoredMessage[],
    settling: Settling,
    options: SettleOptions,
  ): Promise<void> {
    const { key, others } = settling;
    const { keep, at: settled, closing } = options;
    const { commits } = this;
    const marked: StoredMessage[] = [];
    const hold = await this.inTurn(key.stream, async () => {
      const leaving: StoredMessage[] = [];
      for (const message of messages) {
        (this.disposition(message, settling) === 'leave' ? leaving : marked).push(message);
      }
      const ids = marked.map(({ id }) => id);
      // A group that keeps its messages needs them marked: the group that commits last must not remove them.
      if (!keep) commits.add(ids, key.group);
      await this.leave(leaving, options);
      return commits.hold(ids);
    });
    try {
      const delay = keep || hold.isEmpty || others.length === 0 ? 0 : this.markDelay.delay(key, others);
      if (delay > 0) {
        await hold.untilLeft(delay, closing ?? NEVER);
        this.markDelay.waited(key, !hold.isEmpty);
      }
      if (hold.isEmpty) return;
      await this.inTurn(key.stream, async () => {
        // Other groups may have let some leave while this one waited for its turn.
        const rest = marked.filter(({ id }) => hold.has(id));
        const marks = rest.map((message) => ({ _id: toObjectId(message.id), fresh: isUnmarked(message) }));
        await this.messages.mark(marks, { group: key.group, others, keep, settled });
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
    return this.messages.leave(
      messages.map((message) => {
        const { id, deduped } = message;
        return { _id: toObjectId(id), deduped: deduped === true, keep: keep && !isReplayed(message) };
      }),
      at,
    );
  }
}

/** Ends when both have. */
async function both(one: Promise<void>, other: Promise<void>): Promise<void> {
  const results = await Promise.allSettled([one, other]);
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}

function idsWithoutMessages(windows: readonly SettledWindow[]): readonly MessageId[] {
  return windows.flatMap(({ window, messages }) => {
    // Those of rows have left before.
    if (window.slots || messages.length >= window.messageIds.length) return [];
    const present = new Set(messages.map(({ id }) => id));
    return window.messageIds.filter((id) => !present.has(id));
  });
}

/** A copy of a kept message, which is in the buffer already. */
function isReplayed(message: StoredMessage): boolean {
  return message instanceof BufferMessage && message.replayed === true;
}

/** No group had marked it when it was read. */
function isUnmarked(message: StoredMessage): boolean {
  return !(message instanceof BufferMessage) || message.done === undefined;
}
