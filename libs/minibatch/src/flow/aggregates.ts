import { setOwn } from '../common/set-own.js';
import { addTo, emptySum, type ExactSum, mergeSums, valueOf } from './exact-sum.js';
import { type AnyFieldOrFunction, type FieldOrFunction, readerOf } from './field-or-function.js';
import { copyOf } from './plain-copy.js';
import type { Message } from '../windows/message.js';

/** Where an item stands in the order of a window. */
export interface Place {
  readonly time: number;
  readonly id: string;
}

/**
 * How the messages of a window become one result.
 *
 * The accumulator is stored: plain data, at most 1 MiB.
 */
export interface Aggregate<T, A, R> {
  /** A new accumulator, of no messages. */
  readonly init: () => A;
  /** The accumulator with the item: a new one, or the same one changed. If it throws, the item counts as not added. */
  readonly add: (acc: A, item: T, message: Message<T>, place: Place) => A | void;
  /** Both together: a new one, or the first one changed. Sessions and hopping windows need it. */
  readonly merge?: (into: A, from: A) => A | void;
  readonly result: (acc: A) => R;
  /** Raise it when the accumulator's shape changes. @default 0 */
  readonly version?: number;
  /** Name of an accumulator of this package. */
  readonly builtIn?: string;
  /** What it is made of. */
  readonly parts?: Readonly<Record<string, Untyped>>;
}

/** An aggregate of which nobody needs to know what its accumulator is. */
export interface AnyAggregate<T, R> {
  readonly init: () => unknown;
  readonly add: (acc: never, item: T, message: Message<T>, place: Place) => unknown;
  readonly merge?: (into: never, from: never) => unknown;
  readonly result: (acc: never) => R;
  readonly version?: number;
  readonly builtIn?: string;
  readonly parts?: Readonly<Record<string, Untyped>>;
}
/** The same for who calls it with what it made itself. */
export type Untyped = Aggregate<unknown, unknown, unknown>;

type Key = string | number;

export function count(): Aggregate<unknown, number, number> {
  return {
    init: () => 0,
    add: (acc) => acc + 1,
    merge: (into, from) => into + from,
    result: (acc) => acc,
    builtIn: 'count',
  };
}

/** Exact but for the last rounding, whatever the order: see `ExactSum`. */
export function sum<T>(of: FieldOrFunction<T, number>): Aggregate<T, ExactSum, number> {
  const value = numberOf('sum', of);
  return {
    init: emptySum,
    add: (acc, data, message) => addTo(acc, value(data, message)),
    merge: mergeSums,
    result: valueOf,
    builtIn: 'sum',
  };
}

/** The mean; undefined of no messages. */
export function avg<T>(of: FieldOrFunction<T, number>): Aggregate<T, { n: number; sum: ExactSum }, number | undefined> {
  const value = numberOf('avg', of);
  return {
    init: () => ({ n: 0, sum: emptySum() }),
    add(acc, data, message) {
      addTo(acc.sum, value(data, message));
      acc.n += 1;
    },
    merge(into, from) {
      mergeSums(into.sum, from.sum);
      into.n += from.n;
    },
    result: (acc) => (acc.n === 0 ? undefined : valueOf(acc.sum) / acc.n),
    builtIn: 'avg',
  };
}

/** The least number; undefined of no messages, NaN if one is NaN. */
export function min<T>(of: FieldOrFunction<T, number>): Aggregate<T, number | null, number | undefined> {
  return extreme('min', of, Math.min);
}

/** The largest number; undefined of no messages, NaN if one is NaN. */
export function max<T>(of: FieldOrFunction<T, number>): Aggregate<T, number | null, number | undefined> {
  return extreme('max', of, Math.max);
}

/** The data with the earliest time, by id where times are the same; undefined of no messages. */
export function first<T>(): Aggregate<T, Placed<T>[], T | undefined> {
  return { ...collected<T>(1), result: ([earliest]) => earliest?.data };
}

/** The data with the latest time, by id where times are the same; undefined of no messages. */
export function last<T>(): Aggregate<T, Placed<T>[], T | undefined> {
  const keep = (acc: Placed<T>[], item: Placed<T>) => {
    if (!acc[0] || inOrder(acc[0], item) < 0) acc[0] = item;
  };
  return {
    init: () => [],
    add: (acc, data, _message, { time, id }) => keep(acc, { time, id, data }),
    merge: (into, from) => from.forEach((item) => keep(into, item)),
    result: ([latest]) => latest?.data,
    builtIn: 'last',
  };
}

