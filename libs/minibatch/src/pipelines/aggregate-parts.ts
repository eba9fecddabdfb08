import { checkInteger, invalidOption } from '../common/checks.js';
import {
  type AnyAggregate,
  avg,
  collect,
  combined,
  count,
  distinct,
  first,
  last,
  max,
  min,
  sum,
  topK,
  type Untyped,
} from '../flow/aggregates.js';
import type { FieldOrFunction } from '../flow/field-or-function.js';

type Key = string | number;

/**
 * Aggregates of messages. A message that an aggregate can't use, because a number is a text for example, becomes a dead letter.
 *
 * @typeParam T data of the messages
 * @typeParam E `undefined` if there may be windows without messages
 */
export interface Aggregates<T, E = never> {
  /** How many. */
  count(): AnyAggregate<T, number>;
  /** Exact but for the last rounding, whatever the order. */
  sum(of: FieldOrFunction<T, number>): AnyAggregate<T, number>;
  /** The mean. */
  avg(of: FieldOrFunction<T, number>): AnyAggregate<T, number | E>;
  min(of: FieldOrFunction<T, number>): AnyAggregate<T, number | E>;
  max(of: FieldOrFunction<T, number>): AnyAggregate<T, number | E>;
  /** The data with the earliest time. */
  first(): AnyAggregate<T, T | E>;
  /** The data with the latest time. */
  last(): AnyAggregate<T, T | E>;
  /** The data in order of time; of more than `most`, the earliest. */
  collect(most: number): AnyAggregate<T, readonly T[]>;
  /** How many different values there are, exactly; with more than `most`, that number. @param most @default 10,000 */
  distinct(of: FieldOrFunction<T, Key>, most?: number): AnyAggregate<T, number>;
  /** The `k` most frequent values, exactly. */
  topK(k: number, of: FieldOrFunction<T, Key>): AnyAggregate<T, readonly { readonly item: Key; readonly n: number }[]>;
}

/** Results of several aggregates, by name. */
export type ResultsOf<P> = { readonly [K in keyof P]: P[K] extends AnyAggregate<never, infer R> ? R : never };

const AGGREGATES = {
  count,
  sum,
  avg,
  min,
  max,
  first,
  last,
  collect: (most: number) => collect(checkInteger('collect', 'most', most, 1)),
  distinct: (of: never, most = 10_000) => distinct(of, checkInteger('distinct', 'most', most, 1)),
  topK: (k: number, of: never) => topK(checkInteger('topK', 'k', k, 1), of),
};

export function aggregatesFor<T, E>(): Aggregates<T, E> {
  return AGGREGATES as never;
}

/** @param given an aggregate, or several by name @throws MinibatchError `InvalidOptions` */
export function combinedOf(given: unknown): AnyAggregate<never, unknown> {
  if (isAggregate(given)) return given;
  const parts = typeof given === 'object' && given !== null && !Array.isArray(given) ? Object.entries(given) : [];
  const bad = parts.find(([, part]) => !isAggregate(part));
  if (bad) throw invalidOption('aggregate', bad[0], bad[1], ALLOWED);
  if (parts.length === 0) throw invalidOption('aggregate', 'what it is given', given, ALLOWED);
  return combined(Object.fromEntries(parts) as Readonly<Record<string, Untyped>>);
}

const ALLOWED = '(a) => ({ name: a.count(), … }), or an object with the functions init, add and result';

function isAggregate(given: unknown): given is AnyAggregate<never, unknown> {
  if (typeof given !== 'object' || given === null) return false;
  const { init, add, merge, result } = given as Record<string, unknown>;
  const isFunction = (fn: unknown) => typeof fn === 'function';
  return isFunction(init) && isFunction(add) && isFunction(result) && (merge === undefined || isFunction(merge));
}
