import { checkBoolean, checkDuration, checkInteger, invalidOption } from '../common/checks.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { greatestCommonDivisor } from './pane-grid.js';
import type { WatermarkOptions } from './watermark.js';
import type { CountShape, HoppingShape, MessageShape, SessionShape, WindowShape } from './window-shape.js';
import { ZoneOffsets } from './zone-offsets.js';

/** Where windows are used, as far as their options depend on it. */
export interface WindowUse {
  /** What becomes of late messages if nothing is said. */
  readonly late: 'window' | 'deadLetter';
  /** Whether two accumulators can become one; true where messages are collected. */
  readonly merges: boolean;
}

export interface CheckedWindow {
  /** What is wrong, each with `details.option`, `details.given` and `details.allowed`. */
  readonly problems: readonly MinibatchError[];
  /** Absent if there are problems. */
  readonly shape?: WindowShape;
}

/** A shorter one is a slip: a number is milliseconds. */
const SHORTEST = 10;
const BECAUSE = "a number is milliseconds; for seconds write '5s'";
/** Of this length, windows around any time have dates. */
const LONGEST = 1e13;
const MOST_PANES = 1_000;
const HOUR = 3_600_000;

const BY_TIME = ['time', 'wait', 'grace', 'late', 'idle', 'maxAhead'];

/** The options of each kind of window, in addition to `by` and `maxKeys`. */
const KINDS = {
  hopping: {
    name: 'windows by interval',
    has: ['interval', 'every', 'offset', 'timezone', 'empty', 'relaxed', 'lateness', ...BY_TIME],
  },
  message: { name: "windows with every: 'message'", has: ['interval', 'every', 'relaxed', ...BY_TIME] },
  session: { name: 'windows by gap', has: ['gap', 'interval', 'leading', 'lateness', ...BY_TIME] },
  count: { name: 'windows by size', has: ['size', 'every', 'interval', 'partial'] },
} as const satisfies Record<string, { readonly name: string; readonly has: readonly string[] }>;
type Kind = keyof typeof KINDS;

const COMMON = ['by', 'maxKeys'];
/** All options of windows by key and event time. */
export const WINDOW_OPTIONS: readonly string[] = [
  ...new Set([...COMMON, ...Object.values(KINDS).flatMap(({ has }): readonly string[] => has)]),
];

/**
 * Checks the options of windows by key and event time, and makes their shape of them; pure. Options of other things are left alone.
 *
 * @param where `Class.method`, or the name of a stage
 */
export function checkWindow(where: string, options: Readonly<Record<string, unknown>>, use: WindowUse): CheckedWindow {
  const check = new Check(where, options);
  const kind = kindOf(options);
  check.combinations(kind);
  check.common();
  const time = timeRules(check, kind, use);
  const shape = { time: watermarkOf(check, kind), windows: MAKE[kind](check, time) };
  if (isPutTogether(shape.windows) && !use.merges) {
    check.refuse(
      'aggregate',
      'one without merge',
      `one with merge: ${KINDS[kind].name} like these are put together from parts`,
    );
  }
  const { problems } = check;
  return problems.length > 0 ? { problems } : { problems, shape };
}

function isPutTogether(windows: WindowShape['windows']): boolean {
  if (windows.kind === 'hopping') return windows.every !== windows.interval;
  return windows.kind === 'session' || (windows.kind === 'count' && windows.every !== windows.size);
}

interface LateOptions {
  readonly lateness: number;
  readonly lateWindows: boolean;
}

const MAKE: Readonly<Record<Kind, (check: Check, late: LateOptions) => WindowShape['windows']>> = {
  hopping: hoppingShape,
  message: (check): MessageShape => ({ kind: 'message', interval: check.length('interval') }),
  session: sessionShape,
  count: countShape,
};

function kindOf(options: Readonly<Record<string, unknown>>): Kind {
  if (options['size'] !== undefined) return 'count';
  if (options['gap'] !== undefined) return 'session';
  return options['every'] === 'message' ? 'message' : 'hopping';
}

