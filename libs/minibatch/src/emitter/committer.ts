import type { ConsumerProgress } from '../storage/stream-store.interface.js';
import type { BatchWindow } from './batch-window.js';
import type { OpenWindow } from './open-window.js';
import { notify, type Tenure } from './tenure.js';

/** A window whose handler and sinks are through; without `window` if it was committed without a handler. */
export interface FinishedWindow {
  readonly open: OpenWindow;
  readonly window?: BatchWindow;
}

/**
 * Commits finished windows in bulk: first the commit point, which says in one conditional update that they are done, then the
 * deletes. One commit at a time; what finishes meanwhile is gathered for the next.
 */
export class Committer {
  private finished: FinishedWindow[] = [];
  /** When the first of the finished windows was finished; monotonic. */
  private since = 0;
  /** Messages in finished windows that wait for their commit. */
  waitingMessages = 0;
  /** Windows being committed now. */
  committing = 0;

  constructor(
    private readonly tenure: Tenure,
    private progress: ConsumerProgress,
  ) {}

  get waiting(): number {
    return this.finished.length;
  }

  /** Milliseconds that the oldest finished window has waited. */
  waitedFor(): number {
    return this.finished.length === 0 ? 0 : this.tenure.parts.clock.monotonic() - this.since;
  }

  add(finished: FinishedWindow): void {
    if (this.finished.length === 0) this.since = this.tenure.parts.clock.monotonic();
    this.finished.push(finished);
    this.waitingMessages += finished.open.messages.length;
  }

  /**
   * Commits the finished windows, the oldest first, up to about as many messages as are read ahead: larger deletes gain nothing,
   * and some servers take much longer for them. Resolves with the windows when their messages have left the buffer.
   */
  async commit(): Promise<readonly FinishedWindow[]> {
    const { tenure } = this;
    const { definition, counters, lease, parts } = tenure;
    const batch = this.take(parts.options.readAhead);
    this.committing = batch.length;
    try {
      const progress = advance(this.progress, batch);
      const finished = batch.map(({ open }) => open.record.seq);
      const sent = parts.clock.monotonic();
      const groups = await tenure.persist('commit', () => parts.store.commit(lease, { finished, progress }));
      this.progress = progress;
      parts.keeper.renewed(lease, sent);
      counters.committedWindows += batch.length;
      counters.committedMessages += batch.reduce((sum, { open }) => sum + open.messages.length, 0);
      counters.lastCommit = new Date(parts.clock.now());
      for (const { window } of batch) {
        if (window) notify(tenure, 'onCommit', () => definition.emitter.onCommit(window));
      }
      const windows = batch.map(({ open }) => ({ window: open.record, messages: open.messages }));
      await tenure.persist('remove committed messages', () =>
        parts.store.settle(lease, windows, { groups, keep: definition.keep, at: new Date(parts.clock.now()) }),
      );
      return batch;
    } finally {
      this.committing = 0;
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

/** Where the consumer stands after these windows. */
function advance(progress: ConsumerProgress, batch: readonly FinishedWindow[]): ConsumerProgress {
  let { lastSeq, lastEnd, windows, messages } = progress;
  for (const { open } of batch) {
    lastSeq = Math.max(lastSeq, open.record.seq);
    lastEnd = laterEnd(lastEnd, open.record);
    windows += 1;
    messages += open.messages.length;
  }
  return { lastSeq, windows, messages, ...(lastEnd ? { lastEnd } : {}) };
}

/** The end of the last interval that was emitted; late windows repeat an earlier one. */
export function laterEnd(
  lastEnd: Date | undefined,
  window: { readonly end?: Date; readonly late?: boolean },
): Date | undefined {
  const { end } = window;
  return end && !window.late && (!lastEnd || end > lastEnd) ? end : lastEnd;
}
