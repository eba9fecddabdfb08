import type { ConsumerProgress } from '../storage/stream-store.interface.js';
import type { BatchWindow } from './batch-window.js';
import type { InFlightWindow } from './in-flight-window.js';
import { notify, type LeaseTerm } from './lease-term.js';

/** Commits whose messages may be leaving at the same time. */
const MOST_LEAVING = 2;

/** A window whose handler and sinks are through; without `window` if it was committed without a handler. */
export interface FinishedWindow {
  readonly open: InFlightWindow;
  readonly window?: BatchWindow;
}

/** Windows whose commit point is in the store, on their way out of it. */
export interface CommittedBatch {
  readonly windows: readonly FinishedWindow[];
  /** The groups of the stream at the commit point. */
  readonly groups: readonly string[];
}

/**
 * Commits finished windows in bulk: first the commit point, which says in one conditional update that they are done, then the
 * deletes. One commit point at a time; the messages of the one before may still be leaving, and it names their windows, too, so
 * that whoever takes over knows of both.
 */
export class Committer {
  private finished: FinishedWindow[] = [];
  /** When the first of the finished windows was finished; monotonic. */
  private since = 0;
  /** Messages in finished windows that wait for their commit. */
  waitingMessages = 0;
  /** True while a commit point is being written. */
  private isWriting = false;
  /** Being committed, or leaving the store. */
  private readonly leaving = new Set<readonly FinishedWindow[]>();
  /** Number of the window whose end is the progress's `lastEnd`, at the most. */
  private endedBy: number;

  constructor(
    private readonly term: LeaseTerm,
    private progress: ConsumerProgress,
  ) {
    this.endedBy = progress.lastSeq;
  }

  get waiting(): number {
    return this.finished.length;
  }

  /** Windows that are being committed, or whose messages are leaving. */
  get underWay(): number {
    let windows = 0;
    for (const batch of this.leaving) windows += batch.length;
    return windows;
  }

  /** True if there is something for a commit, and nothing says that it should come later. */
  get isReady(): boolean {
    if (this.waiting === 0 || this.isWriting) return false;
    // While messages leave, only as many again are worth a commit of their own; others are gathered.
    return this.leaving.size === 0 || (this.isFull && this.leaving.size < MOST_LEAVING);
  }

  /** As many messages wait as one commit takes. */
  get isFull(): boolean {
    return this.waitingMessages >= this.term.parts.options.readAhead;
  }

  /** Milliseconds that the oldest finished window has waited; there is one. */
  waitedFor(): number {
    return this.term.parts.clock.monotonic() - this.since;
  }

  /** A window with this id is finished, and has not left the store. */
  has(id: string): boolean {
    return [this.finished, ...this.leaving].some((batch) => batch.some(({ open }) => open.record.id === id));
  }

  add(finished: FinishedWindow): void {
    if (this.finished.length === 0) this.since = this.term.parts.clock.monotonic();
    this.finished.push(finished);
    this.waitingMessages += finished.open.messages.length;
  }

  /**
   * Commits the finished windows, the oldest first, up to about as many messages as are read ahead: larger deletes gain nothing,
   * and some servers take much longer for them. They are to be settled then.
   */
  async commit(): Promise<CommittedBatch> {
    const { term } = this;
    const { definition, counters, lease, parts } = term;
    const batch = this.take(parts.options.readAhead);
    this.leaving.add(batch);
    this.isWriting = true;
    try {
      const { progress: reached, endedBy } = advance(this.progress, this.endedBy, batch);
      const { limiter } = term;
      const progress = limiter ? { ...reached, starts: limiter.stored() } : reached;
      const finished = [...this.leaving].flatMap((some) => some.map(({ open }) => open.record.seq));
      const sent = parts.clock.monotonic();
      const groups = await term.persist('commit', () => parts.store.commit(lease, { finished, progress }));
      this.progress = progress;
      this.endedBy = endedBy;
      parts.keeper.renewed(lease, sent);
      counters.committedWindows += batch.length;
      counters.committedMessages += batch.reduce((sum, { open }) => sum + open.messages.length, 0);
      counters.lastCommit = new Date(parts.clock.now());
      for (const { window } of batch) {
        if (window) notify(term, 'onCommit', () => definition.emitter.onCommit(window.shown));
      }
      return { windows: batch, groups };
    } finally {
      // It fails only when the term is over, and the committer with it.
      this.isWriting = false;
    }
  }

  /** Resolves when the messages of committed windows have left the buffer. */
  async settle({ windows: batch, groups }: CommittedBatch): Promise<void> {
    const { definition, lease, parts, closing } = this.term;
    const windows = batch.map(({ open }) => ({ window: open.record, messages: open.messages }));
    try {
      await this.term.persist('remove committed messages', () =>
        parts.store.settle(lease, windows, {
          groups,
          keep: definition.keep,
          at: new Date(parts.clock.now()),
          closing: closing.signal,
        }),
      );
    } finally {
      this.leaving.delete(batch);
    }
  }

  private take(messages: number): readonly FinishedWindow[] {
    let taken = 0;
    let count = 0;
    for (const { open } of this.finished) {
      if (count > 0 && taken + open.messages.length > messages) break;
      taken += open.messages.length;
      count += 1;
    }
    this.waitingMessages -= taken;
    return this.finished.splice(0, count);
  }
}

/** Where the consumer stands after these windows. Those of several workers may be finished out of order. */
export function advance(
  progress: ConsumerProgress,
  endedBy: number,
  batch: readonly FinishedWindow[],
): { progress: ConsumerProgress; endedBy: number } {
  let { lastSeq, lastEnd, windows, messages } = progress;
  for (const { open } of batch) {
    lastSeq = Math.max(lastSeq, open.record.seq);
    lastEnd = laterEnd(lastEnd, open.record, open.record.seq > endedBy);
    if (open.record.end && !open.record.late) endedBy = Math.max(endedBy, open.record.seq);
    windows += 1;
    messages += open.messages.length;
  }
  return { progress: { lastSeq, windows, messages, ...(lastEnd ? { lastEnd } : {}) }, endedBy };
}

/**
 * The end of the last interval that was emitted; late windows repeat an earlier one.
 *
 * @param isNewer the window was cut after the one that `lastEnd` is from: then its end counts, even if the clock has been set back
 */
export function laterEnd(
  lastEnd: Date | undefined,
  window: { readonly end?: Date; readonly late?: boolean },
  isNewer: boolean,
): Date | undefined {
  const { end, late } = window;
  return end && !late && (isNewer || !lastEnd || end > lastEnd) ? end : lastEnd;
}
