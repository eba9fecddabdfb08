import type { StageChanges } from '../engine/engine.interface.js';
import type { Look } from '../flow/watermark.js';
import type { Feeder, Progress } from './feeder.js';
import type { BufferedMessage, Message } from '../windows/message.js';
import {
  type EmitterContext,
  type MessageView,
  type ReadPlan,
  type Selection,
  WindowEmitter,
} from '../windows/window-emitter.js';
import type { Window } from '../windows/window.js';
import { SizedBatches } from './sized-batches.js';

/** What was known when a batch was made. */
export interface Cut {
  /** Everything that was there at that time is in the batch, or in those before it. Absent: there may be more. */
  readonly read?: Look;
  /** The stream is flushed with it. */
  readonly flushes: boolean;
}

interface KnownCut extends Cut {
  readonly take: readonly Message[];
  /** Of a batch without messages: tells it from others. */
  readonly end?: number;
}

/**
 * Makes the batches of a stage, which come one after another: of messages, and without any when there is something to do while nothing comes.
 * Knows as of when everything has been read and handled; the clock says nothing of that: the stream may be paused, or be read seldom.
 */
export abstract class StageBatches extends WindowEmitter {
  private readonly counts = new SizedBatches();
  /** Batches that are not through. */
  private cuts: KnownCut[] = [];
  private seen: Pick<MessageView, 'length' | 'complete' | 'readAt'> = { length: 0, complete: false };
  private lastEmpty = -Infinity;
  private isIdle = false;
  private hasFlushed = false;
  /** The stream is to be flushed, or was while messages were on their way: then that is done after them. */
  private wantsFlush = false;

  /** @param feeder of the steps that the stage brings items to */
  constructor(readonly feeder?: Feeder) {
    super();
  }

  /** Everything that was there at that time has been handled. */
  protected abstract rest(look: Look): void;
  /** There is more to read. */
  protected abstract busy(): void;
  /** Something is to be done now, without messages. */
  protected abstract get isDue(): boolean;
  /** Something will be to be done if everything has been read at this time, and nothing has come; monotonic. Infinity: never. */
  protected abstract get dueAt(): number;
  /** Whether a flush is more than that messages do not wait. */
  protected abstract get flushes(): boolean;
  /** Of the stage's own windows. */
  protected get own(): Progress | undefined {
    return undefined;
  }

  override init(context: EmitterContext): void | Promise<void> {
    this.cuts = [];
    this.hasFlushed = false;
    this.wantsFlush = false;
    this.isIdle = false;
    this.feeder?.init();
    return this.counts.init(context);
  }

  override observe(view: MessageView): void {
    this.counts.observe(view);
    const { length, complete, readAt, flushing, workerFree } = view;
    this.seen = { length, complete, readAt };
    if (!flushing) this.hasFlushed = false;
    else if (!this.hasFlushed) this.wantsFlush = this.flushes;
    if (workerFree) this.forgetCuts();
    this.isIdle = length === 0 && complete && workerFree;
    if (!complete) {
      this.busy();
      this.feeder?.busy();
    } else if (this.isIdle && readAt) {
      this.rest(readAt);
      this.feeder?.rest(readAt, this.own);
    }
  }

  windowReady(view: MessageView): boolean {
    return this.counts.windowReady(view) || this.needsEmpty;
  }

  query(view: MessageView): readonly BufferedMessage[] | Selection {
    if (view.length > 0) return this.counts.query(view);
    // While the stream is flushed, it is asked without `windowReady`.
    if (!this.needsEmpty) return [];
    return { take: [], end: new Date(Math.max(view.now, this.lastEmpty + 1)) };
  }

  override emitted({ take, end }: Selection): void {
    const { length, complete, readAt } = this.seen;
    const isLast = complete && take.length === length;
    const isEmpty = take.length === 0;
    if (isEmpty && end) this.lastEmpty = end.getTime();
    const flushes = isEmpty && this.wantsFlush;
    if (flushes) {
      this.hasFlushed = true;
      this.wantsFlush = false;
    }
    this.cuts.push({ take, flushes, ...(isLast && readAt && { read: readAt }), ...(end && { end: end.getTime() }) });
    this.isIdle = false;
  }

  override nextCheck(view: MessageView): number | undefined {
    const check = this.counts.nextCheck(view);
    const wait = this.isIdle ? Math.ceil(this.firstDue - view.monotonic) : Infinity;
    return wait === Infinity ? check : Math.min(check ?? Infinity, view.now + Math.max(1, wait));
  }

  override reads(now: number, flushing?: boolean): ReadPlan {
    const plan = this.counts.reads(now, flushing);
    const { readAt } = this.seen;
    if (!this.isIdle || !readAt || plan.order !== 'append') return plan;
    const due = this.firstDue;
    if (!Number.isFinite(due)) return plan;
    return { ...plan, maxAge: Math.max(1, due - readAt.monotonic) };
  }

  /** What was known when the batch was made. Undefined if an earlier process has made it, or if it is one of several parts of one. */
  protected cutOf(window: Window): Cut | undefined {
    return window.part === undefined ? this.cuts[this.indexOf(window)] : undefined;
  }

  /** Batches that are not through are not there any more: see `Stage.givenBack`. */
  givenBack(most: number): void {
    this.cuts = [];
    this.counts.shrink(most);
  }

  /** The batch is through, and so are those before it. @param changes what it has come to */
  protected through(window: Window, changes: Pick<StageChanges, 'bytes' | 'limit'>): void {
    this.counts.through(window.messages.length, changes.bytes, changes.limit);
    const index = this.indexOf(window);
    if (index >= 0) this.cuts.splice(0, window.part === undefined ? index + 1 : index);
  }

  private indexOf({ messages, end }: Window): number {
    const [first] = messages;
    // Some of its messages may have turned out to be undecodable.
    if (first) return this.cuts.findIndex(({ take }) => take.some(({ id }) => id === first.id));
    return this.cuts.findIndex((cut) => cut.end === end?.getTime());
  }

  private get needsEmpty(): boolean {
    return this.isIdle && (this.wantsFlush || this.isDue || this.feeder?.isDue === true);
  }

  private get firstDue(): number {
    return Math.min(this.dueAt, this.feeder?.dueAt ?? Infinity);
  }

  /** A worker is free, so they are through, or were given up. */
  private forgetCuts(): void {
    for (const { read } of this.cuts) if (read) this.rest(read);
    this.cuts = [];
  }
}
