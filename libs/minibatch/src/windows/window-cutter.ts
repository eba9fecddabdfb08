import { batchesOf } from '../common/batches.js';
import { messageOf, MinibatchError } from '../errors/minibatch.error.js';
import { emitterFailed, type EmitterOwner } from './emitter-failure.js';
import type { MessageBuffer } from './message-buffer.js';
import type { BufferedMessage } from './message.js';
import { isReadPlan } from './read-plan.js';
import { checkSelection, type CheckedSelection } from './selection.js';
import type { ReadPlan, WindowEmitter } from './window-emitter.js';

/** Windows without messages of one `cut`: a strategy that makes them endlessly must not hold up everything else. */
const EMPTY_AT_ONCE = 1000;

/** What a window says of itself in addition to its messages. */
export interface CutBounds {
  readonly start?: Date;
  readonly end?: Date;
  /** 0, 1, 2, … if one selection had more messages than a window may hold, or was continued by the next. */
  readonly part?: number;
  readonly late?: boolean;
}

/** A window that was cut out of the buffer, not yet claimed. */
export interface CutWindow<M extends BufferedMessage = BufferedMessage> {
  readonly messages: readonly M[];
  readonly bounds: CutBounds;
  /** True: the strategy dropped these messages; they leave without a handler. */
  readonly dropped: boolean;
}

export interface CutLimits {
  /** Most messages of a window. */
  readonly maxSize: number;
  /** Most bytes of a window; a single message may be larger. */
  readonly maxBytes: number;
}

/** Parts of one interval that have been cut so far. */
interface Series {
  readonly key: string;
  readonly next: number;
}

/**
 * Lets a strategy choose, as often as it has something to choose, and makes windows of what it chose: checked, bounded,
 * taken out of the buffer. One cutter for one strategy, because parts are numbered from one selection to the next.
 */
export class WindowCutter {
  private series: Series | undefined;
  private lastEmpty: string | undefined;
  private fruitlessVersion: number | undefined;
  private failure: MinibatchError | undefined;
  private isStalled = false;
  private passed = 0;

  /** @param owner names the consumer in errors */
  constructor(
    private readonly emitter: WindowEmitter,
    private readonly limits: CutLimits,
    private readonly owner: EmitterOwner = {},
  ) {}

  /** True if no more fits into the buffer and the strategy was asked and took nothing of it: it never will. */
  get stalled(): boolean {
    return this.isStalled;
  }

  /**
   * Messages in the buffer that the strategy has seen and left: it took later ones, or it was asked for a window and
   * took none.
   */
  get passedOver(): number {
    return this.passed;
  }

  /**
   * Windows out of the buffer, in the order in which they are to be claimed. The strategy is asked until there are
   * `max` windows or it has no more; the parts of its last selection are all there, even beyond `max`, since what was
   * chosen can't go back.
   *
   * @throws MinibatchError `EmitterFailed` if the strategy threw or broke its contract; then nothing has left the
   * buffer. If it had made windows before, they are returned, and the next call throws
   */
  cut<M extends BufferedMessage>(buffer: MessageBuffer<M>, max: number): CutWindow<M>[] {
    const { failure } = this;
    this.failure = undefined;
    if (failure) throw failure;

    const windows: CutWindow<M>[] = [];
    let empty = 0;
    try {
      while (windows.length < max && empty < EMPTY_AT_ONCE) {
        const cut = this.next(buffer);
        if (cut.length === 0) break;
        windows.push(...cut);
        for (const { dropped } of cut) if (!dropped) buffer.freeWorkers -= 1;
        if (cut[0]?.messages.length === 0) empty += 1;
      }
    } catch (error) {
      if (windows.length === 0 || !(error instanceof MinibatchError)) throw error;
      this.failure = error;
    } finally {
      this.passed = buffer.passedOver;
    }
    return windows;
  }

  /** When the strategy wants to be asked again. @throws MinibatchError `EmitterFailed` */
  nextCheck(buffer: MessageBuffer): number | undefined {
    return this.call('nextCheck', buffer) as number | undefined;
  }

  /** What the strategy wants to see. @throws MinibatchError `EmitterFailed` if it threw, or if that is no plan */
  reads(now: number, flushing: boolean, workerFree: boolean): ReadPlan {
    let plan: ReadPlan;
    try {
      plan = this.emitter.reads(now, flushing, workerFree);
    } catch (error) {
      throw this.threw('reads', error);
    }
    if (isReadPlan(plan)) return plan;
    throw emitterFailed(
      this.emitter,
      this.owner,
      "returned no plan from reads(). Allowed: { order: 'append', room?, maxAge? }, { order: 'time', ranges: [{ from?, to? }, …] } and " +
        "{ order: 'idle', until }, with numbers; nothing is read until it returns one of these",
    );
  }

