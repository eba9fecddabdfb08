import type { ConsumerRecord } from './consumer-records.js';
import { type ConsumerActivity, ConsumerState, type ConsumerStatus } from './engine.interface.js';

/** A consumer as the status shows it. */
export function statusOf(record: ConsumerRecord, state: ConsumerState): ConsumerStatus {
  const { definition, counters, calls, current, heir } = record;
  const { unsettled } = calls;
  const loop = current?.loop;
  const activity = activityOf(record, state);
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
    ...(loop?.blockedExecutor ? { blockedExecutor: loop.blockedExecutor } : {}),
    ...(unsettled.length > 0 ? { unsettled } : {}),
    ...(counters.lastError ? { lastError: counters.lastError } : {}),
    ...(counters.lastCommit ? { lastCommit: counters.lastCommit } : {}),
    ...(current && heir ? { heir } : {}),
  };
}

/** What it does while it runs, or that the store keeps it from running. */
function activityOf(
  { current, registrationFailed }: ConsumerRecord,
  state: ConsumerState,
): ConsumerActivity | undefined {
  if (state === ConsumerState.Running) return current?.loop.activity;
  return state === ConsumerState.Standby && registrationFailed ? 'unavailable' : undefined;
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
