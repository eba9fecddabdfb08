import { boundaryAfter, boundaryAtOrBefore, type Grid } from './alignment.js';
import { requireWhole } from './emitter-failure.js';
import type { BufferedMessage } from './message.js';
import {
  type EmitterContext,
  type MessageView,
  type ReadPlan,
  type Selection,
  WindowEmitter,
} from './window-emitter.js';

/** One look at the stream; its bounds stay as they are until it ends, however long that takes. */
interface Pass {
  /** Intervals that end here or before are emitted. */
  readonly closed: number;
  /** Messages created after this count as created on arrival … */
  readonly ahead: number;
  /** … which is in the interval that ends here. */
  readonly arrival: number;
}

/** The messages of one interval. */
interface Group<T> {
  readonly messages: readonly BufferedMessage<T>[];
  readonly end: number;
  /** True if the interval has no messages beyond these that have not been read. */
  readonly whole: boolean;
}

/**
 * The messages created in [start, end), each in exactly one window. The intervals are aligned to the epoch plus
 * `offset`; a message created on a boundary belongs to the interval that begins there.
 *
 * ```text
 *            an interval has ended, `grace` ago         all was emitted
 * resting ────────────────────────────────────▶ pass ──────────────────▶ resting
 * ```
 *
 * An interval closes by the clock, `grace` after its end, because `created` is set before the write. Then there is one
 * pass over everything created before: in order of time, so intervals come one after the other. Messages of an interval
 * that has been emitted (`end` ≤ the last emitted end) get a window of their own with the same bounds and `late`; as
 * there is one pass an interval they are gathered for so long. Messages more than `maxAhead` in the future belong to
 * the interval that just closed.
 *
 * A flush emits the open intervals too; what is created in them afterwards is late.
 *
 * The clock may be wrong, and be put right. An end that was emitted by a clock far ahead does not make everything late that comes
 * before it, and time that the clock leaps over brings no empty intervals.
 *
 * @example
 * ```ts
 * @Streaming('flights', { interval: '1h', relaxed: false })
 * ```
 */
export class FixedTimeWindow<T = unknown> extends WindowEmitter<T> {
  /** Length of an interval in milliseconds. */
  protected interval = 1;
  private grid: Grid = { interval: 1, origin: 0 };
  private grace = 0;
  private maxAhead = 0;
  private empty = false;
  /** Intervals that ended before are not emitted empty. */
  private started = 0;
  /** Both clocks at the last look. */
  private looked: { readonly now: number; readonly monotonic: number } | undefined;
  private lastEnd = -Infinity;
  /** The interval whose first part was emitted: the rest of it is not late. */
  private begun: number | undefined;
  /** `closed` of the last pass. */
  private passed: number | undefined;
  private pass: Pass | undefined;
  private flush: Pass | undefined;
  /** True until the rest between two passes was reported: the reader starts anew after a rest. */
  private rested = true;

  override init(context: EmitterContext): void | Promise<void> {
    this.interval = requireWhole(this, context, 'interval', 'whole milliseconds from 1');
    this.grid = { interval: this.interval, origin: context.offset };
    this.grace = context.grace;
    this.maxAhead = context.maxAhead;
    this.empty = context.empty;
    this.started = context.now;
    this.looked = undefined;
    this.lastEnd = context.lastEnd?.getTime() ?? -Infinity;
    this.begun = undefined;
    this.boundLastEnd(context.now);
    this.passed = undefined;
    this.pass = undefined;
    this.flush = undefined;
    this.rested = true;
  }

  override reads(now: number, flushing?: boolean): ReadPlan {
    if (flushing) return { order: 'time', ranges: [{}] };
    this.flush = undefined;
    if (!this.pass) {
      const until = this.nextPass(now);
      if (until !== undefined) return { order: 'idle', until };
      this.boundLastEnd(now);
      const closed = boundaryAtOrBefore(this.grid, now - this.grace);
      this.pass = { closed, ahead: now + this.maxAhead, arrival: closed };
    }
    const { closed, ahead } = this.pass;
    return { order: 'time', ranges: [{ to: closed }, { from: Math.floor(ahead) + 1 }] };
  }

  override observe(view: MessageView<T>): void {
    if (!view.flushing) this.flush = undefined;
    else if (!this.flush) {
      this.boundLastEnd(view.now);
      this.flush = this.flushOf(view);
    }
    const pass = this.passFor(view);
    if (!pass) return;
    if (this.empty) this.noteJump(view);
    if (this.isThrough(view, pass)) this.finish();
  }

  windowReady(view: MessageView<T>): boolean {
    const pass = this.passFor(view);
    if (!pass) return false;
    const group = this.group(view, pass);
    if (this.emptyEnd(view, pass, group) !== undefined) return true;
    return group !== undefined && (group.whole || view.saturated);
  }

  query(view: MessageView<T>): Selection<T> | readonly BufferedMessage<T>[] {
    const pass = this.passFor(view);
    if (!pass) return [];
    const group = this.group(view, pass);
    const emptyEnd = this.emptyEnd(view, pass, group);
    if (emptyEnd !== undefined) return this.selection([], emptyEnd, false);
    if (group && (group.whole || view.saturated)) return this.selection(group.messages, group.end, !group.whole);
    return [];
  }

