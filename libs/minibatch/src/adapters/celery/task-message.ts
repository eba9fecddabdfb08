import type { CeleryEvent } from './event-body.js';
import type { RememberedTask } from './task-memory.js';

/**
 * What is known of a task when its event came. Arguments, results and exceptions are texts that Python made (`repr`), cut off
 * where they are long: no JSON. A field that was never told is not there.
 */
export interface CeleryTaskInfo {
  readonly args?: string;
  readonly kwargs?: string;
  readonly retries?: number;
  readonly result?: string;
  readonly eta?: string;
  /** Seconds. */
  readonly runtime?: number;
  readonly expires?: string;
  readonly exception?: string;
  readonly exchange?: string;
  readonly routing_key?: string;
  readonly root_id?: string;
  readonly parent_id?: string;
}

/** An event of a task, in the words of the Python library minibatch. */
export interface CeleryTaskEvent {
  /** `task-succeeded`, `task-failed`, … */
  readonly task_event: string;
  /** Null if the event that tells it (`task-received`, `task-sent`) was not seen, or is forgotten. */
  readonly task_name: string | null;
  readonly task_id: string;
  readonly task_info: CeleryTaskInfo;
  /** `SUCCESS`, `FAILURE`, `RETRY`, `REVOKED`, … */
  readonly task_state: string;
  /** Seconds that the task ran; null if it did not succeed. */
  readonly task_runtime: number | null;
}

export const INFO_FIELDS = [
  'args',
  'kwargs',
  'retries',
  'result',
  'eta',
  'runtime',
  'expires',
  'exception',
  'exchange',
  'routing_key',
  'root_id',
  'parent_id',
] as const satisfies readonly (keyof CeleryTaskInfo)[];

/** Celery's states, by the event that brings a task into it. */
const STATES = new Map([
  ['task-sent', 'PENDING'],
  ['task-received', 'RECEIVED'],
  ['task-started', 'STARTED'],
  ['task-succeeded', 'SUCCESS'],
  ['task-failed', 'FAILURE'],
  ['task-rejected', 'REJECTED'],
  ['task-revoked', 'REVOKED'],
  ['task-retried', 'RETRY'],
]);

/** The message of an event. An application's own `task-progress` is the state `PROGRESS`, as it is for Celery. */
export function taskMessage(uuid: string, event: CeleryEvent, task: RememberedTask): CeleryTaskEvent {
  const { runtime } = task.info;
  return {
    task_event: event.type,
    task_name: task.name ?? null,
    task_id: uuid,
    task_info: task.info,
    task_state: STATES.get(event.type) ?? event.type.slice('task-'.length).toUpperCase(),
    task_runtime: runtime ?? null,
  };
}

/** The same for an event that is delivered again, or that another process has received too; another for any other event. */
export function eventId({ type, uuid, hostname, pid, clock, timestamp }: CeleryEvent): string {
  return ['celery', uuid ?? `${hostname}/${pid}`, type, clock, timestamp].join(':');
}
