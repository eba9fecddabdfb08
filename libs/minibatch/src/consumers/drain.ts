import type { ConsumerDefinition, ConsumerStatus, DrainResult, Engine } from '../engine/engine.interface.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { shuttingDown } from '../errors/shutting-down.js';
import { orAborted } from '../common/abort.js';
import { backoff } from '../common/backoff.js';
import { type Clock, delay } from '../common/clock.js';

/** What `stream.drain()` has done. */
export interface DrainedStream {
  /** Windows that were handled and committed. */
  readonly windows: number;
  /** Messages in them. */
  readonly messages: number;
  /** Messages that became dead letters. */
  readonly deadLettered: number;
  /** Runs of the function that failed, whether a later one succeeded or not. */
  readonly failures: number;
}

/** How often a drain checks its progress; milliseconds. */
const CHECK_EVERY = 250;
/** The shortest time without progress after which a drain gives up; milliseconds. */
const LEAST_PATIENCE = 5_000;

interface Drain {
  readonly engine: Engine;
  readonly clock: Clock;
  readonly leaseTime: number;
  readonly definition: ConsumerDefinition;
  /** Resolves when nothing is left. */
  readonly drained: Promise<void>;
  readonly stop: (timeout?: number) => Promise<DrainResult>;
  readonly signal?: AbortSignal;
}

/**
 * Waits until nothing is left, then stops the consumer. A drain without progress for as long as the attempts at a window may take is
 * stopped too, so it always ends.
 *
 * @throws MinibatchError `DrainBlocked`, or the reason of the signal
 */
export async function watchDrain(drain: Drain): Promise<DrainedStream> {
  const { drained, signal, stop } = drain;
  const over = new AbortController();
  try {
    const ended = Promise.race([drained, untilStuck(drain, over.signal)]);
    await (signal ? orAborted(ended, signal, () => signal.reason) : ended);
    return countsOf(statusOf(drain));
  } catch (error) {
    // What the consumer waits for will not come.
    if (error instanceof MinibatchError && error.code === ErrorCode.DrainBlocked) await stop(0);
    throw error;
  } finally {
    over.abort();
    await stop();
  }
}

async function untilStuck(drain: Drain, over: AbortSignal): Promise<void> {
  const { clock, definition } = drain;
  let since = clock.monotonic();
  let seen = '';
  for (;;) {
    await delay(clock, CHECK_EVERY, over);
    if (over.aborted) return;
    const status = statusOf(drain);
    // The application was shut down, which stops consumers of all kinds.
    if (status === undefined || status.state === 'stopped' || status.state === 'stopping')
      throw shuttingDown(`${definition.label} (group '${definition.key.group}')`);
    if (status.activity === 'paused') throw blocked(drain, status, 'the stream is paused');
    const now = `${status.state} ${status.activity} ${status.committedWindows} ${status.deadLettered}`;
    const works = status.activity === 'handling' || status.activity === 'retrying' || status.activity === 'throttled';
    const held = heldBack(drain);
    // That moment comes, whatever else happens.
    const isAwaited = held?.heldBackUntil !== undefined && held.heldBackUntil.getTime() > clock.now();
    if (works || isAwaited || now !== seen) {
      seen = now;
      since = clock.monotonic();
    }
    const patience = Math.max(patienceOf(definition), status.state === 'standby' ? 2 * drain.leaseTime : 0);
    if (clock.monotonic() - since >= patience) throw blocked(drain, status, reasonOf(status, held));
  }
}

/** The waits between the attempts at a window. */
function patienceOf({ retry }: ConsumerDefinition): number {
  let sum = 0;
  for (let failures = 1; failures < retry.attempts && sum < 10 * retry.max; failures += 1)
    sum += backoff({ ...retry, jitter: 0 }, failures);
  return Math.max(sum, LEAST_PATIENCE);
}

function reasonOf(status: ConsumerStatus, held: ConsumerStatus | undefined): string {
  const why = troubleOf(status);
  if (!held) return why ?? 'it makes no progress';
  const behind =
    `partition ${held.key.partition} is held back until partition ${held.heldBackBy} has committed what was sent to it before ` +
    'the stream grew';
  return why === undefined ? behind : `${why}, and ${behind}`;
}

function troubleOf({ state, activity }: ConsumerStatus): string | undefined {
  if (activity === 'unavailable') return 'the store does not answer, or denies a right';
  if (state === 'standby') return 'another process works for the group';
  if (activity === 'blocked') return 'every message fails, or a sink does not take a result';
  if (activity === 'stalled') return 'its emitter takes nothing of what it is shown';
  return undefined;
}

function blocked({ definition }: Drain, status: ConsumerStatus | undefined, why: string): MinibatchError {
  const { label, key } = definition;
  const last = status?.lastError ? `: ${status.lastError.message}` : '';
  return new MinibatchError(
    ErrorCode.DrainBlocked,
    `${label} (group '${key.group}'): ${why}${last}. What is committed stays committed; the rest waits for the group`,
    {
      details: {
        stream: key.stream,
        group: key.group,
        ...(status?.activity ? { activity: status.activity } : {}),
        ...countsOf(status),
      },
    },
  );
}

function statusesOf({ engine, definition: { key } }: Drain): readonly ConsumerStatus[] {
  return engine.status().filter((each) => each.key.stream === key.stream && each.key.group === key.group);
}

/** Of those partitions that are held back, the one that is so for longest. */
function heldBack(drain: Drain): ConsumerStatus | undefined {
  const until = ({ heldBackUntil }: ConsumerStatus) => heldBackUntil?.getTime() ?? 0;
  return statusesOf(drain)
    .filter(({ heldBackBy }) => heldBackBy !== undefined)
    .toSorted((a, b) => until(b) - until(a))[0];
}

/** Of all partitions as of one. What tells of trouble comes first. */
function statusOf(drain: Drain): ConsumerStatus | undefined {
  const all = statusesOf(drain);
  const [first] = all;
  if (!first || all.length === 1) return first;
  const isAnd = (...states: readonly string[]) => all.find(({ state }) => states.includes(state));
  const does = (...activities: readonly string[]) => all.find(({ activity = '' }) => activities.includes(activity));
  const shown =
    isAnd('stopped', 'stopping') ??
    does('paused') ??
    does('handling', 'retrying', 'throttled') ??
    does('unavailable', 'blocked', 'stalled') ??
    isAnd('standby', 'recovering') ??
    first;
  const sum = (count: (status: ConsumerStatus) => number) => all.reduce((total, status) => total + count(status), 0);
  return {
    ...shown,
    committedWindows: sum(({ committedWindows }) => committedWindows),
    committedMessages: sum(({ committedMessages }) => committedMessages),
    deadLettered: sum(({ deadLettered }) => deadLettered),
    failures: sum(({ failures }) => failures),
  };
}

function countsOf(status: ConsumerStatus | undefined): DrainedStream {
  const { committedWindows = 0, committedMessages = 0, deadLettered = 0, failures = 0 } = status ?? {};
  return { windows: committedWindows, messages: committedMessages, deadLettered, failures };
}
