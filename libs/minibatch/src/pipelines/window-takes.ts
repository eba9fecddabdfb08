import { show } from '../common/checks.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { type AnyFieldOrFunction, readerOf } from '../flow/field-or-function.js';
import { sideOf } from '../flow/side-note.js';
import { keyOf } from '../flow/slot.js';
import { timeOf } from '../flow/watermark.js';
import { toStorable } from '../storage/storable.js';
import type { MessageRun, Take } from './message-run.js';
import { itemFrom, itemMessage, noteFrom, noteMessage, resultFrom } from './window-messages.js';
import type { WindowStep } from './window.plan.js';

/** What a stage is to steps with windows that it brings items to. */
export interface FedFrom {
  readonly input: string;
  /** Whether the times of its items say how far it has come. */
  readonly isTimed: boolean;
}

/**
 * Into the windows of this stage, or of another one by way of a stream.
 *
 * @param from absent: they are those of this stage
 */
export function entryTake(step: WindowStep, from: FedFrom | undefined, maxBytes: number): Take {
  const keyBy = readerOf(step.by);
  const timeBy = step.time === undefined ? undefined : readerOf(step.time);
  // By count, time is how long a message has waited.
  const isByCount = step.shape.windows.kind === 'count';
  return (data, run) => {
    const { message } = run;
    const key = requireKey(step, keyBy(data, message));
    const carried = isByCount ? undefined : run.time;
    const given = timeBy ? requireTime(`window of '${step.name}': time`, timeBy(data, message)) : carried;
    const time = given ?? run.source.created;
    if (from) {
      const note = step.sides && {
        side: sideOf(from.input, run.partition),
        ...(from.isTimed && { mark: time - step.shape.time.wait }),
      };
      const message = itemMessage(step.streams.items, { key, time, data }, labelsOf(run), maxBytes, note);
      run.outputs.push({ kind: 'message', message, fed: { step: step.name, time } });
      return;
    }
    // Other functions may change it before it is in its windows, and it has to be what it would be if it had been stored.
    run.outputs.push({ kind: 'item', key, time, data: toStorable(data, maxBytes).value });
  };
}

/** What another stage has brought to the stream of the step. */
export const storedEntryTake: Take = (data, run) => {
  const noted = noteFrom(data);
  if (noted) run.outputs.push({ kind: 'note', note: noted.note });
  else run.outputs.push({ kind: 'item', ...itemFrom(data, run.message) });
};

/** All that is known of a message goes on with it: it may be late, and then it is handled as what it was. */
function labelsOf({ source: { allHeaders: headers, ...source } }: MessageRun) {
  return { ...source, headers };
}

export function timedTake(of: AnyFieldOrFunction, next: Take): Take {
  const read = readerOf(of);
  return (data, run) => at(requireTime('timed', read(data, run.message)), data, run, next);
}

/** Results that another stage has brought to a stream, and what it says to steps behind them. */
export function resultTake({ aggregate, latestIn }: WindowStep, steps: readonly WindowStep[], next: Take): Take {
  return (data, run) => {
    const noted = noteFrom(data);
    if (noted) {
      const { step: name, note } = noted;
      const step = steps.find((each) => each.name === name);
      const { created } = run.source;
      if (step) {
        const message = noteMessage(step.streams.items, name, note, created, Infinity);
        run.outputs.push({ kind: 'message', message });
      }
      return;
    }
    const result = resultFrom(data, aggregate);
    const end = Reflect.get(result, 'end') as Date | undefined;
    const time = end ? latestIn(end.getTime()) : run.message.created.getTime();
    return at(time, result, run, next);
  };
}

/** Late messages that another stage has brought to a stream. What follows sees them as they were. */
export function lateTake(next: Take): Take {
  return (stored, run) => {
    const { time, data, origin } = itemFrom(stored, run.message);
    if (origin) run.show({ ...origin, data });
    return at(time, data, run, next);
  };
}

/** What follows has this time, and what comes after that has the one from before. */
function at(time: number, data: unknown, run: MessageRun, next: Take): void | Promise<void> {
  const before = run.time;
  const restore = () => {
    run.time = before;
  };
  run.time = time;
  const going = next(data, run);
  if (going) return going.then(restore);
  restore();
}

function requireKey({ name }: WindowStep, given: unknown): string {
  const key = keyOf(given);
  if (key !== undefined) return key;
  throw new MinibatchError(
    ErrorCode.NoKey,
    `window of '${name}': by gave ${show(given)}; allowed: a text, a number or a bigint`,
  );
}

function requireTime(where: string, given: unknown): number {
  const time = timeOf(given);
  if (time !== undefined) return time;
  throw new MinibatchError(
    ErrorCode.BadTime,
    `${where} gave ${given instanceof Date ? 'an invalid Date' : show(given)}; allowed: a valid Date, or milliseconds since the epoch`,
  );
}
