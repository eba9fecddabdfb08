import type { ConsumerDefinition } from '../engine/engine.interface.js';
import type { WindowEmitter } from '../windows/window-emitter.js';
import type { BoundExecutor } from '../executors/executor.interface.js';
import type { ResolvedStreaming } from './streaming.resolve.js';

/** What the options of a consumer do not tell. */
export type ConsumerParts = Pick<ConsumerDefinition, 'label' | 'emitter' | 'handler' | 'sinks'> & {
  /** Makes another instance of the strategy. */
  readonly another: () => Promise<WindowEmitter>;
} & {
  readonly stream: string;
  readonly resolved: ResolvedStreaming;
  readonly executor: BoundExecutor | undefined;
};

/** Puts together what the engine runs. */
export function definitionOf(parts: ConsumerParts): ConsumerDefinition {
  const { stream, resolved, label, emitter, another, handler, executor, sinks } = parts;
  return {
    key: { stream, group: resolved.group, partition: 0 },
    label,
    emitter,
    another,
    emitterContext: resolved.emitterContext,
    timeOrder: resolved.timeOrder,
    handler,
    ...(executor && { executor }),
    sinks,
    workers: resolved.workers,
    keep: resolved.keep,
    retry: resolved.retry,
    onAllFailed: resolved.onAllFailed,
    onRefused: resolved.onRefused,
    ...(resolved.rateLimit === undefined ? {} : { rateLimit: resolved.rateLimit }),
    maxSize: resolved.maxSize,
    maxBytes: resolved.maxBytes,
    lookAhead: resolved.lookAhead,
    ...(resolved.replaces === undefined ? {} : { replaces: resolved.replaces }),
  };
}
