import { invalidOption } from '../common/checks.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import type { AnyFieldOrFunction } from '../flow/field-or-function.js';
import { checkWindow } from '../flow/window-options.js';
import type { WindowShape } from '../flow/window-shape.js';

/** Windows by key and event time, with their options checked. */
export interface ResolvedKeyed {
  readonly shape: WindowShape;
  /** Absent: there are no keys. */
  readonly by?: AnyFieldOrFunction;
  /** Absent: the time at which a message was appended. */
  readonly time?: AnyFieldOrFunction;
  /** What becomes of messages that have no window. */
  readonly late: 'window' | 'deadLetter' | 'drop';
  /** For the boot log. */
  readonly text: string;
}

/** Whoever gives one of them wants windows by key and event time. */
const KEYED = ['by', 'every', 'gap', 'time', 'wait', 'idle', 'lateness', 'late', 'timezone', 'leading', 'partial'];
/** All window options of these; which go together is for `checkWindow`. */
export const KEYED_OPTIONS: readonly string[] = KEYED;
const LATE = ['window', 'deadLetter', 'drop'];

export function isKeyed(given: Readonly<Record<string, unknown>>): boolean {
  return given['emitter'] === undefined && KEYED.some((option) => given[option] !== undefined);
}

/**
 * @param given without options that are undefined
 * @throws MinibatchError `InvalidOptions`
 */
export function resolveKeyed(label: string, given: Readonly<Record<string, unknown>>): ResolvedKeyed {
  const { by, time, late } = given;
  requireKind(label, given);
  if (late !== undefined && !LATE.includes(late as string))
    throw invalidOption(label, 'late', late, LATE.map((text) => `'${text}'`).join(', '));
  const { problems, shape } = checkWindow(label, given, { late: 'window', merges: true });
  const [problem] = problems;
  if (problem) throw problem;
  refuseOthers(label, given);
  const windows = shape!.windows.kind;
  return {
    shape: shape!,
    ...(by !== undefined && { by: by as AnyFieldOrFunction }),
    ...(time !== undefined && { time: time as AnyFieldOrFunction }),
    late: (late as ResolvedKeyed['late'] | undefined) ?? (windows === 'message' ? 'drop' : 'window'),
    text: textOf(given),
  };
}

function requireKind(label: string, { size, interval, gap }: Readonly<Record<string, unknown>>): void {
  if (size !== undefined || interval !== undefined || gap !== undefined) return;
  throw new MinibatchError(
    ErrorCode.InvalidOptions,
    `${label}: size, interval and gap are missing; allowed: one of them, or interval with one of the others`,
    { details: { where: label, option: 'interval' } },
  );
}

function refuseOthers(label: string, given: Readonly<Record<string, unknown>>): void {
  const { by, keep, lookAhead, workers } = given;
  if (lookAhead !== undefined) throw invalidOption(label, 'lookAhead', lookAhead, 'only together with emitter');
  if (keep === true) throw invalidOption(label, 'keep', keep, 'false together with windows by key and event time');
  // Windows of one key are handled one after another, and without keys all are.
  if (by === undefined && typeof workers === 'number' && workers > 1)
    throw invalidOption(
      label,
      'workers',
      workers,
      '1, or more together with by: windows of one key are handled one after another',
    );
}

function textOf({ by, time, size, interval, every, gap }: Readonly<Record<string, unknown>>): string {
  const show = (option: unknown) => (typeof option === 'function' ? option.name || 'a function' : String(option));
  const shown = { by, size, interval, every, gap, time };
  const parts = Object.entries(shown).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name} ${show(value)}`],
  );
  return parts.join(', ');
}
