import type { ConsumerDefinition, Stage } from '../engine/engine.interface.js';
import type { WindowEmitter } from '../windows/window-emitter.js';
import type { BoundExecutor } from '../executors/executor.interface.js';
import type { ResolvedKeyed } from './keyed.resolve.js';
import type { ResolvedStreaming } from './streaming.resolve.js';

/** How windows by key and event time are made. */
export interface KeyedWindows {
  readonly stage: Stage;
  /** A strategy for each partition. */
  readonly strategy: () => WindowEmitter;
}

/** What decides on windows by key and event time. */
export interface KeyedConsumer extends Pick<ResolvedStreaming, 'group' | 'maxSize' | 'maxBytes'> {
  readonly label: string;
  readonly stream: string;
  readonly keyed: ResolvedKeyed;
}

/** @throws MinibatchError `StoreUnsupported` */
export type MakeKeyed = (consumer: KeyedConsumer) => KeyedWindows;

/** Messages that go into windows by key together: more commits would cost more, and longer waits would be felt. */
const INTAKE = { size: 1_000, interval: 100, maxBytes: 2 * 1024 * 1024 };

/** What the options of a consumer do not tell. */
export type ConsumerParts = Pick<ConsumerDefinition, 'label' | 'emitter' | 'handler' | 'sinks'> & {
  /** Makes another instance of the strategy. */
  readonly another: () => Promise<WindowEmitter>;
} & {
  readonly stream: string;
  readonly resolved: ResolvedStreaming;
  readonly executor: BoundExecutor | undefined;
};

/**
 * The same for windows by key and event time: what the engine cuts from the stream is what goes into them at once.
 *
 * @param parts with any strategy
 * @throws MinibatchError `StoreUnsupported`
 */
export function keyedDefinitionOf(parts: ConsumerParts, keyed: ResolvedKeyed, make: MakeKeyed): ConsumerDefinition {
  const { stream, resolved, label } = parts;
  const { group, maxSize, maxBytes } = resolved;
  const { stage, strategy } = make({ label, stream, group, maxSize, maxBytes, keyed });
  const { size, interval } = INTAKE;
  return {
    ...definitionOf(parts),
    emitter: strategy(),
    another: async () => strategy(),
    emitterContext: { ...resolved.emitterContext, size, interval },
    stage,
    windows: keyed.text,
    maxSize: size,
    maxBytes: INTAKE.maxBytes,
  };
}

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
