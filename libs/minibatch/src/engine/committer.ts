import type { ConsumerProgress, Effects } from '../storage/stream-store.interface.js';
import { type InFlightWindow, WindowState } from './in-flight-window.js';
import type { InFlightWindows } from './in-flight-windows.js';
import { notify } from './emitter-hooks.js';
import type { LeaseTerm } from './lease-term.js';
import type { PassScheduler } from './pass-scheduler.js';
import { settle } from './settlement.js';

/** Commits whose messages may be leaving at the same time. */
const MOST_LEAVING = 2;

/** How long finished windows wait for others to share their commit, while others are claimed or running; milliseconds. */
const GATHER = 25;

/**
 * Commits finished windows in bulk: first the commit point, which says in one conditional update that they are done, then the
 * deletes. One commit point at a time; the messages of the one before may still be leaving, and it names their windows, too, so
 * that a process that takes over knows of both.
 */
export class Committer {
  /** When the first of the finished windows was finished; monotonic. */
  private since = 0;
  /** True while a commit point is being written. */
  private isWriting = false;
  private progress: ConsumerProgress = { lastSeq: 0, windows: 0, messages: 0 };
  /** Number of the window whose end is the progress's `lastEnd`, at the most. */
  private endedBy = 0;
  private drainedWindows = 0;
  /** Of a stage: the end of the commit before. A store may apply effects when it settles, and messages are to be appended in their order. */
  private before: Promise<void> = Promise.resolve();

  constructor(
    private readonly term: LeaseTerm,
    private readonly windows: InFlightWindows,
    private readonly passes: PassScheduler,
    /** Called with each window whose messages have left the store. */
    private readonly left: (open: InFlightWindow) => void,
  ) {}

  /** Continues where an earlier holder of the lease has stopped. */
  resume(progress: ConsumerProgress): void {
    this.progress = progress;
    this.endedBy = progress.lastSeq;
  }

  /** Windows committed since the consumer was told to stop. */
  get drained(): number {
    return this.drainedWindows;
  }

  /** A window is through, with its handler and its sinks or without a handler. */
  add(open: InFlightWindow): void {
    if (this.waiting.windows === 0) this.since = this.term.parts.clock.monotonic();
    if (open.ofRows) open.effects = open.ofRows.finish();
    this.windows.transition(open, WindowState.Finished);
  }

  /**
   * Starts a commit if there is something for it and nothing more to gather.
   *
   * @param hold milliseconds until another window can finish, at the earliest; Infinity if none is about to
   */
  commitIfDue(hold: number): void {
    if (!this.isReady) return;
    const isLast = hold >= GATHER || this.term.isClosing;
    if (isLast || this.isFull || this.waitedFor() >= GATHER) this.passes.startTask(() => this.run(!isLast));
  }

  /** Milliseconds until what is gathered is committed; undefined if nothing waits, or if the end of a commit is awaited. */
  get wait(): number | undefined {
    if (this.waiting.windows === 0 || this.windows.inCommits > 0) return undefined;
    return Math.max(0, GATHER - this.waitedFor());
  }

  private get waiting() {
    return this.windows.in(WindowState.Finished);
  }

  /** True if there is something for a commit, and nothing says that it should come later. */
  private get isReady(): boolean {
    if (this.waiting.windows === 0 || this.isWriting || !this.hasRoom) return false;
    // While messages leave, only as many again are worth a commit of their own; others are gathered.
    const { commitCount } = this.windows;
    return commitCount === 0 || (this.isFull && commitCount < MOST_LEAVING);
  }

  /** The store has room for the effects of the next window: those that are decided take it until their windows have left. */
  private get hasRoom(): boolean {
    const { maxEffectBytes } = this.term.parts.store;
    return maxEffectBytes === undefined || this.windows.hasRoomFor(maxEffectBytes);
  }

  /** As many messages wait as one commit takes, or so many that another window of their size would not fit. */
  private get isFull(): boolean {
    const { messages, windows } = this.waiting;
    const { readAhead } = this.term.parts.options;
    return messages >= readAhead || messages + messages / windows > readAhead;
  }

  /** Milliseconds that the oldest finished window has waited; there is one. */
  private waitedFor(): number {
    return this.term.parts.clock.monotonic() - this.since;
  }