function hoppingShape(check: Check, late: LateOptions): HoppingShape {
  const interval = check.length('interval');
  const every = check.length('every', interval);
  const pane = greatestCommonDivisor(interval, every);
  if (check.areGood('interval', 'every')) {
    if (every > interval)
      check.refuse(
        'every',
        check.given('every'),
        `at most interval (${interval} ms), or messages would be in no window`,
      );
    else if (pane < SHORTEST)
      check.refuse(
        'every',
        check.given('every'),
        `a length that has a divisor of at least ${SHORTEST} ms in common with interval`,
      );
    else if (interval / pane > MOST_PANES) {
      const least = `so long that interval is at most ${MOST_PANES} times what both can be divided by (now ${interval / pane} times)`;
      check.refuse('every', check.given('every'), least);
    }
  }
  const timezone = zoneOf(check, interval, every);
  const empty = check.given('empty') ?? false;
  if (empty !== true && empty !== false && empty !== 'once') check.refuse('empty', empty, "true, false or 'once'");
  return {
    kind: 'hopping',
    interval,
    every,
    offset: check.duration('offset', 0, -LONGEST),
    ...(timezone !== undefined && { timezone }),
    empty: empty as boolean | 'once',
    ...late,
  };
}

function zoneOf(check: Check, interval: number, every: number): string | undefined {
  const given = check.given('timezone');
  if (given === undefined) return undefined;
  try {
    if (typeof given !== 'string') throw new TypeError('no name');
    void new ZoneOffsets(given);
  } catch {
    check.refuse('timezone', given, "the name of a time zone, as 'Europe/Berlin'");
    return undefined;
  }
  for (const [option, length] of Object.entries({ interval, every })) {
    if (check.given(option) !== undefined && check.areGood(option) && length % HOUR !== 0) {
      check.refuse(option, check.given(option), 'whole hours or days together with timezone');
    }
  }
  return given;
}

function sessionShape(check: Check, late: LateOptions): SessionShape {
  const gap = check.length('gap');
  const longest = check.given('interval') === undefined ? Infinity : check.length('interval');
  if (check.areGood('gap', 'interval') && longest < gap) {
    check.refuse(
      'interval',
      check.given('interval'),
      `at least gap (${gap} ms): it is the longest duration of a session`,
    );
  }
  return { kind: 'session', gap, longest, leading: check.flag('leading'), ...late };
}

function countShape(check: Check): CountShape {
  const size = check.integer('size');
  const every = check.given('every') === undefined ? size : check.integer('every');
  const partial = check.flag('partial');
  if (check.areGood('size', 'every')) {
    if (every > size) check.refuse('every', every, `at most size (${size}), or messages would be in no window`);
    else if (!partial && size % every !== 0) {
      check.refuse(
        'every',
        every,
        `a divisor of size (${size}), or messages before the first full window would be in none; or partial: true`,
      );
    } else if (size / greatestCommonDivisor(size, every) > MOST_PANES) {
      check.refuse('every', every, `so many that size is at most ${MOST_PANES} times what both can be divided by`);
    }
  }
  const longest = check.given('interval') === undefined ? Infinity : check.length('interval');
  return { kind: 'count', size, every, partial, longest };
}

function timeRules(check: Check, kind: Kind, use: WindowUse): LateOptions {
  const isByCount = kind === 'count' || kind === 'message';
  const late = check.given('late') ?? (isByCount ? 'drop' : use.late);
  const texts = kind === 'message' ? ['deadLetter', 'drop'] : ['window', 'deadLetter', 'drop'];
  const isStream = typeof late === 'object' && late !== null;
  if (!isStream && !texts.includes(late as string)) {
    check.refuse('late', late, `${texts.map((text) => `'${text}'`).join(', ')} or a stream`);
  }
  return { lateness: check.duration('lateness', 0, 0), lateWindows: late === 'window' };
}

