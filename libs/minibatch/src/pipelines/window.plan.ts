import { checkDuration, checkKeys, checkName, invalidOption } from '../common/checks.js';
import { type OwnStreams, ownStreamsOf } from '../common/pipeline-streams.js';
import { type StreamRef, streamOf } from '../definitions/stream-ref.js';
import type { StreamSettings } from '../definitions/stream-settings.js';
import type { Untyped } from '../flow/aggregates.js';
import type { AnyFieldOrFunction } from '../flow/field-or-function.js';
import { checkWindow } from '../flow/window-options.js';
import type { WindowShape } from '../flow/window-shape.js';
import type { FlowNode, FlowOutlet, WindowsWork } from './flow-node.js';

/** Where messages go that come too late for all their windows. */
export type LateTarget =
  | { readonly kind: 'deadLetter' | 'drop' }
  | { readonly kind: 'stream'; readonly stream: string; readonly settings?: StreamSettings }
  /** To what follows `.late`. */
  | { readonly kind: 'flow'; readonly node: FlowNode };

/** A step with windows, checked. */
export interface WindowStep {
  /** The pipeline's name, and its own if it has one. */
  readonly name: string;
  readonly node: FlowNode;
  /** What gives its results. */
  readonly results: FlowNode;
  readonly aggregate: Untyped;
  readonly by: AnyFieldOrFunction;
  /** Absent: the time that a message has, by `timed`, or as it was appended. */
  readonly time?: AnyFieldOrFunction;
  readonly shape: WindowShape;
  /** The latest moment of a window that ends then: in windows that follow, results are with what they were made of. */
  readonly latestIn: (end: number) => number;
  readonly late: LateTarget;
  /** Whether it reads its source itself: then no other step does, and all messages of a key are in the one partition. */
  readonly readsSource: boolean;
  /**
   * Where what it reads comes from, if it does not read its source itself, and windows close by the times of messages; as stages call
   * themselves that say how far they have come.
   */
  readonly sides?: { readonly inputs: readonly string[]; readonly idleAfter: number };
  /** Of its own, for what it reads, for results whose functions do not work at once, and for late messages. */
  readonly streams: OwnStreams;
}

/** How long a step that does not read its source waits: results of one window come close together, but not at once. */
const WAIT_FOR_OTHERS = 1_000;
/** How long one side of it may be silent until nobody waits for it. */
const IDLE_AFTER = 60_000;

/**
 * The steps with windows that lead to outlets. Pure.
 *
 * @param label `Class.method`
 * @param pipeline its name
 * @throws MinibatchError `InvalidOptions`
 */
export function planWindows(
  label: string,
  pipeline: string,
  after: ReadonlyMap<FlowNode, readonly (FlowNode | FlowOutlet)[]>,
): readonly WindowStep[] {
  const nodes = [...after.keys()].filter(isWindows);
  const sources = nodes.map(soleSourceOf);
  const names = new Map(nodes.map((node) => [node, nameOf(label, pipeline, node, nodes.length)]));
  return nodes.map((node, index) => {
    const name = names.get(node)!;
    if ([...names].some(([other, taken]) => taken === name && nodes.indexOf(other) < index))
      throw invalidOption(
        label,
        'window: name',
        Reflect.get(node.work.options, 'name'),
        'a name that no other step of it has',
      );
    const source = sources[index];
    const readsSource = source !== undefined && sources.indexOf(source) === sources.lastIndexOf(source);
    return stepOf(label, name, node, after.get(node) ?? [], readsSource ? undefined : inputsOf(node, names));
  });
}

/** The pipeline's name, and that of the step if it has one. @param steps of the pipeline */
function nameOf(label: string, pipeline: string, { work: { options } }: WindowsNode, steps: number): string {
  checkKeys(`${label}: window`, options, ['name']);
  const { name } = options as { readonly name?: unknown };
  if (name === undefined && steps > 1) {
    throw invalidOption(
      label,
      'window: name',
      name,
      `a name for each of its ${steps} steps with windows: progress and open windows are stored under it`,
    );
  }
  const full = name === undefined ? pipeline : `${pipeline}/${checkName(label, 'window: name', name)}`;
  // The longest one of its streams.
  checkName(label, 'window: name', `${full}/results`);
  return full;
}

/** The one stream that it reads, if that has one partition; undefined if there are several, or windows come before it. */
function soleSourceOf(node: FlowNode): string | undefined {
  const sources = new Set<string | undefined>();
  const visit = ({ work, before }: FlowNode): void => {
    if (work.kind === 'from') sources.add((work.settings?.partitions ?? 1) === 1 ? work.stream : undefined);
    else if (work.kind === 'aggregate' || work.kind === 'late') sources.add(undefined);
    else before.forEach(visit);
  };
  node.before.forEach(visit);
  const [source] = sources;
  return sources.size === 1 ? source : undefined;
}

/** What a stage is called that brings items to steps with windows. */
export const inputFrom = {
  source: (stream: string) => `s:${stream}`,
  /** Results of a step with windows in time. */
  windows: (step: string) => `w:${step}`,
  /** Others: they are not waited for, because nobody knows what is still to come. */
  others: (step: string) => `o:${step}`,
};

/** The stages whose items it waits for. */
function inputsOf(node: WindowsNode, names: ReadonlyMap<FlowNode, string>): readonly string[] {
  const inputs = new Set<string>();
  const visit = ({ work, before }: FlowNode): void => {
    if (work.kind === 'from') inputs.add(inputFrom.source(work.stream));
    else if (work.kind === 'late') return;
    else if (work.kind === 'aggregate') {
      for (const windows of before) {
        if (isWindows(windows) && !isByCount(windows)) inputs.add(inputFrom.windows(names.get(windows) ?? ''));
      }
    } else before.forEach(visit);
  };
  node.before.forEach(visit);
  return [...inputs];
}

