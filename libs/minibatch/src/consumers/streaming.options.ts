import type { OnAllFailed, OnRefused } from '../engine/engine.interface.js';
import type { ExecutorRef } from '../executors/executor-ref.js';
import type { SinkRef } from '../sinks/sink-ref.js';
import type { AttemptRetryOptions, Duration } from '../definitions/shared.options.js';
import type { Message } from '../windows/message.js';
import type { WindowEmitter } from '../windows/window-emitter.js';

/** A strategy class; one instance is made for each consumer, with its dependencies injected. */
export type EmitterClass = new (...args: never[]) => WindowEmitter;

/** What both kinds of rate limits have: one text, for editors. */
interface RateLimitPeriod {
  /** The period: milliseconds, or a string like `'1s'`. */
  readonly per: Duration;
}

interface WindowRateLimit extends RateLimitPeriod {
  /** Most windows in any period of `per`. */
  readonly windows: number;
  readonly messages?: never;
}

interface MessageRateLimit extends RateLimitPeriod {
  /** Most messages in any period of `per`. A window that has more runs as a whole. */
  readonly messages: number;
  readonly windows?: never;
}

/** `{ windows: 10, per: '1s' }`, or `{ messages: 500, per: '1 minute' }`. */
export type RateLimitOptions = WindowRateLimit | MessageRateLimit;

/** Options of every consumer. */
export interface ConsumerOptions<S extends SinkRef | readonly SinkRef[] = SinkRef | readonly SinkRef[]> {
  /**
   * Takes what the method returns: a provider's class or token (also by `forwardRef`), an instance, or a list of them. A
   * window is committed when all of them have taken its result. @default the result is dropped
   */
  readonly sink?: S;
  /**
   * The consumer's name on the stream. Each group sees every message; a second consumer of a stream needs one of its
   * own. Progress is stored under it, so it outlives a renamed class. @default 'default'
   */
  readonly group?: string;
  /** Takes over the progress and the dead letters of this group, which is then gone. @default none */
  readonly replaces?: string;
  /** Windows handled at the same time; 1 keeps them strictly one after another. @default 1 */
  readonly workers?: number;
  /**
   * How often the method may start, to protect what it calls: at most this many windows, or messages, in any period of `per`. Counted for the group,
   * across restarts and processes, at the price of one more write to the store for each run. @default no limit
   */
  readonly rateLimit?: RateLimitOptions;
  /**
   * Where the method runs: `'inline'`, on the event loop of the process that holds the consumer's lease; or by an executor: an instance such as
   * `threads({ … })`, or a provider's class or token (also by `forwardRef`). Sinks stay in that process. Only of `@Streaming`: a function that
   * is given to `consume` or `drain` runs inline. @default that of the module
   */
  readonly executor?: ExecutorRef;
  /** Attempts of a failed window, and the waits between them. @default those of the module */
  readonly retry?: AttemptRetryOptions;
  /**
   * What happens if every message of a window fails alone: they may be bad, or something that they all need may be down.
   * `'evidence'` sets the window aside and tries the next ones. If they succeed, messages that fail once more become dead letters; if
   * they fail too, nothing is given up until it works again. `'block'` always waits and retries, in order and indefinitely;
   * `'deadLetter'` always gives them all up. @default 'evidence'
   */
  readonly onAllFailed?: OnAllFailed;
  /**
   * What happens if a sink can never take a result and says so, by `ResultRefused`. `'block'` keeps the window and retries
   * indefinitely, until the sink takes it or an operator calls `stream.skip` or `stream.giveUp`. `'deadLetter'` takes the window apart: the method
   * runs with parts of it, and a message whose result is refused alone becomes a dead letter. Other sinks keep what they have taken.
   * @default 'block'
   */
  readonly onRefused?: OnRefused;
  /** Keep messages and windows after the commit, marked as processed. @default false */
  readonly keep?: boolean;
  /** Most messages of a window; larger windows are emitted in parts. @default 10,000 */
  readonly maxSize?: number;
  /** Most bytes of a window (at least one message). @default 8 MiB */
  readonly maxBytes?: number;
}