function watermarkOf(check: Check, kind: Kind): WatermarkOptions {
  const isEventTime = check.given('time') !== undefined;
  // An option that would have no effect was given by mistake.
  if (!isEventTime && kind !== 'count') {
    for (const option of ['wait', 'idle']) {
      if (check.given(option) !== undefined)
        check.refuse(option, check.given(option), 'together with time; without it, grace says how long to wait');
    }
  }
  if (isEventTime && check.given('grace') !== undefined)
    check.refuse('grace', check.given('grace'), 'without time; with it, wait says how long to wait');
  const idle = check.given('idle') ?? 'advance';
  if (idle !== 'advance' && idle !== 'hold') check.refuse('idle', idle, "'advance' or 'hold'");
  const wait = check.duration('wait', 0, 0);
  // By count, nothing is waited for.
  const grace = check.duration('grace', kind === 'count' ? 0 : 1_000, 0);
  return {
    mode: isEventTime ? 'event' : 'processing',
    wait: isEventTime ? wait : grace,
    idle: idle === 'hold' ? 'hold' : 'advance',
    maxAhead: check.duration('maxAhead', 60_000, 0),
  };
}

/** Reads options one by one and notes what is wrong; a wrong one is read as something that is right, so that more can be found. */
class Check {
  readonly problems: MinibatchError[] = [];
  private readonly bad = new Set<string>();

  constructor(
    private readonly where: string,
    private readonly options: Readonly<Record<string, unknown>>,
  ) {}

  given(option: string): unknown {
    return this.options[option];
  }

  /** Whether they can be compared. */
  areGood(...options: readonly string[]): boolean {
    return !options.some((option) => this.bad.has(option));
  }

  refuse(option: string, given: unknown, allowed: string): void {
    this.bad.add(option);
    this.problems.push(invalidOption(this.where, option, given, allowed));
  }

  combinations(kind: Kind): void {
    const { name, has } = KINDS[kind];
    const allowed = [...has, ...COMMON];
    for (const option of WINDOW_OPTIONS) {
      const given = this.given(option);
      if (given === undefined || allowed.includes(option)) continue;
      this.bad.add(option);
      const text = `${this.where}: ${option} can't be combined with ${name}; allowed: ${allowed.join(', ')}`;
      const details = { where: this.where, option, given, allowed };
      this.problems.push(new MinibatchError(ErrorCode.InvalidOptions, text, { details }));
    }
  }

  common(): void {
    const relaxed = this.given('relaxed');
    if (relaxed !== undefined && relaxed !== false) {
      this.refuse('relaxed', relaxed, 'false, or nothing: windows by key and event time have fixed bounds');
    }
    for (const option of ['by', 'time']) {
      const given = this.given(option);
      const isGood = given === undefined || typeof given === 'function' || (typeof given === 'string' && given !== '');
      if (!isGood) this.refuse(option, given, 'the name of a field of the data, or a function');
    }
    if (this.given('maxKeys') !== undefined) this.integer('maxKeys');
  }

  /** Of windows and what they are made of. */
  length(option: string, otherwise?: number): number {
    if (this.given(option) === undefined && otherwise !== undefined) return otherwise;
    const length = this.try(option, SHORTEST, (given) =>
      checkDuration(this.where, option, given, { min: SHORTEST, because: BECAUSE }),
    );
    return this.notTooLong(option, length);
  }

  duration(option: string, otherwise: number, min: number): number {
    const least = min < 0 ? Number.NEGATIVE_INFINITY : min;
    const duration = this.try(option, otherwise, (given) =>
      checkDuration(this.where, option, given ?? otherwise, { min: least }),
    );
    return this.notTooLong(option, duration);
  }

  integer(option: string): number {
    return this.try(option, 1, (given) => checkInteger(this.where, option, given, 1));
  }

  flag(option: string): boolean {
    return this.try(option, false, (given) => checkBoolean(this.where, option, given ?? false));
  }

  private notTooLong(option: string, duration: number): number {
    if (Math.abs(duration) <= LONGEST) return duration;
    this.refuse(option, this.given(option), `at most ${LONGEST} ms`);
    return SHORTEST;
  }

  /** What stands elsewhere as a mistake is not a second one. */
  private try<R>(option: string, otherwise: R, read: (given: unknown) => R): R {
    if (this.bad.has(option)) return otherwise;
    try {
      return read(this.given(option));
    } catch (error) {
      if (!(error instanceof MinibatchError)) throw error;
      this.bad.add(option);
      this.problems.push(error);
      return otherwise;
    }
  }
}
