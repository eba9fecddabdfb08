import ms from 'ms';
import { definitionOf } from '../consumers/consumer.definition.js';
import { resolveSinks } from '../consumers/sink.resolver.js';
import type { Mutable } from '../common/mutable.js';
import type { ConsumerDefinition, NamedSink } from '../engine/engine.interface.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import type { NewMessage, StreamStore } from '../storage/stream-store.interface.js';
import { CountWindow } from '../windows/count.window.js';
import type { FlowOutlet } from './flow-node.js';
import { fuse } from './fused-steps.js';
import type { PipelineConsumer } from './pipeline.explorer.js';
import { PipelineStage } from './pipeline.stage.js';

export interface BindingParts {
  readonly store: StreamStore;
  /** See `PipelineStageParts`. */
  readonly prepare: (messages: readonly Mutable<NewMessage>[], closing: AbortSignal) => Promise<void>;
  /** Of the sinks of a consumer, those that Nest has made. @throws MinibatchError `NotInjectable` */
  readonly checkSinks: (label: string, sinks: readonly NamedSink[]) => void;
}

/** What the engine runs, and the line of the boot log about it. */
export interface BoundPipeline {
  readonly definition: ConsumerDefinition;
  readonly line: string;
}

/**
 * Makes of a pipeline's consumer what the engine runs.
 *
 * @throws MinibatchError `StoreUnsupported`, `InvalidOptions`, `UnresolvedProvider`, `NotInjectable`
 */
export async function bindPipeline(consumer: PipelineConsumer, parts: BindingParts): Promise<BoundPipeline> {
  const { label, stream, module, plan, resolved } = consumer;
  const { store, prepare, checkSinks } = parts;
  requireEffects(label, resolved.group, store);
  const intoSinks = plan.outlets.filter(({ target }) => target.kind === 'sink');
  const refs = intoSinks.flatMap(({ target }) => (target.kind === 'sink' ? [target.sink] : []));
  const sinks = await resolveSinks(label, refs, module);
  checkSinks(label, sinks);
  const { maxMessageBytes } = store;
  const stage = new PipelineStage({
    take: fuse(plan, { maxBytes: maxMessageBytes, sinks: intoSinks }),
    sinks,
    concurrency: plan.concurrency,
    attempts: resolved.retry.attempts,
    givesUpAll: plan.givesUpAll,
    prepare,
  });
  const another = async () => new CountWindow();
  const definition: ConsumerDefinition = {
    ...definitionOf({
      stream,
      resolved,
      label,
      emitter: await another(),
      another,
      // The engine runs the stage in its place.
      handler: () => undefined,
      executor: undefined,
      sinks: [],
    }),
    stage,
  };
  return { definition, line: lineOf(definition, targetsOf(plan.outlets, intoSinks, sinks)) };
}

/** @throws MinibatchError `StoreUnsupported` */
function requireEffects(label: string, pipeline: string, store: StreamStore): void {
  if (store.readState) return;
  throw new MinibatchError(
    ErrorCode.StoreUnsupported,
    `${label}: the pipeline '${pipeline}' needs a store that appends messages in the commit of a window, and ${store.name} does not: ` +
      'all stores of this package do; a store of your own needs readState, and has to apply the effects of a commit',
    { details: { consumer: label, pipeline, store: store.name } },
  );
}

function targetsOf(
  outlets: readonly FlowOutlet[],
  intoSinks: readonly FlowOutlet[],
  sinks: readonly NamedSink[],
): readonly string[] {
  return outlets.map((outlet) => {
    const { target } = outlet;
    return target.kind === 'stream' ? `'${target.stream}'` : (sinks[intoSinks.indexOf(outlet)]?.name ?? 'a sink');
  });
}

/** One line of the boot log. */
function lineOf({ key, label, emitterContext }: ConsumerDefinition, targets: readonly string[]): string {
  const { size = 0, interval = 0 } = emitterContext;
  const into = [...new Set(targets)].join(', ');
  return `'${key.stream}' → ${label} (pipeline ${key.group}): batches of ${size}, interval ${ms(interval)} → ${into}`;
}
