export { CeleryEventSource } from './celery-event.source.js';
export type {
  CeleryEventSourceOptions,
  CeleryEventType,
  MalformedPolicy,
  UnstorablePolicy,
} from './celery-source.options.js';
export type { CeleryEvent } from './event-body.js';
export type { CeleryEventCounters } from './event-counters.js';
export type { CeleryTaskInfo } from './task-info.js';
export type { CeleryTaskEvent } from './task-message.js';
