import { checkDuration, checkInteger, checkKeys, invalidOption } from '../common/checks.js';
import { MOST_PARTITIONS } from '../storage/partitions.js';
import type { Duration } from './shared.options.js';

/** Settings of a stream. The same in every process: give them in one place, by `defineStream`. */
export interface StreamOptions {
  /**
   * How long what is in the stream is wanted. Messages that no consumer has claimed by then leave unhandled, and are counted; each
   * group sees to its own. Messages that were put back by `redrive` stay. Milliseconds, or a string like `'7 days'`;
   * or a `MaxAge`, with one for each kind of data. @default no limit
   */
  readonly maxAge?: Duration | MaxAge;
  /**
   * Most messages in the buffer: as many as at least one group has not committed. The count is up to a second old, so there may be
   * some more. @default no limit
   */
  readonly maxBuffered?: number;
  /**
   * What becomes of an append while the stream is full: `'reject'` fails it with the code `StreamFull`, `'wait'` lets it wait for
   * room. Sources always wait. @default 'reject'
   */
  readonly overflow?: 'reject' | 'wait';
  /**
   * Into how many parts the stream is divided, each of which is worked on independently of the others, in this process or another. Messages
   * with the same `key` are in the same partition, and stay in order. The number holds for a new stream; later, `stream.grow()` changes it.
   * From 1 to 1,024. @default 1
   */
  readonly partitions?: number;
}

/** Ages of their own for each of what lies in a stream. */
export interface MaxAge {
  /** Messages that no consumer has claimed, since they were created. Milliseconds, at least 1,000, or a string. @default no limit */
  readonly buffered?: Duration;
  /**
   * Messages and windows that a consumer keeps (`keep: true`), since they were committed. Milliseconds, at least 1,000, or a string.
   * @default no limit
   */
  readonly kept?: Duration;
  /** Dead letters, since they died. Milliseconds, at least 1,000, or a string. @default no limit */
  readonly deadLetters?: Duration;
}

/** The options, checked; durations are milliseconds. */
export interface StreamSettings {
  readonly maxAge: { readonly buffered?: number; readonly kept?: number; readonly deadLetters?: number };
  readonly maxBuffered?: number;
  readonly overflow: 'reject' | 'wait';
  readonly partitions?: number;
}

/** @throws MinibatchError `InvalidOptions` */
export function resolveStreamOptions(where: string, options: StreamOptions): StreamSettings {
  checkKeys(where, options, ['maxAge', 'maxBuffered', 'overflow', 'partitions']);
  const { maxAge, maxBuffered, overflow = 'reject', partitions } = options;
  if (overflow !== 'reject' && overflow !== 'wait')
    throw invalidOption(where, 'overflow', overflow, "'reject' or 'wait'");
  if (options.overflow !== undefined && maxBuffered === undefined) {
    throw invalidOption(where, 'overflow', overflow, 'together with maxBuffered: without a limit nothing overflows');
  }
  return {
    maxAge: resolveMaxAge(where, maxAge),
    ...(maxBuffered === undefined ? {} : { maxBuffered: checkInteger(where, 'maxBuffered', maxBuffered, 1) }),
    overflow,
    ...(partitions === undefined ? {} : { partitions: checkPartitions(where, partitions) }),
  };
}

/** @throws MinibatchError `InvalidOptions` */
export function checkPartitions(where: string, partitions: unknown): number {
  if (
    typeof partitions === 'number' &&
    Number.isSafeInteger(partitions) &&
    partitions >= 1 &&
    partitions <= MOST_PARTITIONS
  )
    return partitions;
  throw invalidOption(where, 'partitions', partitions, `a whole number from 1 to ${MOST_PARTITIONS}`);
}

const AGES = ['buffered', 'kept', 'deadLetters'] as const;

function resolveMaxAge(where: string, given: Duration | MaxAge | undefined): StreamSettings['maxAge'] {
  if (given === undefined) return {};
  const age = (option: string, value: unknown) =>
    checkDuration(where, option, value, { min: 1000, because: "a number is milliseconds; for days write '7 days'" });
  if (typeof given !== 'object' || given === null) {
    const all = age('maxAge', given);
    return { buffered: all, kept: all, deadLetters: all };
  }
  checkKeys(`${where}: maxAge`, given, AGES);
  return Object.fromEntries(
    AGES.filter((name) => given[name] !== undefined).map((name) => [name, age(`maxAge.${name}`, given[name])]),
  );
}
