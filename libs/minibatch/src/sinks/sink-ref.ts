import type { Sink } from './sink.interface.js';

/** What Nest's `forwardRef` makes; written out, as programs without Nest use these types. */
interface ForwardReference {
  readonly forwardRef: unknown;
}

/** A sink's class or token, resolved in the consumer's own module, or an instance. */
export type SinkRef =
  (abstract new (...args: never[]) => Sink<never, never>) | Sink<never, never> | ForwardReference | string | symbol;

/** What a sink takes; anything where the compiler cannot know it. */
type TakenBy<S> = S extends abstract new (...args: never[]) => { put(result: infer R, ...rest: never[]): unknown }
  ? R
  : S extends { put(result: infer R, ...rest: never[]): unknown }
    ? R
    : unknown;

/** What every sink of a list takes. */
type TakenByAll<S extends readonly unknown[]> = S extends readonly [infer First, ...infer Rest]
  ? TakenBy<First> & TakenByAll<Rest>
  : S extends readonly []
    ? unknown
    : TakenByEach<S[number]>;

type TakenByEach<S> = (S extends unknown ? (taken: TakenBy<S>) => void : never) extends (taken: infer R) => void
  ? R
  : never;

/** What a `@Streaming` method may return, given its sinks. `undefined` is not forwarded. */
export type ResultFor<S> = [S] extends [never]
  ? unknown
  : MaybeAsync<S extends readonly unknown[] ? TakenByAll<S> : TakenBy<S>>;

type MaybeAsync<R> = R | void | undefined | Promise<R | void | undefined>;