function isByCount({ work }: WindowsNode): boolean {
  return 'size' in work.windows;
}

type WindowsNode = FlowNode & { readonly work: WindowsWork };

function isWindows(node: FlowNode): node is WindowsNode {
  return node.work.kind === 'windows';
}

function stepOf(
  label: string,
  name: string,
  node: WindowsNode,
  nexts: readonly (FlowNode | FlowOutlet)[],
  /** Absent: it reads its source itself. */
  inputs: readonly string[] | undefined,
): WindowStep {
  const { by, windows } = node.work;
  const where = `${label}: window`;
  const [results, ...others] = nexts.filter(isResults);
  if (!results) {
    throw invalidOption(where, 'what follows', 'only .late', '.count(), .aggregate() or .reduce() in addition');
  }
  if (others.length > 0) {
    throw invalidOption(
      where,
      'what follows',
      `${others.length + 1} aggregates`,
      'one: aggregate((a) => ({ … })) makes several results of the same windows',
    );
  }
  const readsSource = inputs === undefined;
  const { idleAfter = IDLE_AFTER, ...given } = optionsOf(where, node, readsSource);
  const silence = checkDuration(where, 'idleAfter', idleAfter, { min: 1 });
  const { aggregate } = results.work;
  const { shape, problems } = checkWindow(where, given, { late: 'deadLetter', merges: aggregate.merge !== undefined });
  const [problem] = problems;
  if (problem) throw problem;
  if (!shape) throw new RangeError(`${where} has no shape: a bug of nestjs-minibatch`);
  const { time } = windows as { readonly time?: AnyFieldOrFunction };
  return {
    name,
    node,
    results,
    aggregate,
    by,
    ...(time !== undefined && { time }),
    shape,
    latestIn: shape.windows.kind === 'message' ? (end) => end : (end) => end - 1,
    late: lateTarget(where, windows, nexts),
    readsSource,
    ...(inputs && shape.time.mode === 'event' && { sides: { inputs, idleAfter: silence } }),
    streams: ownStreamsOf(name),
  };
}

function isResults(
  next: FlowNode | FlowOutlet,
): next is FlowNode & { work: { kind: 'aggregate'; aggregate: Untyped } } {
  return 'work' in next && next.work.kind === 'aggregate';
}

function lateTarget(where: string, windows: object, nexts: readonly (FlowNode | FlowOutlet)[]): LateTarget {
  const { late } = windows as { readonly late?: unknown };
  const flow = nexts.find((next): next is FlowNode => 'work' in next && next.work.kind === 'late');
  if (flow && late !== undefined) {
    throw invalidOption(where, 'late', late, 'nothing, together with .late: what follows it gets the late messages');
  }
  if (flow) return { kind: 'flow', node: flow };
  if (late === undefined || late === 'deadLetter') return { kind: 'deadLetter' };
  if (late === 'drop') return { kind: 'drop' };
  if (late === 'window') throw invalidOption(where, 'late', late, "'deadLetter', 'drop' or a stream");
  return { kind: 'stream', ...streamOf(where, late as StreamRef) };
}

/** With what `timed`, or the windows before, say of the time. */
function optionsOf(
  where: string,
  { work, before }: WindowsNode,
  readsSource: boolean,
): Readonly<Record<string, unknown>> {
  const own = { ...work.windows } as Record<string, unknown>;
  const known = ['size', 'interval', 'every', 'offset', 'timezone', 'empty', 'gap', 'leading', 'partial'];
  const ofTime = ['time', 'wait', 'idle', 'maxAhead', 'idleAfter', 'grace', 'late', 'lateness'];
  checkKeys(where, own, [...known, ...ofTime]);
  const given = { ...own, by: work.by };
  const times = [...new Set(before.flatMap(timesOf))];
  const timed = times.filter((time) => time.kind === 'timed');
  if (own['time'] !== undefined) {
    if (timed.length > 0) throw invalidOption(where, 'time', own['time'], 'nothing behind timed(), which says it');
    return given;
  }
  // By count, nothing depends on the time.
  if (own['size'] !== undefined) return given;
  const [first, ...others] = timed;
  if (first) {
    if (times.length > timed.length || others.some((other) => !saysTheSame(first.options, other.options))) {
      throw invalidOption(where, 'time', undefined, 'the same timed() in all flows that are merged before it');
    }
    return { ...first.options, ...given, time: first.of };
  }
  if (times.some(({ kind }) => kind === 'result')) return { wait: WAIT_FOR_OTHERS, ...given, time: carried };
  if (readsSource) return given;
  // Its own stream has been read to the end, and the source may not have been: the clock says nothing of what has come.
  const { grace = WAIT_FOR_OTHERS, ...rest } = given as Record<string, unknown>;
  return { wait: grace, ...rest, time: carried };
}

/** The time comes with the message. */
const carried = () => undefined;

type TimeSource =
  | { readonly kind: 'timed'; readonly of: AnyFieldOrFunction; readonly options: Readonly<Record<string, unknown>> }
  | { readonly kind: 'result' | 'created' };

const RESULT: TimeSource = { kind: 'result' };
const CREATED: TimeSource = { kind: 'created' };

function timesOf({ work, before }: FlowNode): readonly TimeSource[] {
  if (work.kind === 'timed') return [work as TimeSource];
  if (work.kind === 'aggregate' || work.kind === 'late') return [RESULT];
  return before.length === 0 ? [CREATED] : before.flatMap(timesOf);
}

function saysTheSame(a: Readonly<Record<string, unknown>>, b: Readonly<Record<string, unknown>>): boolean {
  return ['wait', 'idle', 'maxAhead', 'idleAfter'].every((option) => a[option] === b[option]);
}
