import type { ConsumerRecord } from './consumer-records.js';
import { type ConsumerActivity, ConsumerState, type ConsumerStatus } from './engine.interface.js';

/** Calls of the store for all consumers at once that have failed the last time. */
export interface FailingCalls {
  /** Leases can't be renewed or acquired. */
  readonly leases: boolean;
  /** It can't be looked for new messages. */
  readonly polls: boolean;
}

/** A consumer as the status shows it. */
export function statusOf(record: ConsumerRecord, state: ConsumerState, failing: FailingCalls): ConsumerStatus {
  const { definition, counters, calls, current, heir } = record;
  const { unsettled } = calls;
  const loop = current?.loop;
  const activity = activityOf(record, state, failing);
  const blockedSinks = loop?.blockedSinks ?? [];
  return {
    key: definition.key,
    label: definition.label,
    state,
    ...(activity ? { activity } : {}),
    buffered: loop?.buffered ?? 0,
    inFlight: loop?.inFlight ?? 0,
    committedWindows: counters.committedWindows,
    committedMessages: counters.committedMessages,
    failures: counters.failures,
    lostWorkers: counters.lostWorkers,
    sinkFailures: counters.sinkFailures,
    skippedSinks: counters.skippedSinks,
    dropped: counters.dropped,
    expired: counters.expired,
    deadLettered: counters.deadLettered,
    vanished: counters.vanished,
    damaged: counters.damaged,
    recovered: counters.recovered,
    ...(loop?.setAside ? { setAside: loop.setAside } : {}),
    ...(blockedSinks.length > 0 ? { blockedSinks } : {}),
    ...(loop?.heldBackBy === undefined ? {} : { heldBackBy: loop.heldBackBy }),
    ...(loop?.heldBackUntil ? { heldBackUntil: loop.heldBackUntil } : {}),
    ...(loop?.blockedExecutor ? { blockedExecutor: loop.blockedExecutor } : {}),
    ...(unsettled.length > 0 ? { unsettled } : {}),
    ...(counters.lastError ? { lastError: counters.lastError } : {}),
    ...(counters.lastCommit ? { lastCommit: counters.lastCommit } : {}),
    ...(current && heir ? { heir } : {}),
  };
}

/** What it does while it runs, or that the store keeps it from that. */
function activityOf(
  { current, registrationFailed }: ConsumerRecord,
  state: ConsumerState,
  failing: FailingCalls,
): ConsumerActivity | undefined {
  switch (state) {
    case ConsumerState.Standby:
      return registrationFailed || failing.leases ? 'unavailable' : undefined;
    case ConsumerState.Recovering:
      return current?.term.unavailable || failing.leases ? 'unavailable' : undefined;
    case ConsumerState.Running: {
      const activity = current?.loop.activity;
      return failing.leases || (failing.polls && activity === 'waiting') ? 'unavailable' : activity;
    }
    default:
      return undefined;
  }
}

/**
 * @param isStarted the engine has begun to compete for the consumer's lease
 * @param isStopping the engine is stopping
 */
export function stateOf({ current, removed }: ConsumerRecord, isStarted: boolean, isStopping: boolean): ConsumerState {
  if (!isStarted) return ConsumerState.Stopped;
  if (removed || isStopping) return current ? ConsumerState.Stopping : ConsumerState.Stopped;
  if (!current) return ConsumerState.Standby;
  return current.loop.recovering ? ConsumerState.Recovering : ConsumerState.Running;
}