  override emitted({ end, late, more }: Selection<T>): void {
    if (!end) return;
    this.lastEnd = Math.max(this.lastEnd, end.getTime());
    this.begun = more && !late ? end.getTime() : undefined;
  }

  override nextCheck(_view: MessageView<T>): number | undefined {
    return this.pass || this.passed === undefined ? undefined : this.passed + this.interval + this.grace;
  }

  /** When to pass again, or undefined if it is time. */
  private nextPass(now: number): number | undefined {
    if (this.passed === undefined) return undefined;
    const until = this.passed + this.interval + this.grace;
    if (!this.rested) {
      this.rested = true;
      return until;
    }
    const closed = boundaryAtOrBefore(this.grid, now - this.grace);
    // A clock that was set back a little catches up on its own; waiting for hours is no use, then it continues from there.
    return closed === this.passed || closed === this.passed - this.interval ? until : undefined;
  }

  private passFor(view: MessageView<T>): Pass | undefined {
    return view.flushing ? (this.flush ?? this.flushOf(view)) : this.pass;
  }

  private flushOf({ now }: MessageView<T>): Pass {
    return { closed: Infinity, ahead: now + this.maxAhead, arrival: boundaryAfter(this.grid, now) };
  }

  /** All that the pass may emit was emitted. */
  private isThrough(view: MessageView<T>, pass: Pass): boolean {
    if (!view.complete) return false;
    const { first } = view;
    if (first && this.endOf(first, pass) <= pass.closed) return false;
    if (view.messages.some((message) => this.endOf(message, pass) <= pass.closed)) return false;
    return this.emptyEnd(view, pass, undefined) === undefined;
  }

  /** Nothing that ends later than this is ever emitted by a clock that is right; then it was not when it was emitted. */
  private boundLastEnd(now: number): void {
    if (this.lastEnd <= boundaryAfter(this.grid, now + this.maxAhead)) return;
    this.lastEnd = boundaryAtOrBefore(this.grid, now - this.grace);
    this.begun = undefined;
  }

  private endOf({ created }: BufferedMessage<T>, pass: Pass): number {
    const time = created.getTime();
    return time > pass.ahead ? pass.arrival : boundaryAfter(this.grid, time);
  }

  /** The messages of the earliest interval in the view that may be emitted. */
  private group(view: MessageView<T>, pass: Pass): Group<T> | undefined {
    const { first } = view;
    if (!first) return undefined;
    const end = this.endOf(first, pass);
    // A flush may begin in the middle of a pass and then finds its messages out of order.
    if (view.flushing || end > pass.closed) return this.anyGroup(view, pass);
    const messages = leading(view, (message) => this.endOf(message, pass) === end);
    return { messages, end, whole: view.complete || messages.length < view.length };
  }

  /** The same, without relying on the order of time: all has to be there, or as much as fits. */
  private anyGroup(view: MessageView<T>, pass: Pass): Group<T> | undefined {
    if (!view.complete && !view.saturated) return undefined;
    const ends = view.messages.map((message) => this.endOf(message, pass));
    const end = ends.reduce((least, each) => (each <= pass.closed ? Math.min(least, each) : least), Infinity);
    if (end === Infinity) return undefined;
    const messages = view.messages.filter((_, i) => ends[i] === end);
    return { messages, end, whole: view.complete || messages.length < view.length };
  }

  /** End of the next empty interval, if it is to be emitted before the group. */
  private emptyEnd(view: MessageView<T>, pass: Pass, group: Group<T> | undefined): number | undefined {
    if (!this.empty) return undefined;
    const end = boundaryAfter(this.grid, Math.max(this.lastEnd, this.started));
    if (group) return end < group.end ? end : undefined;
    return view.complete && !view.flushing && end <= pass.closed ? end : undefined;
  }

  /** The process did not run in the time that the clock has leapt over; what had passed before the leap is made up for. */
  private noteJump({ now, monotonic }: MessageView<T>): void {
    const { looked } = this;
    this.looked = { now, monotonic };
    const ran = looked ? monotonic - looked.monotonic : 0;
    if (looked && now - looked.now - ran > this.interval) this.started = Math.max(this.started, now - ran);
    if (now < this.started - this.interval) this.started = now;
  }

  private selection(messages: readonly BufferedMessage<T>[], end: number, more: boolean): Selection<T> {
    const late = end <= this.lastEnd && end !== this.begun;
    return { take: messages, start: new Date(end - this.interval), end: new Date(end), late, more };
  }

  private finish(): void {
    this.begun = undefined;
    if (this.flush) {
      // A pass that it interrupted is still to be finished, and finds what has come since.
      this.flush = undefined;
      return;
    }
    if (!this.pass) return;
    this.passed = this.pass.closed;
    this.pass = undefined;
    this.rested = false;
  }
}

/** The messages at the head of the view for which the test holds, without building the whole list. */
function leading<T>(
  view: MessageView<T>,
  test: (message: BufferedMessage<T>) => boolean,
): readonly BufferedMessage<T>[] {
  let tested = 0;
  for (let n = 16; ; n *= 4) {
    const head = view.take(n);
    while (tested < head.length && test(head[tested] as BufferedMessage<T>)) tested += 1;
    if (tested < head.length) return head.slice(0, tested);
    if (head.length === view.length) return head;
  }
}