/** The data in order of time, then id; of more than `most`, the earliest ones. */
export function collect<T>(most: number): Aggregate<T, Placed<T>[], readonly T[]> {
  return { ...collected<T>(most), result: (acc) => acc.map(({ data }) => data) };
}

/** How many different values there are, exactly; with more than `most`, that number. */
export function distinct<T>(of: FieldOrFunction<T, Key>, most = 10_000): Aggregate<T, Key[], number> {
  const key = keyOfItem('distinct', of);
  return {
    init: () => [],
    add(acc, data, message) {
      const value = key(data, message);
      const at = placeIn(acc, (each) => compareKeys(each, value));
      if (acc[at] !== value && acc.length < most) acc.splice(at, 0, value);
    },
    merge: (into, from) => union(into, from, compareKeys, (each) => each).slice(0, most),
    result: (acc) => acc.length,
    builtIn: 'distinct',
  };
}

/** The `k` most frequent values, exactly; those that are as frequent in order, numbers first. */
export function topK<T>(
  k: number,
  of: FieldOrFunction<T, Key>,
): Aggregate<T, Counted[], readonly { readonly item: Key; readonly n: number }[]> {
  const key = keyOfItem('topK', of);
  const compare = (a: Counted, b: Counted) => compareKeys(a.item, b.item);
  return {
    init: () => [],
    add(acc, data, message) {
      const item = key(data, message);
      const at = placeIn(acc, (each) => compareKeys(each.item, item));
      const found = acc[at];
      if (found?.item === item) found.n += 1;
      else acc.splice(at, 0, { item, n: 1 });
    },
    merge: (into, from) => union(into, from, compare, (a, b) => ({ item: a.item, n: a.n + b.n })),
    result: (acc) =>
      acc
        .toSorted((a, b) => b.n - a.n || compare(a, b))
        .slice(0, k)
        .map(({ item, n }) => ({ item, n })),
    builtIn: 'topK',
  };
}

/** The data of all messages, two by two. Undefined of no messages. */
export function reduce<T>(fn: (a: T, b: T) => T): Aggregate<T, T[], T | undefined> {
  return {
    init: () => [],
    // The function may change what it is given; the message is not its own.
    add: (acc, data) => [acc.length === 0 ? copyOf(data) : fn(acc[0] as T, copyOf(data))],
    merge: (into, from) => (into.length > 0 && from.length > 0 ? [fn(into[0] as T, from[0] as T)] : [...into, ...from]),
    result: ([value]) => value,
    builtIn: 'reduce',
  };
}

/** Several aggregates of the same messages: the result has theirs, by name. */
export function combined(parts: Readonly<Record<string, Untyped>>): Aggregate<unknown, unknown[], object> {
  const names = Object.keys(parts);
  const all = Object.values(parts);
  const isMerged = all.every(({ merge }) => merge !== undefined);
  return {
    init: () => all.map(({ init }) => init()),
    add(acc, item, message, place) {
      for (const [index, part] of all.entries())
        acc[index] = changed(acc[index], part.add(acc[index], item, message, place));
    },
    ...(isMerged && {
      merge(into: unknown[], from: unknown[]) {
        for (const [index, part] of all.entries())
          into[index] = changed(into[index], part.merge?.(into[index], from[index]));
      },
    }),
    result(acc) {
      const result: Record<string, unknown> = {};
      for (const [index, name] of names.entries()) setOwn(result, name, all[index]?.result(acc[index]));
      return result;
    },
    builtIn: 'several',
    parts,
  };
}

/** Whether all of it is of this package, which changes nothing that it is given. */
export function isBuiltIn({ builtIn, parts = {} }: Untyped): boolean {
  return builtIn !== undefined && Object.values(parts).every(isBuiltIn);
}

/** Whether accumulators are what a function of the application returns. */
export function usesFunctions({ builtIn, parts = {} }: Untyped): boolean {
  return builtIn === 'reduce' || Object.values(parts).some(usesFunctions);
}

