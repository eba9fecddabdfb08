import { BoundedMap } from '../../common/bounded-map.js';
import type { CeleryEvent } from './event-body.js';
import { type CeleryTaskInfo, OUTCOME_FIELDS, RUN_FIELDS, SENT_FIELDS } from './task-info.js';

/** What the events of a task's run have said of it, and the last event of its outcome. */
export interface RememberedTask {
  readonly name: string | undefined;
  readonly info: CeleryTaskInfo;
}

type Fields = Readonly<Record<string, unknown>>;

/** One run of a task: from the event that says that it was sent or received to the one that says how it ended. */
interface Run {
  readonly name: string | undefined;
  readonly fields: Fields;
  /** A worker has it. */
  readonly isReceived: boolean;
  readonly hasEnded: boolean;
}

/** A task may run several times under its id: it is retried, redelivered, or an application uses the id each night. */
interface Runs {
  readonly current: Run;
  /** The one before, while the event that says it is retried is still to come: that comes after the next run was received. */
  readonly retried?: Run;
  /** What `task-sent` told of the next run, which only its `task-received` begins. */
  readonly next?: Run;
}

const NOTHING: Run = { name: undefined, fields: {}, isReceived: false, hasEnded: false };

const ENDS = new Set(['task-succeeded', 'task-failed', 'task-rejected', 'task-revoked', 'task-retried']);

/**
 * What is known of tasks, because no event tells all: the name and the arguments come when a task is sent and received, the
 * result when it ends. Bounded: the tasks that nothing was heard of for longest are forgotten.
 *
 * Nothing of one run is told of another, and an outcome (result, runtime, exception) is told only by the event that has it.
 */
export class TaskMemory {
  private readonly tasks: BoundedMap<string, Runs>;

  constructor(most: number) {
    this.tasks = new BoundedMap(most);
  }

  get size(): number {
    return this.tasks.size;
  }

  /** What is known with this event, which has a uuid. */
  learn(uuid: string, event: CeleryEvent): RememberedTask {
    const { runs, run } = following(this.tasks.get(uuid), event);
    this.tasks.set(uuid, runs);
    return { name: run.name, info: merged(run.fields, event, OUTCOME_FIELDS) };
  }
}

/** The runs with an event, and the one that it is about. */
function following(known: Runs | undefined, event: CeleryEvent): { readonly runs: Runs; readonly run: Run } {
  switch (event.type) {
    case 'task-sent':
      return sent(known, event);
    case 'task-received':
      return received(known, event);
    case 'task-retried':
      if (known?.retried) {
        const run = told(known.retried, event);
        return { runs: { current: known.current, ...(known.next ? { next: known.next } : {}) }, run };
      }
      break;
    default:
  }
  const run = told(known?.current ?? NOTHING, event);
  return { runs: { ...known, current: run }, run };
}

function sent(known: Runs | undefined, event: CeleryEvent): { readonly runs: Runs; readonly run: Run } {
  const run = told(NOTHING, event);
  if (known === undefined || known.current.hasEnded || !known.current.isReceived)
    return { runs: { current: run }, run };
  const { current } = known;
  if (retriesOf(current.fields) !== retriesOf(run.fields)) return { runs: { ...known, next: run }, run };
  // It was overtaken by `task-received`: only what that does not tell is new.
  return { runs: { ...known, current: { ...current, fields: merged(current.fields, event, SENT_FIELDS) } }, run };
}

function received(known: Runs | undefined, event: CeleryEvent): { readonly runs: Runs; readonly run: Run } {
  const begun = told(NOTHING, event);
  const before = [known?.next, known?.current].find((run) => run && retriesOf(run.fields) === retriesOf(begun.fields));
  // The same message of the broker, so what was told of its sending holds for it.
  const run = {
    ...begun,
    isReceived: true,
    fields: { ...merged({}, before?.fields ?? {}, SENT_FIELDS), ...begun.fields },
  };
  const isRetry =
    known !== undefined &&
    known.current.isReceived &&
    !known.current.hasEnded &&
    retriesOf(begun.fields) > retriesOf(known.current.fields);
  return { runs: { current: run, ...(isRetry ? { retried: known.current } : {}) }, run };
}

function told(run: Run, event: CeleryEvent): Run {
  return {
    name: typeof event['name'] === 'string' ? event['name'] : run.name,
    fields: merged(run.fields, event, RUN_FIELDS),
    isReceived: run.isReceived,
    hasEnded: run.hasEnded || ENDS.has(event.type),
  };
}

function retriesOf({ retries }: Fields): number {
  return typeof retries === 'number' ? retries : 0;
}

/** What is null is no longer known; what is not there says nothing. */
function merged(fields: Fields, news: Fields, names: readonly string[]): Record<string, unknown> {
  const all: Record<string, unknown> = { ...fields };
  for (const name of names) {
    const value = news[name];
    if (value === null) delete all[name];
    else if (value !== undefined) all[name] = value;
  }
  return all;
}
