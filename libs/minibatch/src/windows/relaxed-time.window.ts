import { boundaryAfter, boundaryAtOrBefore, type Grid } from './alignment.js';
import { requireWhole } from './emitter-failure.js';
import type { Message } from './message.js';
import {
  type EmitterContext,
  type MessageView,
  type ReadPlan,
  type Selection,
  WindowEmitter,
} from './window-emitter.js';

/** No producer's clock is right when it is further ahead of ours; milliseconds. */
const AHEAD = 1_000;

/** What of the view goes into the tick's window, and whether the tick continues afterwards. */
interface Cut {
  readonly count: number;
  readonly more: boolean;
}

/**
 * Every `interval`, all messages since the last window. The ticks are counted from the end of the last window of an
 * earlier process, or else from the consumer's first start, which is stored.
 *
 * ```text
 *         tick reached and a worker free         all was taken
 * resting ────────────────────────────▶ gathering ───────────────▶ resting
 *                (or flushing)                 (or the tick passed)
 * ```
 *
 * - `resting`: nothing is read.
 * - `gathering`: `end` is the latest tick that has been reached, so several ticks become one window after a pause, or when all workers
 *   were busy. Messages are read in append order until nothing is left, or until a message shows that the reading has
 *   passed the tick: otherwise a fast producer would keep one window open forever.
 *
 * A tick without messages emits nothing unless `empty` is set.
 *
 * @example
 * ```ts
 * @Streaming('flights', { interval: '5s' })
 * ```
 */
export class RelaxedTimeWindow<T = unknown> extends WindowEmitter<T> {
  override readonly countsFromStart = true;
  /** Length of an interval in milliseconds. */
  protected interval = 1;
  private empty = false;
  private started = 0;
  private grid: Grid = { interval: 1, origin: 0 };
  /** End of the last interval, emitted or empty: start of the next. */
  private previous = 0;
  /** The end of the interval that is being gathered. */
  private end: number | undefined;
  /** True after a part of the interval was emitted. */
  private begun = false;
  /** True until the rest between two ticks was reported: the reader starts anew after a rest. */
  private rested = true;

  override init(context: EmitterContext): void | Promise<void> {
    this.interval = requireWhole(this, context, 'interval', 'whole milliseconds from 1');
    this.empty = context.empty;
    this.started = context.now;
    this.previous = context.lastEnd?.getTime() ?? context.now;
    this.grid = { interval: this.interval, origin: this.previous };
    this.end = undefined;
    this.begun = false;
    this.rested = true;
  }

  override reads(now: number, flushing?: boolean, workerFree = true): ReadPlan {
    if (this.end === undefined && !flushing) {
      if (now < this.previous - this.interval) this.turnBack(now);
      const tick = boundaryAtOrBefore(this.grid, now);
      if (!this.rested || tick <= this.previous || !workerFree) {
        this.rested = true;
        return {
          order: 'idle',
          until: boundaryAfter(this.grid, workerFree ? this.previous : Math.max(this.previous, now)),
        };
      }
      this.end = tick;
    }
    return { order: 'append' };
  }

  override observe(view: MessageView<T>): void {
    if (this.end === undefined && view.flushing && view.length > 0) {
      if (view.now < this.previous - this.interval) this.turnBack(view.now);
      this.end = this.flushEnd(view);
    }
    const { end } = this;
    if (end !== undefined && this.hasNothing(view, end) && !this.emitsEmpty(end)) this.finish(end);
  }

  windowReady(view: MessageView<T>): boolean {
    const end = this.gathered(view);
    const cut = end === undefined ? undefined : this.cut(view, end);
    return end !== undefined && cut !== undefined && (cut.count > 0 || this.emitsEmpty(end));
  }

  query(view: MessageView<T>): Selection<T> | readonly Message<T>[] {
    const end = this.gathered(view);
    const cut = end === undefined ? undefined : this.cut(view, end);
    if (end === undefined || cut === undefined) return [];
    const isEmpty = cut.count === 0;
    if (isEmpty && !this.emitsEmpty(end)) return [];
    const start = isEmpty ? Math.max(this.previous, boundaryAtOrBefore(this.grid, this.started)) : this.previous;
    return { take: view.take(cut.count), start: new Date(start), end: new Date(end), more: cut.more };
  }

  override emitted({ end, more }: Selection<T>): void {
    if (more) this.begun = true;
    else if (end) this.finish(end.getTime());
  }

  override nextCheck(_view: MessageView<T>): number | undefined {
    return this.end === undefined ? boundaryAfter(this.grid, this.previous) : undefined;
  }

  /** The end of the interval that is being gathered; a flush begins one that ends now. */
  private gathered(view: MessageView<T>): number | undefined {
    return this.end ?? (view.flushing && view.length > 0 ? this.flushEnd(view) : undefined);
  }

  private flushEnd({ now }: MessageView<T>): number {
    return Math.max(now, this.previous);
  }

  private cut(view: MessageView<T>, end: number): Cut | undefined {
    if (view.complete) return { count: view.length, more: false };
    // Messages from beyond the tick at the very head may come from a clock that is ahead. They don't end the window, or
    // it would stay empty tick after tick until that time has come.
    let before = this.begun;
    const beyond = view.messages.findIndex(({ created }) => {
      if (created.getTime() >= end) return before && this.isBeyond(created, view, end);
      before = true;
      return false;
    });
    if (beyond >= 0) return { count: beyond, more: false };
    return view.saturated ? { count: view.length, more: before } : undefined;
  }

  /**
   * The message shows that reading has passed the tick. One from the future comes from a clock that is ahead and does not show how far
   * the reading is; one interval is enough to find that out.
   */
  private isBeyond(created: Date, { now }: MessageView<T>, end: number): boolean {
    const time = created.getTime();
    return time >= end && (time <= now + AHEAD || now >= end + this.interval);
  }

  /** The cut has no messages, without going through all of them. */
  private hasNothing(view: MessageView<T>, end: number): boolean {
    const { first } = view;
    if (view.complete || !first) return view.complete && view.length === 0;
    return this.begun && this.isBeyond(first.created, view, end);
  }

  private emitsEmpty(end: number): boolean {
    return this.empty && !this.begun && end > this.started;
  }

  private finish(end: number): void {
    this.previous = end;
    this.end = undefined;
    this.begun = false;
    this.rested = false;
  }

  /**
   * The clock was set back, by more than an interval: a smaller step passes on its own. Waiting for the old time to come
   * again could take hours.
   */
  private turnBack(now: number): void {
    this.previous = boundaryAtOrBefore(this.grid, now);
    this.started = Math.min(this.started, now);
  }
}