/** What its accumulators are: those of another text can't be read as its own. */
export function describeAggregate({ builtIn: name = 'own', parts, version = 0 }: Untyped): string {
  const inside = parts ? Object.entries(parts).map(([key, part]) => `${key}: ${describeAggregate(part)}`) : [];
  return `${name}${version > 0 ? ` version ${version}` : ''}${parts ? ` { ${inside.join(', ')} }` : ''}`;
}

/** What `add` or `merge` made of an accumulator. */
export function changed(before: unknown, answer: unknown): unknown {
  return answer === undefined ? before : answer;
}

interface Placed<T> extends Place {
  readonly data: T;
}

interface Counted {
  readonly item: Key;
  n: number;
}

function extreme<T>(
  name: string,
  of: FieldOrFunction<T, number>,
  choose: (a: number, b: number) => number,
): Aggregate<T, number | null, number | undefined> {
  const value = numberOf(name, of);
  const both = (a: number | null, b: number | null) => (a === null ? b : b === null ? a : choose(a, b));
  return {
    init: () => null,
    add: (acc, data, message) => both(acc, value(data, message)),
    merge: both,
    result: (acc) => acc ?? undefined,
    builtIn: name,
  };
}

function collected<T>(most: number): Omit<Aggregate<T, Placed<T>[], never>, 'result'> {
  return {
    init: () => [],
    add(acc, data, _message, { time, id }) {
      const item = { time, id, data };
      const at = placeIn(acc, (each) => inOrder(each, item));
      if (at >= most) return;
      acc.splice(at, 0, item);
      acc.length = Math.min(acc.length, most);
    },
    merge: (into, from) => [...into, ...from].sort(inOrder).slice(0, most),
    builtIn: 'placed',
  };
}

function inOrder(a: Place, b: Place): number {
  return a.time - b.time || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
}

/** Numbers before texts. */
function compareKeys(a: Key, b: Key): number {
  if (typeof a !== typeof b) return typeof a === 'number' ? -1 : 1;
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Where in a sorted list something is, or would be. */
function placeIn<E>(sorted: readonly E[], compare: (element: E) => number): number {
  let from = 0;
  let to = sorted.length;
  while (from < to) {
    const middle = (from + to) >>> 1;
    if (compare(sorted[middle] as E) < 0) from = middle + 1;
    else to = middle;
  }
  return from;
}

/** Of two sorted lists without repetitions. */
function union<E>(a: readonly E[], b: readonly E[], compare: (a: E, b: E) => number, both: (a: E, b: E) => E): E[] {
  const all: E[] = [];
  let [i, j] = [0, 0];
  while (i < a.length && j < b.length) {
    const [x, y] = [a[i] as E, b[j] as E];
    const order = compare(x, y);
    all.push(order < 0 ? x : order > 0 ? y : both(x, y));
    if (order <= 0) i += 1;
    if (order >= 0) j += 1;
  }
  return [...all, ...a.slice(i), ...b.slice(j)];
}

function numberOf<T>(name: string, of: FieldOrFunction<T, number>): (data: T, message: Message<T>) => number {
  const read = readerOf(of as AnyFieldOrFunction);
  return (data, message) => {
    const value = read(data, message);
    if (typeof value === 'number') return value;
    throw new TypeError(`${called(name, of)} got ${described(value)} where it needs a number`);
  };
}

function keyOfItem<T>(name: string, of: FieldOrFunction<T, Key>): (data: T, message: Message<T>) => Key {
  const read = readerOf(of as AnyFieldOrFunction);
  return (data, message) => {
    const value = read(data, message);
    // Both zeros are one number.
    if (typeof value === 'number' && !Number.isNaN(value)) return value === 0 ? 0 : value;
    if (typeof value === 'string' && value.isWellFormed()) return value;
    throw new TypeError(`${called(name, of)} got ${described(value)} where it needs a text or a number`);
  };
}

function called(name: string, of: unknown): string {
  return typeof of === 'string' ? `${name}('${of}')` : `${name}()`;
}

function described(value: unknown): string {
  return value === null
    ? 'null'
    : typeof value === 'object'
      ? 'an object'
      : typeof value === 'number'
        ? 'NaN'
        : `a value of type ${typeof value}`;
}
