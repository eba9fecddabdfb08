import { show } from '../common/checks.js';
import { AppendError, ErrorCode } from '../errors/minibatch.error.js';
import { readerOf } from '../flow/field-or-function.js';
import { bytesOf } from '../streams/pending-limit.js';
import { draftOf } from './draft.js';
import { type FlowNode, type FlowOutlet, isOutlet, type StepFunction } from './flow-node.js';
import type { AsyncStep, MessageRun, Take } from './message-run.js';
import type { StagePlan } from './pipeline.plan.js';
import { timedTake } from './window-takes.js';

/** What a message takes in a commit beside its content, its stream's name and its dedupe id. */
const ENTRY_BYTES = 96;

export interface FuseOptions {
  /** Most bytes of a message. */
  readonly maxBytes: number;
  /** Most bytes that a commit takes of what one message is made into; Infinity if the store says nothing of it. */
  readonly maxCommitBytes: number;
  /** Of the dedupe id that the commit gives to each message. */
  readonly idBytes: number;
  /** Sinks of the plan's outlets; what goes into one is noted by its index. */
  readonly sinks: readonly FlowOutlet[];
  /** What happens where a step with windows begins, or what comes out of it is read from a stream. */
  readonly stateful: (node: FlowNode, next: () => Take) => Take;
}

/** All steps from these on, up to where windows begin and flows end, as one function. */
export function fuse(roots: readonly (FlowNode | FlowOutlet)[], after: StagePlan['after'], options: FuseOptions): Take {
  const made = new Map<FlowNode | FlowOutlet, Take>();
  const takeOf = (next: FlowNode | FlowOutlet, depth: number): Take => {
    let take = made.get(next);
    if (!take) {
      take = isOutlet(next) ? outletTake(next, options) : stepTake(next, depth);
      made.set(next, take);
    }
    return take;
  };
  const stepTake = (node: FlowNode, depth: number): Take => {
    const nexts = after.get(node) ?? [];
    if (node.work.kind === 'branch') {
      const ways = new Map(nexts.flatMap((next) => wayOf(next, takeOf(next, depth))));
      return branchTake(node.work.tests, ways, depth);
    }
    const { work } = node;
    const goOn = () => inTurn(nexts.map((each) => takeOf(each, depth + 1)));
    if (work.kind === 'windows' || work.kind === 'aggregate' || work.kind === 'late') {
      return options.stateful(node, goOn);
    }
    const next = goOn();
    if (work.kind === 'from' || work.kind === 'merge' || work.kind === 'way') return next;
    if (work.kind === 'timed') return timedTake(work.of, next);
    return FUNCTIONS[work.kind](work.fn, { name: nameOf(work.kind, work.fn, depth) }, next);
  };
  return inTurn(roots.map((root) => takeOf(root, depthOf(root))));
}

/** Steps before it. */
function depthOf(root: FlowNode | FlowOutlet): number {
  if (isOutlet(root)) return depthOf(root.node) + 1;
  return root.before.reduce((deepest, before) => Math.max(deepest, depthOf(before) + 1), 0);
}

/** The step's number is its place in the chain, counted from the source. */
function nameOf(kind: string, { name }: StepFunction, depth: number): string {
  return `step ${depth} (${name === '' ? kind : `${kind} ${name}`})`;
}

function wayOf(next: FlowNode | FlowOutlet, take: Take): readonly (readonly [string, Take])[] {
  return !isOutlet(next) && next.work.kind === 'way' ? [[next.work.name, take]] : [];
}

const FUNCTIONS: Readonly<
  Record<'filter' | 'map' | 'flatMap' | 'tap', (fn: StepFunction, step: AsyncStep, next: Take) => Take>
> = {
  filter: (fn, step, next) => (data, run) =>
    settled(step, fn(data, run.message), run, (isKept) => (isKept ? next(data, run) : undefined)),
  map: (fn, step, next) => (data, run) => settled(step, fn(data, run.message), run, (made) => next(made, run)),
  tap: (fn, step, next) => (data, run) => settled(step, fn(data, run.message), run, () => next(data, run)),
  flatMap: (fn, step, next) => (data, run) =>
    settled(step, fn(data, run.message), run, (made) => {
      if (!isIterable(made))
        throw new TypeError(`${step.name} returned ${show(made)}; allowed: an array, or another iterable`);
      return each(made[Symbol.iterator](), (one) => next(one, run));
    }),
};

