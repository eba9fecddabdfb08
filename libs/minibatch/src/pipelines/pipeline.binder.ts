import ms from 'ms';
import { definitionOf } from '../consumers/consumer.definition.js';
import { resolveSinks } from '../consumers/sink.resolver.js';
import type { ConsumerDefinition, NamedSink } from '../engine/engine.interface.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import type { GroupKey, StreamStore } from '../storage/stream-store.interface.js';
import { describeAggregate } from '../flow/aggregates.js';
import { type HoppingShape, logicOf } from '../flow/window-shape.js';
import type { WindowEmitter } from '../windows/window-emitter.js';
import { BatchRunner } from './batch-runner.js';
import { Continuation } from './continuation.js';
import type { Feeder } from './feeder.js';
import { feederOf, originBehind, originOf } from './feeds.js';
import { type FlowNode, type FlowOutlet, isOutlet } from './flow-node.js';
import { fuse, type FuseOptions } from './fused-steps.js';
import type { PipelineConsumer } from './pipeline.explorer.js';
import type { StagePlan } from './pipeline.plan.js';
import { PipelineStage, PlainBatches, type Prepare } from './pipeline.stage.js';
import { WindowStage } from './window-stage.js';
import { entryTake, type FedFrom, lateTake, resultTake, storedEntryTake } from './window-takes.js';
import { inputFrom, type WindowStep } from './window.plan.js';
import { sizeOfState, stateTooLarge, WindowedStage } from './windowed.stage.js';

/** Of an accumulator. */
const MOST_STATE_BYTES = 1024 * 1024;
/** What is in the dedupe id of a message beside names: a hash and numbers. */
const NUMBERS_BYTES = 56;

export interface BindingParts {
  readonly store: StreamStore;
  readonly prepare: Prepare;
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
  const fuseFrom = (from: FedFrom) => fusingOf(plan, store, { stream, group: resolved.group }, intoSinks, from);
  const fusing = fuseFrom(originOf(plan));
  const batches = new BatchRunner({
    take: fuse(plan.roots, plan.after, fusing),
    sinks,
    concurrency: plan.concurrency,
    attempts: resolved.retry.attempts,
    givesUpAll: plan.givesUpAll,
  });
  const { windows } = plan;
  const windowed = windows && bindWindows(windows, plan, { batches, fuseFrom, prepare, maxBytes: fusing.maxBytes });
  const feeder = feederOf(plan);
  const another = async (): Promise<WindowEmitter> => windowed?.strategy(feeder()) ?? new PlainBatches(feeder());
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
    stage:
      windowed?.stage ??
      new PipelineStage(batches, prepare, (stored) => changed(resolved.group, stored), fusing.maxBytes),
  };
  return { definition, line: lineOf(definition, targetsOf(plan.outlets, intoSinks, sinks)) };
}

/** How steps become a function: what they do where windows begin, or what comes out of windows is read from a stream. */
function fusingOf(
  { windows, steps, roots }: StagePlan,
  { maxMessageBytes: maxBytes, maxWindowEffectBytes: maxCommitBytes = Infinity }: StreamStore,
  { stream, group }: GroupKey,
  sinks: readonly FlowOutlet[],
  from: FedFrom,
): FuseOptions {
  return {
    maxBytes,
    maxCommitBytes,
    idBytes: NUMBERS_BYTES + Buffer.byteLength(stream) + Buffer.byteLength(group),
    sinks,
    stateful(node, next) {
      if (node.work.kind === 'late') return lateTake(next());
      const step = steps.find((each) => each.node === node || each.results === node);
      if (!step) throw new RangeError('a step without a plan: a bug of nestjs-minibatch');
      if (node === step.results) return resultTake(step, steps, next());
      if (roots.includes(node)) return storedEntryTake;
      return entryTake(step, step === windows ? undefined : from, maxBytes);
    },
  };
}

interface WindowParts {
  readonly batches: BatchRunner;
  readonly fuseFrom: (from: FedFrom) => FuseOptions;
  readonly prepare: Prepare;
  readonly maxBytes: number;
}

function bindWindows(step: WindowStep, { after }: StagePlan, { batches, fuseFrom, prepare, maxBytes }: WindowParts) {
  const { name, aggregate, shape, late } = step;
  const limit = { most: MOST_STATE_BYTES, sizeOf: sizeOfState(name), tooLarge: stateTooLarge(name, MOST_STATE_BYTES) };
  const logic = logicOf(shape, { aggregate, limit });
  const behind = (node: FlowNode, from: FedFrom) => {
    const nexts = after.get(node) ?? [];
    return new Continuation(reachesSink(nexts, after) ? undefined : fuse(nexts, after, fuseFrom(from)));
  };
  const stage = new WindowedStage({
    batches,
    step,
    results: behind(step.results, originBehind(step)),
    late:
      late.kind === 'flow'
        ? behind(late.node, { input: inputFrom.others(name), isTimed: true })
        : new Continuation(undefined),
    prepare,
    maxBytes,
  });
  const options = {
    logic,
    time: shape.time,
    ...(step.sides && { sides: step.sides }),
    shape: shapeText(step),
    changed: (stored: string) => changed(name, stored),
  };
  return { stage, strategy: (feeder: Feeder | undefined) => new WindowStage(options, feeder) };
}

/** Before windows that follow: what goes into those is appended. */
function reachesSink(nexts: readonly (FlowNode | FlowOutlet)[], after: StagePlan['after']): boolean {
  return nexts.some((next) => {
    if (isOutlet(next)) return next.target.kind === 'sink';
    return next.work.kind !== 'windows' && reachesSink(after.get(next) ?? [], after);
  });
}

/** What decides on how rows are read. What does not is left out, so that it can be changed while windows are open. */
function shapeText({ shape: { windows, time }, aggregate }: WindowStep): string {
  const { lateness: _lateness, lateWindows: _lateWindows, ...own } = windows as HoppingShape;
  return JSON.stringify({ ...own, time: time.mode, aggregate: describeAggregate(aggregate) }, (_key, value: unknown) =>
    value === Infinity ? 'none' : value,
  );
}

function changed(name: string, stored: string): MinibatchError {
  return new MinibatchError(
    ErrorCode.StageChanged,
    `windows of '${name}' are open that were begun with other options (${stored}): run the earlier version once more and flush the stream, ` +
      'which gives them out, or give the pipeline another name',
    { details: { step: name, stored } },
  );
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
