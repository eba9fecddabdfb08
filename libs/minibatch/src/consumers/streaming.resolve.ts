import type { OnAllFailed, OnRefused, RateLimit } from '../engine/engine.interface.js';
import type { EmitterContext } from '../windows/window-emitter.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { checkBoolean, checkDuration, checkInteger, checkKeys, checkName, invalidOption } from '../common/checks.js';
import { type AttemptRetryOptions, resolveAttempts, type ResolvedAttempts } from '../definitions/shared.options.js';
import { CountWindow } from '../windows/count.window.js';
import { FixedTimeWindow } from '../windows/fixed-time.window.js';
import { RelaxedTimeWindow } from '../windows/relaxed-time.window.js';
import { WindowEmitter } from '../windows/window-emitter.js';
import { isKeyed, KEYED_OPTIONS, resolveKeyed, type ResolvedKeyed } from './keyed.resolve.js';
import type { EmitterClass } from './streaming.options.js';

/** What `resolveStreaming` makes of a consumer's options: nothing is missing, durations are milliseconds. */
export interface ResolvedStreaming {
  readonly emitter: EmitterClass;
  readonly emitterContext: Omit<EmitterContext, 'stream' | 'group' | 'now' | 'lastEnd'>;
  readonly timeOrder: boolean;
  /** Present: windows by key and event time, which no strategy of `emitter` makes. */
  readonly keyed?: ResolvedKeyed;
  /** As given; undefined: that of the module. */
  readonly executor?: unknown;
  /** As given: tokens and instances. */
  readonly sinks: readonly unknown[];
  readonly group: string;
  readonly replaces?: string;
  readonly workers: number;
  readonly keep: boolean;
  readonly retry: ResolvedAttempts;
  readonly rateLimit?: RateLimit;
  readonly onAllFailed: OnAllFailed;
  readonly onRefused: OnRefused;
  readonly maxSize: number;
  readonly maxBytes: number;
  readonly lookAhead: number;
}

/** Someone who writes 5 means seconds. */
const SHORTEST_INTERVAL = 10;

const ALLOWED = [
  'size',
  'interval',
  'relaxed',
  'offset',
  'grace',
  'maxAhead',
  'empty',
  ...KEYED_OPTIONS,
  'emitter',
  'lookAhead',
  'sink',
  'executor',
  'group',
  'replaces',
  'workers',
  'retry',
  'rateLimit',
  'onAllFailed',
  'onRefused',
  'keep',
  'maxSize',
  'maxBytes',
];

/** The options of each kind of window, in addition to those of every consumer. */
const KINDS = {
  count: { name: 'windows by size', has: ['size', 'interval'] },
  relaxed: { name: 'windows by interval', has: ['interval', 'relaxed', 'empty'] },
  fixed: {
    name: 'windows by interval with relaxed: false',
    has: ['interval', 'relaxed', 'offset', 'grace', 'maxAhead', 'empty'],
  },
  own: {
    name: 'windows by a custom emitter',
    has: ['emitter', 'lookAhead', 'size', 'interval', 'offset', 'grace', 'maxAhead', 'empty'],
  },
} as const;
type Kind = keyof typeof KINDS;

const WINDOW_OPTIONS = [
  ...KEYED_OPTIONS,
  ...new Set(Object.values(KINDS).flatMap(({ has }): readonly string[] => has)),
];

const BUILT_IN: Readonly<Record<Exclude<Kind, 'own'>, EmitterClass>> = {
  count: CountWindow,
  relaxed: RelaxedTimeWindow,
  fixed: FixedTimeWindow,
};

/**
 * Validates the options of one consumer and fills in the defaults; pure. What does not compile is refused here all the same,
 * since not everybody asks the compiler.
 *
 * @param label `Class.method`
 * @throws MinibatchError `InvalidOptions`
 */
export function resolveStreaming(label: string, options: unknown, retry: ResolvedAttempts): ResolvedStreaming {
  checkKeys(label, options, ALLOWED);
  const given = Object.fromEntries(
    Object.entries(options as object).filter(([, value]) => value !== undefined),
  ) as Record<string, unknown>;
  const keyed = isKeyed(given) ? resolveKeyed(label, given) : undefined;
  const kind = keyed ? 'count' : kindOf(label, given);
  if (!keyed) refuseOthers(label, given, kind);

  const size = given.size === undefined ? undefined : checkInteger(label, 'size', given.size, 1);
  const interval = given.interval === undefined ? undefined : checkInterval(label, given.interval);
  const emitter = kind === 'own' ? checkEmitter(label, given.emitter) : BUILT_IN[kind];
  const maxSize = checkInteger(label, 'maxSize', given.maxSize ?? 10_000, 1);
  const lookAhead = checkInteger(label, 'lookAhead', given.lookAhead ?? 10_000, 1);
  if (size !== undefined && size > maxSize) {
    throw invalidOption(label, 'size', size, `at most maxSize (${maxSize}); give a larger maxSize`);
  }
  const group = checkName(label, 'group', given.group ?? 'default');
  const replaces = given.replaces === undefined ? undefined : checkName(label, 'replaces', given.replaces);
  if (replaces === group) throw invalidOption(label, 'replaces', replaces, 'a group other than its own');

  return {
    emitter,
    emitterContext: {
      ...(size === undefined ? {} : { size }),
      ...(interval === undefined ? {} : { interval }),
      offset: checkDuration(label, 'offset', given.offset ?? 0, { min: Number.NEGATIVE_INFINITY }),
      grace: checkDuration(label, 'grace', given.grace ?? 1000, { min: 0 }),
      maxAhead: checkDuration(label, 'maxAhead', given.maxAhead ?? 60_000, { min: 0 }),
      empty: keyed ? false : checkBoolean(label, 'empty', given.empty ?? false),
    },
    ...(keyed && { keyed }),
    timeOrder: isOrDerives(emitter, FixedTimeWindow),
    sinks: sinksOf(given.sink),
    ...(given.executor === undefined ? {} : { executor: given.executor }),
    group,
    ...(replaces === undefined ? {} : { replaces }),
    workers: checkInteger(label, 'workers', given.workers ?? 1, 1),
    keep: checkBoolean(label, 'keep', given.keep ?? false),
    retry: resolveAttempts(label, given.retry as AttemptRetryOptions | undefined, retry),
    ...(given.rateLimit === undefined ? {} : { rateLimit: checkRateLimit(label, given.rateLimit) }),
    onAllFailed: checkOnAllFailed(label, given.onAllFailed ?? 'evidence'),
    onRefused: checkOnRefused(label, given.onRefused ?? 'block', given.sink !== undefined),
    maxSize,
    maxBytes: checkInteger(label, 'maxBytes', given.maxBytes ?? 8 * 1024 * 1024, 1),
    lookAhead: kind === 'own' ? lookAhead : Math.max(lookAhead, size ?? 0),
  };
}

