import type { Duration } from '../definitions/shared.options.js';
import type { StreamRef } from '../definitions/stream-ref.js';
import type { FieldOrFunction } from '../flow/field-or-function.js';

/** How windows follow the times of messages. */
export interface TimeOptions {
  /** How far the messages of a stream may be out of order: windows stay open for so long behind the latest time. @default 0 */
  readonly wait?: Duration;
  /** Whether windows close while no message comes: by the clock, or not before the next message. @default 'advance' */
  readonly idle?: 'advance' | 'hold';
  /** A message further ahead of the clock counts as arrived now, and closes no window. @default '1 minute' */
  readonly maxAhead?: Duration;
  /**
   * Where messages come from several sources or partitions, or from windows before: nothing closes before all of them have come so far. One that
   * has brought nothing for so long is not waited for, and what it brings later may be late. @default '1 minute'
   */
  readonly idleAfter?: Duration;
}

/** Options of windows that have bounds in time. */
export interface TimedWindowOptions<T> extends TimeOptions {
  /** When a message happened: a field, or a function. Instead of `timed`. @default when it was appended */
  readonly time?: FieldOrFunction<T, Date | number>;
  /** Without `time`: how long a window waits for messages that are on their way. @default '1s' */
  readonly grace?: Duration;
  /** What becomes of messages that come too late for all their windows. @default 'deadLetter' */
  readonly late?: 'deadLetter' | 'drop' | StreamRef<T>;
}

/** Windows of fixed length. */
export interface IntervalWindowOptions<T> extends TimedWindowOptions<T> {
  /** How long a window is. Windows begin at multiples of it since 1970. */
  readonly interval: Duration;
  /** A window begins each so often; with `'message'`, one ends at each message. @default interval: side by side */
  readonly every?: Duration | 'message';
  /** Shifts the windows against 1970. @default 0 */
  readonly offset?: Duration;
  /** Name of a time zone: days, or hours, begin by its calendar. A day has 23 or 25 hours when the clocks are changed. @default UTC */
  readonly timezone?: string;
  /** Also windows without messages: of a key that has had some, for ever, or one after the last (`'once'`). @default false */
  readonly empty?: boolean | 'once';
  /** How long a window that is closed takes late messages: each gives its result again, with the next `revision`. @default 0 */
  readonly lateness?: Duration;
  readonly size?: never;
  readonly gap?: never;
}

/** Windows that end when nothing has come for a time. */
export interface SessionWindowOptions<T> extends TimedWindowOptions<T> {
  /** A message belongs to the session if it is at most so far from the one before it, or after it. */
  readonly gap: Duration;
  /** Longest duration of a session. @default none */
  readonly interval?: Duration;
  /** True: the first message of a session gives a result at once, and the others at its end. @default false */
  readonly leading?: boolean;
  /** How long after its end late messages make a session of their own. @default 0 */
  readonly lateness?: Duration;
  readonly size?: never;
  readonly every?: never;
}

/** Windows of so many messages. */
export interface CountWindowOptions {
  /** Messages of a window. */
  readonly size: number;
  /** A window after every so many messages. @default size: each message is in one */
  readonly every?: number;
  /** How long a message waits for its window to become full. @default for ever */
  readonly interval?: Duration;
  /** True: with `every`, also the windows before a key has had `size` messages. @default false */
  readonly partial?: boolean;
  readonly gap?: never;
  readonly time?: never;
}

/** Windows of keys: by time, by sessions or by count. */
export type KeyedWindows<T> = IntervalWindowOptions<T> | SessionWindowOptions<T> | CountWindowOptions;

/** What a step with windows is called, and how it works. */
export interface WindowStepOptions {
  /** Needed where a pipeline has several steps with windows: progress and open windows are stored under it. @default the pipeline's name */
  readonly name?: string;
}

/** What was made of a window. */
export interface Result<R> {
  readonly key: string;
  readonly value: R;
  /** How often a result of this window was given before: with `lateness`, late messages give it again. */
  readonly revision: number;
  /** It was changed by messages that came after its end. */
  readonly late: boolean;
  /** It was given before its end: by a flush, as the first message of a session, or with fewer messages than `size`. */
  readonly partial: boolean;
}

/** Bounds of a window by time. */
export interface Bounds {
  /** Inclusive; with `every: 'message'` exclusive. */
  readonly start: Date;
  /** Exclusive; with `every: 'message'` inclusive. */
  readonly end: Date;
}

/** What a result of these windows says of its bounds: those by `size` have none. */
export type BoundsOf<W> = W extends { readonly size: number } ? unknown : Bounds;

/** What aggregates of no messages are, if there may be such windows. */
export type EmptyOf<W> = W extends { readonly empty: infer E }
  ? [E] extends [false | undefined]
    ? never
    : undefined
  : never;
