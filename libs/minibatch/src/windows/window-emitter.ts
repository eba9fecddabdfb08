import type { BufferedMessage, Message } from './message.js';
import type { Window } from './window.js';

/** What a strategy is told before its first use. Durations in milliseconds. */
export interface EmitterContext {
  readonly stream: string;
  readonly group: string;
  /** Milliseconds since the epoch at the start of this consumer. */
  readonly now: number;
  readonly size?: number;
  readonly interval?: number;
  /** Shift of fixed intervals against the epoch. */
  readonly offset: number;
  /** How long after its end a fixed interval stays open for messages on their way. */
  readonly grace: number;
  /** A message further in the future than this counts as created on arrival. */
  readonly maxAhead: number;
  /** Emit windows for intervals without messages. */
  readonly empty: boolean;
  /**
   * End of the last interval that was emitted, by this or an earlier process. For a strategy with `countsFromStart` it is never absent:
   * as long as nothing was emitted it is the time of the consumer's first start.
   */
  readonly lastEnd?: Date;
}

/** The messages a strategy may choose from: read from the stream, not yet claimed. A view for the time of one call. */
export interface MessageView<T = unknown> {
  /** All of them, in the order in which they were read. */
  readonly messages: readonly BufferedMessage<T>[];
  readonly length: number;
  /** The first of them, or undefined. */
  readonly first: BufferedMessage<T> | undefined;
  /** The first `n` of them, without building the whole list. */
  take(n: number): readonly BufferedMessage<T>[];
  /** Milliseconds since the epoch by the emitter's clock. */
  readonly now: number;
  /** Milliseconds that only go forward, whatever is done to the clock; the origin means nothing. */
  readonly monotonic: number;
  /** True if the last read found nothing beyond these. */
  readonly complete: boolean;
  /** When the last read that found nothing beyond began: what has come since may not be here. Absent before the first one. */
  readonly readAt?: { readonly now: number; readonly monotonic: number } | undefined;
  /** True if no more will be read until some of these are taken or dropped: a limit of messages or bytes is reached. */
  readonly saturated: boolean;
  /** True while the tail is to be emitted now, ready or not. */
  readonly flushing: boolean;
  /**
   * True if a window cut now would start at once. A window that is due but not full should wait for this: it grows meanwhile, where
   * many small ones would queue up. The strategy is asked again when a worker becomes free.
   */
  readonly workerFree: boolean;
}

/** What `query` chose. */
export interface Selection<T = unknown> {
  /** Messages of the window, in the order in which the handler is to see them. */
  readonly take: readonly Message<T>[];
  /** Messages that leave the buffer without a handler; counted. */
  readonly drop?: readonly Message<T>[];
  readonly start?: Date;
  readonly end?: Date;
  readonly late?: boolean;
  /** True if the same interval continues in the next selection, because the buffer could not hold all of it. */
  readonly more?: boolean;
}

/** Which part of the stream a strategy wants to have read. */
export type ReadPlan =
  /**
   * In append order. `room`: how many unclaimed messages to hold at the most. `maxAge`: if the last read that found nothing beyond began so
   * many milliseconds ago, the stream is read again, whether news of messages has come or not.
   */
  | { readonly order: 'append'; readonly room?: number; readonly maxAge?: number }
  /** In order of `created`, one range after the other. */
  | { readonly order: 'time'; readonly ranges: readonly { readonly from?: number; readonly to?: number }[] }
  /** Nothing before this time (milliseconds since the epoch). */
  | { readonly order: 'idle'; readonly until: number };

/**
 * Decides when a window is ready and which messages are in it. It does no I/O. One instance serves one consumer.
 *
 * Override `windowReady` and `query`; the rest has defaults. These two are pure: functions of the buffered messages, the clock
 * (`view.now`) and the strategy's fields, which they do not change, however often they are asked. A strategy with a state of its own
 * changes it in `observe` and `emitted`:
 *
 * ```text
 * observe ─▶ windowReady ──true──▶ query ─▶ emitted ─▶ observe ─▶ …
 *               └──false──▶ asked again when messages have come, or at `nextCheck`
 * ```
 *
 * @example Only even values, sorted, ten at a time. The others are dropped, or they would fill the buffer:
 * ```ts
 * class EvenTens extends WindowEmitter<{ value: number }> {
 *   private evens(view: MessageView<{ value: number }>) {
 *     return view.messages.filter((m) => m.data.value % 2 === 0).sort((a, b) => a.data.value - b.data.value);
 *   }
 *   windowReady(view: MessageView<{ value: number }>) {
 *     return this.evens(view).length >= 10;
 *   }
 *   query(view: MessageView<{ value: number }>) {
 *     return { take: this.evens(view).slice(0, 10), drop: view.messages.filter((m) => m.data.value % 2 !== 0) };
 *   }
 * }
 * ```
 */
export abstract class WindowEmitter<T = unknown> {
  /**
   * True if the first window is counted from the consumer's start. That time is stored then and comes back as `lastEnd`, or a process that is
   * restarted before its first window would begin to count anew each time.
   */
  readonly countsFromStart: boolean = false;

  /**
   * Called before any other method, when the consumer takes up its work: at the start, and again each time it has got
   * its lease back from another process. State from before means nothing then.
   */
  init(_context: EmitterContext): void | Promise<void> {}

  /**
   * Called with what `windowReady` and `query` are about to be asked about. The place to record what time it is, and what there is to
   * see.
   */
  observe(_view: MessageView<T>): void {}

  /** Is there a window to emit? Asked when messages have come and at `nextCheck`. */
  abstract windowReady(view: MessageView<T>): boolean;

  /**
   * The window: what to take and, if there is something to get rid of, what to drop. What is neither stays in the buffer
   * and is shown again. Called after `windowReady` said true, or while the tail is being flushed.
   */
  abstract query(view: MessageView<T>): readonly Message<T>[] | Selection<T>;

  /**
   * What `query` chose becomes a window, or several if it is too large for one. The place to record it. Not called if `query` chose
   * nothing.
   */
  emitted(_selection: Selection<T>): void {}

  /** When to ask again even if nothing comes, milliseconds since the epoch. @default never */
  nextCheck(_view: MessageView<T>): number | undefined {
    return undefined;
  }

  /**
   * Which part of the stream to read. `flushing`: the tail is to be emitted now, so it has to be read now. `workerFree`: as in
   * `MessageView`.
   * @default in append order, up to the consumer's `lookAhead`
   */
  reads(_now: number, _flushing?: boolean, _workerFree?: boolean): ReadPlan {
    return { order: 'append' };
  }

  /** A handler is about to be called with the window. */
  onProcess(_window: Window<T>): void {}
  /** The handler has resolved; the result goes to the sinks next. */
  onEmit(_window: Window<T>, _result: unknown): void {}
  /** The window was committed. */
  onCommit(_window: Window<T>): void {}
  /** The handler failed, or the window was lost to another process; it is redelivered there or here. */
  onUndo(_window: Window<T>, _error: unknown): void {}

  /** Called once, after the last window. */
  close(): void | Promise<void> {}
}
