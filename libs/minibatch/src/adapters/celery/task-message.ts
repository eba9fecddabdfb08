import { writeJson } from '../../common/json-writer.js';
import type { CeleryEvent } from './event-body.js';
import type { CeleryTaskInfo } from './task-info.js';
import type { RememberedTask } from './task-memory.js';

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
    task_runtime: event.type === 'task-succeeded' ? (runtime ?? null) : null,
  };
}

/** The same for an event that is redelivered, or that another process has received too; another for any other event. */
export function eventId({ type, uuid, hostname, pid, clock, timestamp }: CeleryEvent): string {
  const sender = uuid ?? `${textOf(hostname)}/${textOf(pid)}`;
  return ['celery', sender, type, textOf(clock), textOf(timestamp)].join(':');
}

/** Of a field of an event, which may be anything that JSON has, whatever Celery writes. */
export function textOf(field: unknown): string {
  return typeof field === 'string' ? field : (writeJson(field) ?? '');
}
