import type { ConsumerRecord } from './consumer-records.js';
import { ConsumerState, type ConsumerStatus } from './engine.interface.js';

/** A consumer as the status shows it. */
export function statusOf(record: ConsumerRecord, state: ConsumerState): ConsumerStatus {
  const { definition, counters, calls, current } = record;
  const { unsettled } = calls;
  const loop = current?.loop;
  const blockedSinks = loop?.blockedSinks ?? [];
  return {
    key: definition.key,
    label: definition.label,
    state,
    ...(state === ConsumerState.Running && loop ? { activity: loop.activity } : {}),
    buffered: loop?.buffered ?? 0,
    inFlight: loop?.inFlight ?? 0,
    committedWindows: counters.committedWindows,
    committedMessages: counters.committedMessages,
    failures: counters.failures,
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
    ...(unsettled.length > 0 ? { unsettled } : {}),
    ...(counters.lastError ? { lastError: counters.lastError } : {}),
    ...(counters.lastCommit ? { lastCommit: counters.lastCommit } : {}),
  };
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
