import { counted } from '../common/counted.js';
import { ConsumerState } from '../engine/engine.interface.js';
import { ErrorCode } from '../errors/minibatch.error.js';
import { SourceState } from '../sources/source-runner.js';
import type {
  ConsumerReport,
  HealthReason,
  HealthSummary,
  SourceReport,
  StatusSnapshot,
  StreamReport,
} from './status.types.js';
import { unservedAdvice } from './unserved-groups.js';

/** Judges a snapshot; `message` says what is wrong and, where one can tell, what to do. */
export function health(snapshot: Omit<StatusSnapshot, 'health'>): HealthSummary {
  const reasons: HealthReason[] = [];
  const { error, name } = snapshot.store;
  if (error) {
    reasons.push({
      what: 'store-unavailable',
      message: `the store (${name}) ${storeFault(error.code) ?? 'does not answer'}: ${error.message}`,
    });
  }
  const now = Date.parse(snapshot.at);
  for (const stream of snapshot.streams) reasons.push(...ofStream(stream, now));
  return { status: reasons.length === 0 ? 'ok' : 'degraded', reasons };
}

/** What the store does, if it is at fault, as the end of "the store …". */
export function storeFault(code: string | undefined): string | undefined {
  if (code === ErrorCode.StoreDenied) return 'denies a right';
  if (code === ErrorCode.StoreRefused) return 'refuses what it is asked';
  return code === ErrorCode.StoreUnavailable ? 'does not answer' : undefined;
}

/** A Python consumer that has read a stream within this time counts as reading it; milliseconds. */
const PRESENT = 10 * 60_000;
/** A method may take minutes; one that takes longer than this probably hangs. Milliseconds. */
const HANGS = 5 * 60_000;

function* ofStream(stream: StreamReport, now: number): Generator<HealthReason> {
  const { name, stored } = stream;
  if (stored && stored.buffered > 0 && stream.consumers.length === 0) {
    yield {
      what: 'stream-unconsumed',
      stream: name,
      message: `${counted(stored.buffered, 'message')} and no consumer`,
    };
  }
  const { readElsewhere } = stored ?? {};
  if (readElsewhere !== undefined && stream.consumers.length > 0 && now - Date.parse(readElsewhere) < PRESENT) {
    yield {
      what: 'stream-read-elsewhere',
      stream: name,
      message:
        `a consumer of Python's minibatch reads it too, the last time at ${readElsewhere}. It does not know what is claimed here, so ` +
        'both handle some messages: stop one of the two',
    };
  }
  for (const consumer of stream.consumers) yield* ofConsumer(stream, consumer, now);
  for (const source of stream.sources) yield* ofSource(name, source);
}

/** What a process does for a consumer. */
type Work = NonNullable<ConsumerReport['local']>;

function* ofConsumer(
  { name, stored: inStore }: StreamReport,
  consumer: ConsumerReport,
  now: number,
): Generator<HealthReason> {
  const { group, stored, local, remote } = consumer;
  const reason = (what: HealthReason['what'], message: string) => ({ what, stream: name, group, message });
  if (stored && !stored.holder && stored.pending > 0 && !inStore?.paused) {
    yield reason(
      'group-unserved',
      `no process works on it, with ${counted(stored.pending, 'message')} waiting: ${unservedAdvice(name, group)}`,
    );
  }
  if (local) yield* ofWork(name, group, local, now);
  // Its times are by its own clock.
  if (remote) yield* ofWork(name, group, { ...remote, label: labelOf(remote) }, Date.parse(remote.at));
}

function labelOf({ label, host, pid }: NonNullable<ConsumerReport['remote']>): string {
  return `${label} (process ${pid} on ${host})`;
}