/** The options of every kind of window. The kinds narrow them and inherit their texts, so that editors find one text for each. */
interface AnyWindowOptions {
  /** Messages of a window, which is emitted as soon as they are there. @default none: `interval` or `emitter` says when to emit */
  readonly size?: number;
  /**
   * With `size`: the longest wait of a message; then a smaller window is emitted. Alone: a window every `interval`. Milliseconds, at
   * least 10, or a string like `'2s'`. @default none: with `size`, messages wait until the window is full
   */
  readonly interval?: Duration;
  /**
   * True: every `interval`, all messages since the last window. False: windows are intervals of fixed length, aligned to the epoch, by the
   * time at which messages were created. Needs `interval`. @default true
   */
  readonly relaxed?: boolean;
  /**
   * Shifts fixed intervals against the epoch: days that begin at 6:00 UTC are `interval: '1d', offset: '6h'`. Milliseconds, or a string.
   * @default 0
   */
  readonly offset?: Duration;
  /**
   * How long a fixed interval stays open after its end, for messages on their way: milliseconds, or a string like `'2s'`.
   * @default '1s'
   */
  readonly grace?: Duration;
  /**
   * With fixed intervals, a message created further in the future counts as created on arrival: milliseconds, or a string like `'2s'`.
   * @default '1 minute'
   */
  readonly maxAhead?: Duration;
  /**
   * Emit windows for intervals without messages, too; with `by`, for each key that has had messages. `'once'`: one after the last that has some.
   * @default false
   */
  readonly empty?: boolean | 'once';
  /**
   * Windows of each key for itself, one after another; `workers` handle several keys at the same time. A field of the data, or a function of data
   * and message that returns a text or a number. What has no key becomes a dead letter. @default no keys
   */
  readonly by?: KeyOption;
  /**
   * With `interval`: a window begins each so often, so that they overlap; `'message'`: one ends at each message, with what came in the `interval`
   * before it. With `size`: one after every so many messages, with the last `size`. Milliseconds, or a string like `'10s'`; or messages. @default side by side
   */
  readonly every?: Duration | 'message';
  /**
   * Sessions: a window ends when no message has come for so long. `interval` is its longest duration then. Milliseconds, at least 10, or a string
   * like `'30 minutes'`. @default none
   */
  readonly gap?: Duration;
  /** True: the first message of a session is a window at once, and the others are one at its end. @default false */
  readonly leading?: boolean;
  /** When a message happened: a field of the data, or a function, with a `Date` or milliseconds. @default when it was appended */
  readonly time?: TimeOption;
  /** With `time`: how far messages may be out of order. Windows stay open for so long behind the latest time: milliseconds, or a string like `'1 minute'`. @default 0 */
  readonly wait?: Duration;
  /** With `time`: whether windows close while no message comes, by the clock (`'advance'`), or not before the next message. @default 'advance' */
  readonly idle?: 'advance' | 'hold';
  /** For how long after a window's end late messages get late windows, whatever `late` says: milliseconds, or a string like `'1 hour'`. @default 0 */
  readonly lateness?: Duration;
  /**
   * What becomes of messages that come too late for all their windows: a window of their own with `late: true`, dead letters, or nothing. What is
   * redriven is always given to the method. @default 'window'; with `every: 'message'` 'drop'
   */
  readonly late?: 'window' | 'deadLetter' | 'drop';
  /** Name of a time zone, by whose calendar days and hours begin: a day has 23 or 25 hours when the clocks are changed. @default UTC */
  readonly timezone?: string;
  /** With `size` and `every`: windows also before a key has had `size` messages. @default false */
  readonly partial?: boolean;
  /** Class of your own strategy; the other options are passed to its `init`. @default none: `size` or `interval` says when to emit */
  readonly emitter?: EmitterClass;
  /** Most unclaimed messages that a custom strategy is shown. @default 10,000 */
  readonly lookAhead?: number;
}

/** A field of the data, or a function of data and message. */
// Its types are the application's: what a stream carries is not known here.
// oxlint-disable-next-line typescript/no-explicit-any
export type KeyOption = string | ((data: any, message: Message<any>) => string | number | bigint);
// oxlint-disable-next-line typescript/no-explicit-any
export type TimeOption = string | ((data: any, message: Message<any>) => Date | number);

/** Without the options that only windows by key and event time have. */
interface NotKeyed extends AnyWindowOptions {
  readonly by?: never;
  readonly every?: never;
  readonly gap?: never;
  readonly leading?: never;
  readonly time?: never;
  readonly wait?: never;
  readonly idle?: never;
  readonly lateness?: never;
  readonly late?: never;
  readonly timezone?: never;
  readonly partial?: never;
}