function branchTake(tests: ReadonlyMap<string, StepFunction>, ways: ReadonlyMap<string, Take>, depth: number): Take {
  const all = [...tests].map(([name, test]) => ({ name, test, step: { name: `step ${depth} (branch ${name})` } }));
  const go = (name: string, data: unknown, run: MessageRun) => ways.get(name)?.(data, run);
  const tryFrom = (index: number, data: unknown, run: MessageRun): void | Promise<void> => {
    const current = all[index];
    if (!current) return go('rest', data, run);
    const { name, test, step } = current;
    return settled(step, test(data, run.message), run, (holds) =>
      holds ? go(name, data, run) : tryFrom(index + 1, data, run),
    );
  };
  return (data, run) => tryFrom(0, data, run);
}

function outletTake(outlet: FlowOutlet, { maxBytes, maxCommitBytes, idBytes, sinks }: FuseOptions): Take {
  const { target } = outlet;
  if (target.kind === 'sink') {
    const sink = sinks.indexOf(outlet);
    return (data, run) => void run.outputs.push({ kind: 'result', sink, data });
  }
  const { stream, key: keyOf } = target;
  const read = keyOf === undefined ? undefined : readerOf(keyOf);
  const around = ENTRY_BYTES + idBytes + Buffer.byteLength(stream);
  return (data, run) => {
    const { created, headers, key: sourceKey } = run.source;
    const key = read ? read(data, run.message) : sourceKey;
    const message = draftOf(stream, data, { created, key, headers }, maxBytes);
    run.bytes += around + bytesOf(message);
    // The store would refuse the whole commit for it.
    if (run.bytes > maxCommitBytes) throw tooMuch(stream, run.bytes, maxCommitBytes);
    run.outputs.push({ kind: 'message', message });
  };
}

/** Goes on with what a function has returned, now or when its promise is fulfilled. */
function settled(
  step: AsyncStep,
  returned: unknown,
  run: MessageRun,
  go: (value: unknown) => void | Promise<void>,
): void | Promise<void> {
  return isPromise(returned) ? run.awaited(step, returned).then(go) : go(returned);
}

/** One after another, so that outputs keep their order. */
function inTurn(takes: readonly Take[]): Take {
  const [only] = takes;
  if (only && takes.length === 1) return only;
  return (data, run) => each(takes[Symbol.iterator](), (take) => take(data, run));
}

/** As `for … of`, which ends a generator whose value comes to nothing. */
function each<V>(iterator: Iterator<V>, work: (value: V) => void | Promise<void>): void | Promise<void> {
  for (let next = iterator.next(); next.done !== true; next = iterator.next()) {
    let working: void | Promise<void>;
    try {
      working = work(next.value);
    } catch (error) {
      end(iterator);
      throw error;
    }
    if (!working) continue;
    const failed = (error: unknown) => {
      end(iterator);
      throw error;
    };
    return working.then(() => each(iterator, work), failed);
  }
}

/** What it throws counts less than why it is ended. */
function end(iterator: Iterator<unknown>): void {
  try {
    iterator.return?.();
  } catch {
    // As `for … of` does.
  }
}

function tooMuch(stream: string, bytes: number, allowed: number): AppendError {
  const text = `append to '${stream}': what one message is made into has ${bytes} bytes with keys and headers, at most ${allowed} can be stored: split it, or store a reference to it`;
  return new AppendError(ErrorCode.MessageTooLarge, text, 'no', { details: { stream, bytes, allowed } });
}

function isPromise(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function';
}

function isIterable(value: unknown): value is Iterable<unknown> {
  if (typeof value === 'string') return true;
  return typeof value === 'object' && value !== null && Symbol.iterator in value;
}