/** @param now milliseconds since the epoch, by the clock of the process that works */
function* ofWork(name: string, group: string, local: Work, now: number): Generator<HealthReason> {
  const reason = (what: HealthReason['what'], message: string) => ({ what, stream: name, group, message });
  for (const { sink, window, since, timedOut } of local.unsettled ?? []) {
    if (!timedOut && now - Date.parse(since) < HANGS) continue;
    const what = sink === undefined ? local.label : `sink ${sink} of ${local.label}`;
    const option = sink === undefined ? 'timeout' : 'sinkTimeout';
    yield reason(
      'consumer-unsettled',
      `${what} has not settled for window ${window} since ${since}` +
        (timedOut
          ? `, although its window.signal was aborted (retry.${option}): let it check the signal`
          : `; retry.${option} aborts its window.signal and counts it as failed`),
    );
  }
  const last = local.lastError ? `: ${local.lastError.message}` : '';
  switch (local.activity) {
    case 'blocked':
      for (const message of blockedBy(name, group, local)) yield reason('consumer-blocked', message);
      break;
    case 'stalled':
      yield reason(
        'consumer-stalled',
        local.lastError?.code === ErrorCode.EmitterFailed
          ? `the emitter of ${local.label} fails, and no window is made until it answers; it is asked again${last}`
          : `the emitter of ${local.label} takes nothing of what it is shown: raise lookAhead, or let it drop what it does not want`,
      );
      break;
    case 'retrying':
      yield reason('consumer-retrying', `${local.label} failed, its window waits for the next attempt${last}`);
      break;
    case 'unavailable':
      yield reason('consumer-unavailable', whyUnavailable(local) + last);
      break;
    default:
  }
}

function whyUnavailable({ label, state, lastError }: Work): string {
  const isDenied = lastError?.code === ErrorCode.StoreDenied;
  if (state !== ConsumerState.Standby) {
    if (lastError?.code === ErrorCode.StoreRefused) return `the store refuses what ${label} asks`;
    return isDenied ? `the store denies ${label} a right` : `the store does not answer ${label}`;
  }
  const fault = storeFault(lastError?.code);
  const why = isDenied
    ? 'the store denies it a right'
    : fault === undefined
      ? "its group can't be registered"
      : `the store ${fault}`;
  return `${label} does not run, because ${why}`;
}

/** What keeps a blocked consumer: its executor, sinks, or messages of which not one gets through alone. */
function* blockedBy(
  stream: string,
  group: string,
  { label, blockedExecutor, blockedSinks = [], lastError, setAside }: Work,
): Generator<string> {
  if (blockedExecutor) {
    const { executor, windows, since, attempts, error } = blockedExecutor;
    yield (
      `${counted(windows, 'window')} of ${label} can't run since ${since}, because the executor ${executor} fails (${attempts} ` +
      `${attempts === 1 ? 'try' : 'tries'}): ${error}`
    );
  }
  for (const { sink, window, since, attempts, refused, error } of blockedSinks) {
    const tries = `${attempts} ${attempts === 1 ? 'try' : 'tries'}`;
    const skip = `skip({ group: '${group}', window: '${window}', sink: '${sink}' })`;
    yield refused
      ? `sink ${sink} of ${label} refuses the result of window ${window} since ${since} (${tries}): ${error}. Fix the handler or the ` +
        `sink, skip the sink with ${skip}, give the window up with giveUp(), or set onRefused: 'deadLetter'`
      : `sink ${sink} of ${label} has not taken the result of window ${window} since ${since} (${tries}): ${error}. It is retried; ` +
        `to skip it: ${skip}`;
  }
  if ((blockedExecutor || blockedSinks.length > 0) && !setAside) return;
  const last = lastError ? `: ${lastError.message}` : '';
  yield `every message of a window of ${label} fails; it is retried${last}`;
}

function* ofSource(stream: string, source: SourceReport): Generator<HealthReason> {
  if (source.state !== SourceState.Waiting) return;
  const last = source.lastError ? `: ${source.lastError.message}` : '';
  yield { what: 'source-failing', stream, message: `the source ${source.name} failed and is started again${last}` };
}
