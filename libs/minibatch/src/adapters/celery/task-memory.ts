import { BoundedMap } from '../../internal/bounded-map.js';
import type { CeleryEvent } from './event-body.js';
import { type CeleryTaskInfo, INFO_FIELDS } from './task-info.js';

/** What the events of a task have said of it so far. */
export interface RememberedTask {
  readonly name: string | undefined;
  readonly info: CeleryTaskInfo;
}

/**
 * What is known of tasks, because no event tells all: the name and the arguments come when a task is sent and received, the
 * result when it ends. Bounded: the tasks that nothing was heard of for longest are forgotten.
 */
export class TaskMemory {
  private readonly tasks: BoundedMap<string, RememberedTask>;

  constructor(most: number) {
    this.tasks = new BoundedMap(most);
  }

  get size(): number {
    return this.tasks.size;
  }

  /** What is known with this event, which has a uuid. */
  learn(uuid: string, event: CeleryEvent): RememberedTask {
    const known = this.tasks.get(uuid);
    const info: Record<string, unknown> = { ...known?.info };
    for (const field of INFO_FIELDS) {
      const value = event[field];
      if (value !== undefined && value !== null) info[field] = value;
    }
    const name = typeof event['name'] === 'string' ? event['name'] : known?.name;
    const task = { name, info };
    this.tasks.set(uuid, task);
    return task;
  }
}
