import { checkKeys, invalidOption } from '../common/checks.js';
import { type StreamRef, streamOf } from '../definitions/stream-ref.js';
import type { ResultFor, SinkRef } from '../sinks/sink-ref.js';
import type { Message } from '../windows/message.js';
import type { Stored } from '../windows/stored.js';
import { type Aggregate, type AnyAggregate, count, reduce, type Untyped } from '../flow/aggregates.js';
import type { AnyFieldOrFunction, FieldOrFunction } from '../flow/field-or-function.js';
import { aggregatesFor, type Aggregates, combinedOf, type ResultsOf } from './aggregate-parts.js';
import { type FlowNode, FlowOutlet, type StepFunction, type Work } from './flow-node.js';
import type { OutletOptions, StreamOutletOptions } from './pipeline.options.js';
import type { BoundsOf, EmptyOf, Result, TimeOptions, KeyedWindows, WindowStepOptions } from './window.options.js';

declare const outlet: unique symbol;

/** Where a flow ends: what `to` and `into` return, and a `@Pipeline` method. */
export interface Outlet {
  /** Only for the compiler. */
  readonly [outlet]: true;
}

/** What the compiler says if a stream, or a sink, takes other data than the flow has. */
interface OtherData<U> {
  readonly 'takes other data': U;
}

/**
 * Messages on their way from a stream, as a value: each step makes a new flow, and one flow may be used more than once. What comes before a
 * fork runs once for each message. Made by {@link from}; nothing runs before a `@Pipeline` method has returned outlets.
 *
 * Functions get the data of one message, and the message of the source stream with its id, key, headers and time. They may run more than
 * once with a message: what they give out counts once.
 *
 * @typeParam T data of the messages
 */
export class Flow<T> {
  declare private readonly data: T;

  /** @internal */
  constructor(private readonly node: FlowNode) {}

  /** Keeps the messages for which the test is true. */
  filter<S extends T>(test: (data: T, message: Message) => data is S): Flow<S>;
  filter(test: (data: T, message: Message) => boolean | Promise<boolean>): Flow<T>;
  filter(test: unknown): Flow<T> {
    return this.step('filter', test);
  }

  /** Makes something else of each message. */
  map<R>(fn: (data: T, message: Message) => R): Flow<Awaited<R>> {
    return this.step('map', fn);
  }

  /** Makes any number of messages of each: those of an array, or of anything else that can be iterated. */
  flatMap<R>(fn: (data: T, message: Message) => Iterable<R> | Promise<Iterable<R>>): Flow<R> {
    return this.step('flatMap', fn);
  }

  /** Calls a function with each message, which then goes on as it is. What the function returns is awaited and not used. */
  tap(fn: (data: T, message: Message) => unknown): Flow<T> {
    return this.step('tap', fn);
  }

  /**
   * Sends each message one of several ways: that of the first test which is true, or `rest` if none is. A way that is not used ends there.
   *
   * @example
   * ```ts
   * const { late, rest } = from(Flights).branch({ late: ({ delay }) => delay >= 15 });
   * ```
   */
  branch<B extends { readonly [way: string]: (data: T, message: Message) => boolean | Promise<boolean> }>(
    tests: B & { readonly rest?: never },
  ): { readonly [K in Exclude<keyof B, 'rest'> | 'rest']: Flow<T> } {
    requireObject('branch', 'tests', tests);
    const entries = Object.entries(tests as Record<string, unknown>);
    for (const [name, test] of entries) {
      if (name === 'rest') throw invalidOption('branch', 'rest', test, 'other names: rest is the way of all others');
      requireFunction(`branch '${name}'`, test);
    }
    if (entries.length === 0) throw invalidOption('branch', 'tests', tests, 'an object with at least one test');
    const fork: FlowNode = {
      work: { kind: 'branch', tests: new Map(entries as [string, StepFunction][]) },
      before: [this.node],
    };
    const ways = [...entries.map(([name]) => name), 'rest'].map((name) => {
      const way: FlowNode = { work: { kind: 'way', name }, before: [fork] };
      return [name, new Flow<T>(way)] as const;
    });
    return Object.fromEntries(ways) as { readonly [K in Exclude<keyof B, 'rest'> | 'rest']: Flow<T> };
  }

  /** The messages of both flows. Each source keeps the order of its own; nothing is said of the order between them. */
  merge<U>(other: Flow<U>): Flow<T | U> {
    if (!(other instanceof Flow)) throw invalidOption('merge', 'other', other, 'a flow: from(Stream)');
    return new Flow({ work: { kind: 'merge' }, before: [this.node, other.node] });
  }

  /**
   * Says when something happened, for the windows that follow: by the data, and not by when it was appended. A message without a time becomes a
   * dead letter.
   *
   * @param of a field with a `Date` or milliseconds since the epoch, or a function that returns one
   * @example
   * ```ts
   * from(Clicks).timed('at', { wait: '2s' }).by('user').window({ interval: '1 minute' }).count();
   * ```
   */
  timed(of: FieldOrFunction<T, Date | number>, options: TimeOptions = {}): Flow<T> {
    requireField('timed', 'of', of);
    checkKeys('timed', options, ['wait', 'idle', 'maxAhead', 'idleAfter']);
    return new Flow({
      work: { kind: 'timed', of: of as AnyFieldOrFunction, options: { ...options } },
      before: [this.node],
    });
  }

  /**
   * Gives each message a key. Windows are of one key each. A message without a key becomes a dead letter. 1 and `'1'` are the same key.
   *
   * @param of a field with a text or a number, or a function that returns one
   */
  by(of: FieldOrFunction<T, string | number | bigint | undefined>): KeyedFlow<T> {
    requireField('by', 'of', of);
    return new KeyedFlow(this.node, of as AnyFieldOrFunction);
  }

