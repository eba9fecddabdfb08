import { checkDuration, checkInteger, checkKeys, invalidOption } from '../common/checks.js';
import { ownStreamsOf } from '../common/pipeline-streams.js';
import { resolveStreaming, type ResolvedStreaming } from '../consumers/streaming.resolve.js';
import { resolveAttempts, type ResolvedAttempts } from '../definitions/shared.options.js';
import type { StreamSettings } from '../definitions/stream-settings.js';
import type { FlowNode, FlowOutlet, Target } from './flow-node.js';
import type { BatchOptions } from './pipeline.options.js';
import { planWindows, type WindowStep } from './window.plan.js';

/** What runs for one stream of a pipeline: one consumer. */
export interface StagePlan {
  readonly stream: string;
  readonly settings?: StreamSettings;
  /** Where the messages of the stream begin. There may be more than one: `from` can be called twice. */
  readonly roots: readonly FlowNode[];
  /** What follows each step, as far as it leads to an outlet. */
  readonly after: ReadonlyMap<FlowNode, readonly (FlowNode | FlowOutlet)[]>;
  /** Where its flows end, also behind windows; in the order in which the method has returned them. */
  readonly outlets: readonly FlowOutlet[];
  /** Windows that its messages go into. */
  readonly windows?: WindowStep;
  /** The stream is one of its own under an earlier name of the pipeline: it is read if it is there. */
  readonly isFormer?: true;
  /** All steps of the pipeline with windows. */
  readonly steps: readonly WindowStep[];
  readonly resolved: ResolvedStreaming;
  readonly concurrency: number;
  /** Whether messages are given up that are all that came to an asynchronous function. */
  readonly givesUpAll: boolean;
}

/** A stream that a stage reads, and what with. */
type StageInput = Pick<StagePlan, 'stream' | 'roots' | 'windows' | 'isFormer'>;

const SHORTEST_INTERVAL = 10;

/**
 * Makes of what a method has returned one plan for each stream that it reads. Windows have streams of their own: see `inputsOf`. Pure.
 *
 * @param label `Class.method`
 * @throws MinibatchError `InvalidOptions`
 */
export function planPipeline(
  label: string,
  name: string,
  given: unknown,
  outlets: readonly FlowOutlet[],
  defaults: ResolvedAttempts,
): readonly StagePlan[] {
  checkKeys(label, given, ['replaces', 'retry', 'onAllFailed']);
  const { replaces, retry, onAllFailed = 'block' } = given as Record<string, unknown>;
  if (onAllFailed !== 'block' && onAllFailed !== 'deadLetter') {
    throw invalidOption(label, 'onAllFailed', onAllFailed, "'block' or 'deadLetter'");
  }
  if (retry !== undefined) {
    checkKeys(`${label}: retry`, retry, ['attempts', 'backoff', 'maxBackoff', 'jitter', 'timeout', 'onTimeout']);
    resolveAttempts(label, retry as object, defaults);
  }
  for (const outlet of outlets) checkOutlet(label, outlet);
  const after = connect(outlets);
  const steps = planWindows(label, name, after);
  const former = typeof replaces === 'string' ? formerInputs(name, replaces, steps) : [];
  return [...inputsOf(outlets, steps), ...former].map(({ stream, roots, windows, isFormer }) => {
    const own = outlets.filter(({ node }) => startsAt(node, roots));
    const concurrency = agreed(label, stream, 'concurrency', own, ({ concurrency: most }) => most) ?? 1;
    const size = agreed(label, stream, 'batch.size', own, ({ batch }) => batch?.size) ?? 1000;
    const interval = agreed(label, stream, 'batch.interval', own, ({ batch }) => intervalOf(label, batch)) ?? 250;
    const settings = settingsOf(roots);
    return {
      stream,
      ...(settings ? { settings } : {}),
      roots,
      after,
      outlets: own,
      ...(windows && { windows }),
      ...(isFormer && { isFormer }),
      steps,
      concurrency,
      givesUpAll: onAllFailed === 'deadLetter',
      resolved: resolveStreaming(
        label,
        { size, interval, group: name, replaces, retry, maxSize: Math.max(size, 10_000) },
        defaults,
      ),
    };
  });
}

/**
 * The streams that a pipeline reads:
 *
 * ```text
 * source ─▶ steps ─┬─▶ windows, if they are the only ones that read it ─┬─▶ further steps ─▶ outlets
 *                  │                                                    └─ what does not work at once ─▶ …/results ─▶ the same steps
 *                  ├─▶ …/items ─▶ other windows
 *                  └─▶ outlets
 * ```
 */
function inputsOf(outlets: readonly FlowOutlet[], steps: readonly WindowStep[]): readonly StageInput[] {
  const sources = sourcesOf(outlets).map(([stream, roots]): StageInput => {
    const windows = steps.find(({ readsSource, node }) => readsSource && startsAt(node, roots));
    return { stream, roots, ...(windows && { windows }) };
  });
  const own = steps.flatMap((step): StageInput[] => {
    const { node, streams, results, late, readsSource } = step;
    return [
      ...(readsSource ? [] : [{ stream: streams.items, roots: [node], windows: step }]),
      { stream: streams.results, roots: [results] },
      ...(late.kind === 'flow' ? [{ stream: streams.late, roots: [late.node] }] : []),
    ];
  });
  return [...sources, ...own];
}

