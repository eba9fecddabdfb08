import { type Feed, Feeder } from './feeder.js';
import { type FlowNode, type FlowOutlet, isOutlet } from './flow-node.js';
import type { StagePlan } from './pipeline.plan.js';
import type { FedFrom } from './window-takes.js';
import { inputFrom, type WindowStep } from './window.plan.js';

/** What the stage is to steps with windows that its messages go to. */
export function originOf({ roots, stream, steps }: StagePlan): FedFrom {
  const [root] = roots;
  const results = steps.find((step) => step.results === root);
  if (results) return originBehind(results);
  const late = steps.find(({ late: target }) => target.kind === 'flow' && target.node === root);
  return { input: late ? inputFrom.others(late.name) : inputFrom.source(stream), isTimed: true };
}

/** What it is to those behind its windows. */
export function originBehind({ name, shape }: WindowStep): FedFrom {
  const isByCount = shape.windows.kind === 'count';
  return isByCount
    ? { input: inputFrom.others(name), isTimed: true }
    : { input: inputFrom.windows(name), isTimed: false };
}

/** Makes what tells steps how far the stage has come, one for each partition; undefined if there is nothing to tell. */
export function feederOf(plan: StagePlan): () => Feeder | undefined {
  const feeds = feedsOf(plan);
  return () => (feeds.length === 0 ? undefined : new Feeder(feeds));
}

function feedsOf({ roots, stream, steps, after, windows }: StagePlan): readonly Feed[] {
  const to = (starts: readonly FlowNode[], input: string, isBehind: boolean): readonly Feed[] => {
    const isTimeless = isBehind && windows?.shape.windows.kind === 'count';
    return stepsAfter(starts, steps, after)
      .filter((step) => step !== windows)
      .map((step) => ({ step, input, isBehind, isTimeless: isTimeless || step.sides === undefined }));
  };
  const sources = roots.filter(({ work }) => work.kind === 'from');
  const ofSource = to(sources, inputFrom.source(stream), false);
  return windows ? [...ofSource, ...to([windows.results], originBehind(windows).input, true)] : ofSource;
}

/** The steps with windows that come next. */
function stepsAfter(
  starts: readonly FlowNode[],
  steps: readonly WindowStep[],
  after: StagePlan['after'],
): readonly WindowStep[] {
  const found = new Set<WindowStep>();
  const visit = (next: FlowNode | FlowOutlet): void => {
    if (isOutlet(next)) return;
    const step = steps.find(({ node }) => node === next);
    if (step) found.add(step);
    else after.get(next)?.forEach(visit);
  };
  for (const start of starts) after.get(start)?.forEach(visit);
  return [...found];
}