  private next<M extends BufferedMessage>(buffer: MessageBuffer<M>): readonly CutWindow<M>[] {
    this.isStalled = false;
    this.call('observe', buffer);
    const tail = buffer.flushing && buffer.complete;
    if (!tail && !this.isReady(buffer)) {
      this.tookNothing(buffer);
      return [];
    }
    // It was asked about the very same and had nothing: another answer would be an endless loop.
    if (this.fruitlessVersion === buffer.version) return [];
    const selection = checkSelection(this.emitter, this.owner, buffer, this.query(buffer));
    const cut = this.apply(buffer, selection);
    if (cut.length === 0) {
      buffer.passOverAll();
      this.fruitlessVersion = buffer.version;
      this.tookNothing(buffer);
    }
    return cut;
  }

  private tookNothing(buffer: MessageBuffer): void {
    this.isStalled = buffer.saturated && buffer.length > 0;
    if (this.isStalled) buffer.passOverAll();
  }

  private isReady(buffer: MessageBuffer): boolean {
    const ready = this.call('windowReady', buffer);
    if (ready instanceof Promise) {
      ready.catch(() => undefined);
      throw emitterFailed(
        this.emitter,
        this.owner,
        'returned a promise from windowReady(). Return true or false at once: make windowReady() synchronous',
      );
    }
    return Boolean(ready);
  }

  private query(buffer: MessageBuffer): unknown {
    const answer = this.call('query', buffer);
    // Refused later; its own failure would end the process as an unhandled rejection.
    if (answer instanceof Promise) answer.catch(() => undefined);
    return answer;
  }

  private call(method: 'observe' | 'windowReady' | 'query' | 'nextCheck', buffer: MessageBuffer): unknown {
    try {
      return this.emitter[method](buffer);
    } catch (error) {
      throw this.threw(method, error);
    }
  }

  private threw(method: string, cause: unknown): Error {
    const what =
      `threw in ${method}(): ${messageOf(cause)}. ` +
      'No window is made until it answers; fix it, or let query() drop the messages that it cannot handle';
    return emitterFailed(this.emitter, this.owner, what, { cause });
  }

  private apply<M extends BufferedMessage>(
    buffer: MessageBuffer<M>,
    selection: CheckedSelection<M>,
  ): readonly CutWindow<M>[] {
    const { take, drop } = selection;
    const isEmpty = take.length === 0 && drop.length === 0;
    // Without bounds nothing was chosen.
    if (isEmpty && selection.start === undefined && selection.end === undefined) {
      this.series = undefined;
      return [];
    }
    try {
      // Before anything leaves the buffer.
      this.emitter.emitted(selection);
    } catch (error) {
      throw this.threw('emitted', error);
    }
    if (isEmpty) return this.emptyWindow(selection);
    this.lastEmpty = undefined;
    buffer.remove(drop.length === 0 ? take : [...take, ...drop]);
    const taken = take.length === 0 ? [] : this.parts(selection);
    const dropped = split(drop, { maxSize: this.limits.maxSize, maxBytes: Infinity });
    return [...taken, ...dropped.map((messages) => ({ messages, bounds: {}, dropped: true }))];
  }

  private parts<M extends BufferedMessage>(selection: CheckedSelection<M>): readonly CutWindow<M>[] {
    const pieces = split(selection.take, this.limits);
    const key = keyOf(selection);
    const continued = this.series?.key === key ? this.series.next : undefined;
    const numbered = pieces.length > 1 || continued !== undefined || selection.more === true;
    const from = continued ?? 0;
    this.series = selection.more ? { key, next: from + pieces.length } : undefined;
    return pieces.map((messages, i) => ({
      messages,
      bounds: boundsOf(selection, numbered ? from + i : undefined),
      dropped: false,
    }));
  }

  private emptyWindow<M extends BufferedMessage>(selection: CheckedSelection<M>): readonly CutWindow<M>[] {
    const key = keyOf(selection);
    const ended = this.series?.key === key;
    this.series = undefined;
    // The end of a series is no window, and neither is the same emptiness again.
    if (ended || selection.more || key === this.lastEmpty) return [];
    this.lastEmpty = key;
    return [{ messages: [], bounds: boundsOf(selection, undefined), dropped: false }];
  }
}

function keyOf({ start, end, late }: CheckedSelection): string {
  return `${start?.getTime()}/${end?.getTime()}/${late === true}`;
}

const NO_BOUNDS: CutBounds = Object.freeze({});

function boundsOf({ start, end, late }: CheckedSelection, part: number | undefined): CutBounds {
  if (!start && !end && !late && part === undefined) return NO_BOUNDS;
  return {
    ...(start ? { start } : {}),
    ...(end ? { end } : {}),
    ...(part === undefined ? {} : { part }),
    ...(late ? { late } : {}),
  };
}

/** Pieces within the limits, in order; a piece has at least one message, however large that is. */
function split<M extends BufferedMessage>(messages: readonly M[], { maxSize, maxBytes }: CutLimits): (readonly M[])[] {
  const pieces = batchesOf(messages, { items: maxSize, bytes: maxBytes }, ({ bytes }) => bytes);
  return pieces.map(({ items }) => items);
}