/** What windows by key and event time do not have. */
interface Keyed extends AnyWindowOptions {
  readonly relaxed?: never;
  readonly emitter?: never;
  readonly lookAhead?: never;
}

/** Windows of fixed length, aligned to the epoch. What makes them such is one of the options of the kinds. */
interface AnyHopping extends Keyed {
  readonly interval: Duration;
  readonly size?: never;
  readonly gap?: never;
  readonly leading?: never;
  readonly partial?: never;
}

/** Windows of fixed length for each key. */
interface HoppingByKey extends AnyHopping {
  readonly by: KeyOption;
}

/** Windows of fixed length that overlap. */
interface Overlapping extends AnyHopping {
  readonly every: Duration | 'message';
}

/** Windows of fixed length by the times of messages. */
interface HoppingByTime extends AnyHopping {
  readonly time: TimeOption;
}

/** Windows of days or hours of a time zone. */
interface ByCalendar extends AnyHopping {
  readonly timezone: string;
}

/** Windows of fixed length, by key or event time; with `every` they overlap. */
export type HoppingOptions = HoppingByKey | Overlapping | HoppingByTime | ByCalendar;

/** Sessions: windows that end when no message has come for `gap`. */
export interface SessionOptions extends Keyed {
  readonly gap: Duration;
  readonly size?: never;
  readonly every?: never;
  readonly offset?: never;
  readonly timezone?: never;
  readonly empty?: never;
  readonly partial?: never;
}

/** Windows of `size` messages of a key, or the last `size` after every so many. */
export interface KeyedCountOptions extends Keyed {
  readonly size: number;
  readonly every?: number;
  readonly gap?: never;
  readonly leading?: never;
  readonly offset?: never;
  readonly grace?: never;
  readonly maxAhead?: never;
  readonly empty?: never;
  readonly time?: never;
  readonly wait?: never;
  readonly idle?: never;
  readonly lateness?: never;
  readonly late?: never;
  readonly timezone?: never;
}

/** Windows of `size` messages, as soon as they are there. */
export interface CountOptions extends NotKeyed {
  readonly size: number;
  readonly relaxed?: never;
  readonly offset?: never;
  readonly grace?: never;
  readonly maxAhead?: never;
  readonly empty?: never;
  readonly emitter?: never;
  readonly lookAhead?: never;
}

/** Every `interval`, all messages since the last window. */
export interface RelaxedTimeOptions extends NotKeyed {
  readonly interval: Duration;
  readonly empty?: boolean;
  readonly relaxed?: true;
  readonly size?: never;
  readonly offset?: never;
  readonly grace?: never;
  readonly maxAhead?: never;
  readonly emitter?: never;
  readonly lookAhead?: never;
}

/** The messages created in [start, end), aligned to the epoch. */
export interface FixedTimeOptions extends NotKeyed {
  readonly interval: Duration;
  readonly empty?: boolean;
  readonly relaxed: false;
  readonly size?: never;
  readonly emitter?: never;
  readonly lookAhead?: never;
}

/** Windows by a custom strategy; the other options are passed to its `init`. */
export interface EmitterOptions extends NotKeyed {
  readonly emitter: EmitterClass;
  readonly empty?: boolean;
  readonly relaxed?: never;
}

/**
 * When a window is emitted; combinations that mean nothing do not compile. The compiler explains a wrong combination by the last kind
 * that is as near as any other, and few use a strategy of their own.
 */
export type WindowOptions =
  | EmitterOptions
  | KeyedCountOptions
  | SessionOptions
  | HoppingOptions
  | CountOptions
  | RelaxedTimeOptions
  | FixedTimeOptions;

/**
 * Options of `@Streaming`. Without `NoInfer`, the intersection would become a union with a member for each kind of window, and an editor
 * shows no text for an option that several members of a union have.
 */
export type StreamingOptions<S extends SinkRef | readonly SinkRef[] = SinkRef | readonly SinkRef[]> =
  ConsumerOptions<S> & NoInfer<WindowOptions>;

/** A function that is given at run time exists in this process alone. */
export interface RunsInline {
  readonly executor?: never;
}

/** Options of `stream.drain` in addition to those of a consumer. */
export interface DrainOptions {
  /** Ends the drain early: windows in flight finish first, as with `stop()`. @default none */
  readonly signal?: AbortSignal;
}