  /**
   * Appends the messages to a stream, in the commit that takes those of the source out: exactly once. Each has the time and the
   * trace headers (`traceparent`, `tracestate`, `baggage`) of the message it was made of.
   */
  to<U>(
    // A stream without a type takes everything; the compiler infers `undefined` for it.
    stream: StreamRef<U> & ([T] extends [U] ? unknown : [U] extends [undefined] ? unknown : OtherData<U>),
    options: StreamOutletOptions<T> = {},
  ): Outlet {
    requireObject('to', 'options', options);
    const { key, ...rest } = options;
    const target = {
      kind: 'stream' as const,
      ...streamOf('to', stream),
      ...(key === undefined ? {} : { key: key as AnyFieldOrFunction }),
    };
    return new FlowOutlet(this.node, target, rest) as object as Outlet;
  }

  /**
   * Puts the messages of each batch into a sink, as an array, before the batch is committed: at least once, after a crash again and with the
   * same `window.id`. While the sink fails, it is tried again, without end.
   *
   * @param sink a provider's class or token, resolved in the module of the pipeline, or an instance
   */
  into<S extends SinkRef>(
    sink: S & (T[] extends ResultFor<S> ? unknown : OtherData<ResultFor<S>>),
    options: OutletOptions = {},
  ): Outlet {
    return new FlowOutlet(this.node, { kind: 'sink', sink }, options) as object as Outlet;
  }

  private step<R>(kind: 'filter' | 'map' | 'flatMap' | 'tap', fn: unknown): Flow<R> {
    requireFunction(kind, fn);
    return new Flow({ work: { kind, fn } as Work, before: [this.node] });
  }
}

/** A flow whose messages have keys. @typeParam T data of the messages */
export class KeyedFlow<T> {
  declare private readonly data: T;

  /** @internal */
  constructor(
    private readonly node: FlowNode,
    private readonly key: AnyFieldOrFunction,
  ) {}

  /**
   * Puts the messages into windows, each key into its own: by `interval` (side by side, or hopping with `every`), by `gap` (sessions), or by `size`.
   * What is open is stored with each commit: after a crash, each window goes on as it was.
   *
   * @param options which windows, and what becomes of late messages
   * @param step name of the step, and how it works
   */
  window<const W extends KeyedWindows<T>>(
    options: W,
    step: WindowStepOptions = {},
  ): WindowedFlow<T, BoundsOf<W>, EmptyOf<W>> {
    return new WindowedFlow({
      work: { kind: 'windows', by: this.key, windows: { ...options }, options: { ...step } },
      before: [this.node],
    });
  }
}

/**
 * Messages in windows. One result is made of each.
 *
 * @typeParam T data of the messages
 * @typeParam B what a result says of its bounds
 * @typeParam E `undefined` if there may be windows without messages
 */
export class WindowedFlow<T, B = unknown, E = never> {
  declare private readonly data: T;

  /** @internal */
  constructor(private readonly node: FlowNode) {}

  /** How many messages a window has. */
  count(): Flow<Result<number> & B> {
    return this.with(count());
  }

  /**
   * One result of the messages, or several by name. Each message changes a stored accumulator of at most 1 MiB; the messages themselves are not
   * kept.
   *
   * @example
   * ```ts
   * from(Clicks).by('user').window({ gap: '30 minutes' }).aggregate((a) => ({ pages: a.count(), entry: a.first() }));
   * ```
   */
  aggregate<P extends Readonly<Record<string, AnyAggregate<T, unknown>>>>(
    parts: (a: Aggregates<T, E>) => P,
  ): Flow<Result<ResultsOf<P>> & B>;
  aggregate<A, R>(aggregate: Aggregate<T, A, R>): Flow<Result<R> & B>;
  aggregate<R>(aggregate: AnyAggregate<T, R>): Flow<Result<R> & B>;
  aggregate(given: unknown): unknown {
    return this.with(combinedOf(typeof given === 'function' ? given(aggregatesFor()) : given));
  }

  /** Makes one of all messages of a window, two by two. What the function is given may be changed. */
  reduce(fn: (a: T, b: T) => T): Flow<Result<T | E> & B> {
    requireFunction('reduce', fn);
    return this.with(reduce(fn));
  }

  /** The messages that come too late for all their windows. Without it, they are dead letters, or what the option `late` says. */
  get late(): Flow<T> {
    return new Flow({ work: { kind: 'late' }, before: [this.node] });
  }

  private with<R>(aggregate: AnyAggregate<never, unknown>): Flow<Result<R> & B> {
    return new Flow({ work: { kind: 'aggregate', aggregate: aggregate as never as Untyped }, before: [this.node] });
  }
}

/**
 * Begins a flow with the messages of a stream.
 *
 * @example
 * ```ts
 * const late = from(Flights).filter(({ delay }) => delay >= 15);
 * ```
 */
export function from<T>(stream: StreamRef<T>): Flow<Stored<T>> {
  return new Flow({ work: { kind: 'from', ...streamOf('from', stream) }, before: [] });
}

function requireField(where: string, option: string, of: unknown): void {
  if (typeof of === 'function' || (typeof of === 'string' && of !== '')) return;
  throw invalidOption(where, option, of, 'the name of a field of the data, or a function of data and message');
}

function requireFunction(where: string, fn: unknown): void {
  if (typeof fn !== 'function') throw invalidOption(where, 'fn', fn, 'a function of data and message');
}

function requireObject(where: string, option: string, given: unknown): void {
  if (typeof given !== 'object' || given === null) throw invalidOption(where, option, given, 'an object');
}