function kindOf(label: string, given: Record<string, unknown>): Kind {
  if (given.emitter !== undefined) return 'own';
  if (given.size !== undefined) return 'count';
  if (given.interval !== undefined) {
    return checkBoolean(label, 'relaxed', given.relaxed ?? true) ? 'relaxed' : 'fixed';
  }
  const missing =
    given.relaxed === undefined ? 'size, interval and emitter are' : 'relaxed has no interval: interval is';
  throw new MinibatchError(
    ErrorCode.InvalidOptions,
    `${label}: ${missing} missing; allowed: size, interval, both of them, or an emitter`,
    { details: { where: label, option: given.relaxed === undefined ? 'size' : 'interval' } },
  );
}

/** An option that would have no effect was given by mistake. */
function refuseOthers(label: string, given: Record<string, unknown>, kind: Kind): void {
  const { name, has } = KINDS[kind];
  for (const option of WINDOW_OPTIONS) {
    if (given[option] === undefined || (has as readonly string[]).includes(option)) continue;
    throw new MinibatchError(
      ErrorCode.InvalidOptions,
      `${label}: ${option} can't be combined with ${name}; allowed: ${has.join(', ')}`,
      { details: { where: label, option, given: given[option], allowed: has } },
    );
  }
}

function checkOnAllFailed(label: string, given: unknown): OnAllFailed {
  if (given === 'evidence' || given === 'block' || given === 'deadLetter') return given;
  throw invalidOption(label, 'onAllFailed', given, "'evidence', 'block' or 'deadLetter'");
}

function checkOnRefused(label: string, given: unknown, hasSink: boolean): OnRefused {
  if (given !== 'block' && given !== 'deadLetter')
    throw invalidOption(label, 'onRefused', given, "'block' or 'deadLetter'");
  if (given === 'deadLetter' && !hasSink) {
    throw invalidOption(label, 'onRefused', given, 'together with sink: without one nothing can refuse a result');
  }
  return given;
}

function checkRateLimit(label: string, given: unknown): RateLimit {
  checkKeys(`${label}: rateLimit`, given, ['windows', 'messages', 'per']);
  const { windows, messages, per } = given as Record<string, unknown>;
  if ((windows === undefined) === (messages === undefined)) {
    throw invalidOption(label, 'rateLimit', given, 'either windows or messages, and per');
  }
  const unit = windows === undefined ? 'messages' : 'windows';
  return {
    unit,
    most: checkInteger(label, `rateLimit.${unit}`, windows ?? messages, 1),
    per: checkDuration(label, 'rateLimit.per', per, { min: 1 }),
  };
}

function checkInterval(label: string, given: unknown): number {
  return checkDuration(label, 'interval', given, {
    min: SHORTEST_INTERVAL,
    because: "a number is milliseconds; for seconds write '5s'",
  });
}

function checkEmitter(label: string, given: unknown): EmitterClass {
  if (typeof given === 'function' && isOrDerives(given, WindowEmitter) && given !== WindowEmitter) {
    return given as EmitterClass;
  }
  const allowed = 'a subclass of WindowEmitter (the class: an instance serves one consumer)';
  const hint = isOfAnotherCopy(given)
    ? ', and it is one of another copy of nestjs-minibatch: install one copy only, npm ls nestjs-minibatch shows them'
    : '';
  throw invalidOption(label, 'emitter', given, allowed + hint);
}

/** It has all methods of a strategy, those with defaults as well. */
function isOfAnotherCopy(given: unknown): boolean {
  if (typeof given !== 'function') return false;
  const prototype: unknown = given.prototype;
  if (typeof prototype !== 'object' || prototype === null) return false;
  const methods = Object.getOwnPropertyNames(WindowEmitter.prototype);
  return methods.every((method) => typeof Reflect.get(prototype, method) === 'function');
}

function isOrDerives(type: { readonly prototype: unknown }, base: abstract new (...args: never[]) => object): boolean {
  return type === base || type.prototype instanceof base;
}

function sinksOf(given: unknown): readonly unknown[] {
  if (given === undefined) return [];
  return Array.isArray(given) ? given : [given];
}