/** What the steps have left in their own streams when the pipeline had its earlier name. */
function formerInputs(name: string, replaces: string, steps: readonly WindowStep[]): readonly StageInput[] {
  return steps.flatMap((step): StageInput[] => {
    const { items, results, late } = ownStreamsOf(replaces + step.name.slice(name.length));
    const isFormer = true;
    return [
      { stream: items, roots: [step.node], windows: step, isFormer },
      { stream: results, roots: [step.results], isFormer },
      ...(step.late.kind === 'flow' ? [{ stream: late, roots: [step.late.node], isFormer } as const] : []),
    ];
  });
}

function checkOutlet(label: string, { target, options }: FlowOutlet): void {
  const where = `${label}: ${nameOfTarget(target)}`;
  checkKeys(where, options, target.kind === 'stream' ? ['key', 'batch', 'concurrency'] : ['batch', 'concurrency']);
  const { batch, concurrency } = options;
  if (concurrency !== undefined) checkInteger(where, 'concurrency', concurrency, 1);
  if (batch !== undefined) {
    checkKeys(`${where}: batch`, batch, ['size', 'interval']);
    if (batch.size !== undefined) checkInteger(where, 'batch.size', batch.size, 1);
    intervalOf(where, batch);
  }
  if (target.kind === 'sink') return;
  const { key } = target;
  if (key !== undefined && typeof key !== 'function' && (typeof key !== 'string' || key === '')) {
    throw invalidOption(where, 'key', key, 'the name of a field, or a function of data and message');
  }
}

/** Milliseconds, so that one interval may be written in two ways. */
function intervalOf(where: string, batch: BatchOptions | undefined): number | undefined {
  if (batch?.interval === undefined) return undefined;
  const because = "a number is milliseconds; for seconds write '5s'";
  return checkDuration(where, 'batch.interval', batch.interval, { min: SHORTEST_INTERVAL, because });
}

/** The streams that the plan appends to, as `defineStream` has made them. */
export function targetStreams({ outlets, windows }: StagePlan): readonly Pick<StagePlan, 'stream' | 'settings'>[] {
  const late = windows?.late.kind === 'stream' ? [windows.late] : [];
  return [...outlets.flatMap(({ target }) => (target.kind === 'stream' ? [target] : [])), ...late];
}

/** As it stands in log lines and errors. */
export function nameOfTarget(target: Target): string {
  return target.kind === 'stream' ? `to '${target.stream}'` : 'into a sink';
}

/** What outlets of one source say, which are one consumer. Undefined if none of them says anything. */
function agreed<V>(
  label: string,
  stream: string,
  option: string,
  outlets: readonly FlowOutlet[],
  read: (options: FlowOutlet['options']) => V | undefined,
): V | undefined {
  let found: V | undefined;
  for (const { options } of outlets) {
    const value = read(options);
    if (value === undefined || value === found) continue;
    if (found !== undefined) {
      const allowed = `${String(found)}, as another outlet of '${stream}' says: all of them are one consumer; or leave it out here`;
      throw invalidOption(label, option, value, allowed);
    }
    found = value;
  }
  return found;
}

/** The steps that lead to an outlet, each with what follows it. */
function connect(outlets: readonly FlowOutlet[]): StagePlan['after'] {
  const after = new Map<FlowNode, (FlowNode | FlowOutlet)[]>();
  const add = (node: FlowNode, next: FlowNode | FlowOutlet): void => {
    const known = after.get(node);
    if (known) {
      // A flow may be merged with itself.
      known.push(next);
      return;
    }
    after.set(node, [next]);
    for (const before of node.before) add(before, node);
  };
  for (const outlet of outlets) add(outlet.node, outlet);
  return after;
}

/** The streams that lead to outlets, each with where it begins. */
function sourcesOf(outlets: readonly FlowOutlet[]): readonly (readonly [string, readonly FlowNode[]])[] {
  const sources = new Map<string, FlowNode[]>();
  const seen = new Set<FlowNode>();
  const visit = (node: FlowNode): void => {
    if (seen.has(node)) return;
    seen.add(node);
    if (node.work.kind === 'from') {
      const { stream } = node.work;
      sources.set(stream, [...(sources.get(stream) ?? []), node]);
    }
    node.before.forEach(visit);
  };
  for (const { node } of outlets) visit(node);
  return [...sources];
}

function startsAt(node: FlowNode, roots: readonly FlowNode[]): boolean {
  return roots.includes(node) || node.before.some((before) => startsAt(before, roots));
}

function settingsOf(roots: readonly FlowNode[]): StreamSettings | undefined {
  for (const { work } of roots) if (work.kind === 'from' && work.settings) return work.settings;
  return undefined;
}