  /**
   * One commit, from the commit point until its messages have left.
   *
   * @param mayLeaveRest other windows are about to finish, so what completes no record of the store may wait for them
   */
  private async run(mayLeaveRest: boolean): Promise<void> {
    // Larger deletes than as many messages as are read ahead gain nothing, and some servers take much longer for them.
    const { options, store } = this.term.parts;
    const commit = this.windows.takeFinished(options.readAhead, mayLeaveRest, store.maxEffectBytes);
    // What is left begins to gather anew, or the next commit would be a small one.
    if (commit.at(-1)?.completesRecord) this.since = this.term.parts.clock.monotonic();
    const groups = await this.commit(commit);
    for (const open of commit) this.windows.transition(open, WindowState.Leaving);
    // The next commit point need not wait until these have left.
    this.passes.schedule();
    await (this.term.state ? this.settleInTurn(commit, groups) : this.settle(commit, groups));
    this.applied(commit);
    if (this.term.isClosing) this.drainedWindows += commit.length;
    this.windows.remove(commit);
    for (const open of commit) this.left(open);
  }

  /** Resolves with the groups of the stream at the commit point. */
  private async commit(commit: readonly InFlightWindow[]): Promise<readonly string[]> {
    const { term } = this;
    const { counters, lease, parts } = term;
    this.isWriting = true;
    try {
      const { progress: reached, endedBy } = advance(this.progress, this.endedBy, commit);
      const { limiter } = term;
      const progress = limiter ? { ...reached, starts: limiter.stored() } : reached;
      const finished = this.windows.committedSeqs();
      const sent = parts.clock.monotonic();
      const asked = (count: number) => parts.asked(lease.key.stream, count);
      const effects = effectsOf(commit);
      const point = effects ? { finished, progress, effects } : { finished, progress };
      const groups = await term.persist('commit', () => parts.store.commit(lease, point, asked));
      this.progress = progress;
      this.endedBy = endedBy;
      parts.keeper.renewed(lease, sent);
      const handled = commit.filter(({ isIntake }) => !isIntake);
      counters.committedWindows += handled.length;
      counters.committedMessages += handled.reduce((sum, { messages }) => sum + messages.length, 0);
      counters.lastCommit = new Date(parts.clock.now());
      for (const { handled } of commit) {
        if (handled) notify(term, 'onCommit', handled);
      }
      return groups;
    } finally {
      // It fails only when the term is over, and the committer with it.
      this.isWriting = false;
    }
  }

  private settleInTurn(commit: readonly InFlightWindow[], groups: readonly string[]): Promise<void> {
    this.before = this.before.then(() => this.settle(commit, groups));
    return this.before;
  }

  /** What the windows have changed is in the store, and can be read there. */
  private applied(commit: readonly InFlightWindow[]): void {
    const { state, parts } = this.term;
    if (!state) return;
    const streams = new Set<string>();
    for (const { effects } of commit) {
      if (!effects) continue;
      state.left(effects.effects);
      for (const { stream } of effects.effects.append ?? []) streams.add(stream);
    }
    for (const stream of streams) parts.wake(stream);
  }

  /** Resolves when the messages of committed windows have left the buffer. */
  private async settle(commit: readonly InFlightWindow[], groups: readonly string[]): Promise<void> {
    // Those of rows have left the buffer before.
    const windows = commit.map(({ record, messages, ofRows }) => ({
      window: record,
      messages: ofRows ? [] : messages,
    }));
    await settle(this.term, windows, { groups, closing: this.term.closing });
  }
}

function effectsOf(commit: readonly InFlightWindow[]): ReadonlyMap<number, Effects> | undefined {
  let found: Map<number, Effects> | undefined;
  for (const { effects, record } of commit) {
    if (effects) (found ??= new Map<number, Effects>()).set(record.seq, effects.effects);
  }
  return found;
}

/** Where the consumer stands after these windows. Those of several workers may be finished out of order. */
export function advance(
  progress: ConsumerProgress,
  endedBy: number,
  commit: readonly InFlightWindow[],
): { progress: ConsumerProgress; endedBy: number } {
  let { lastSeq, lastEnd, windows, messages } = progress;
  for (const { record, messages: some, isIntake, ofRows } of commit) {
    lastSeq = Math.max(lastSeq, record.seq);
    // What goes into rows counts when it is handled.
    if (isIntake) continue;
    windows += 1;
    messages += some.length;
    if (ofRows) continue;
    lastEnd = laterEnd(lastEnd, record, record.seq > endedBy);
    if (record.end && !record.late) endedBy = Math.max(endedBy, record.seq);
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
