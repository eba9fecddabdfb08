/**
 * What is known of a task when its event came: of this run of it, when it was retried or redelivered. Arguments, results and
 * exceptions are texts that Python made (`repr`), cut off where they are long: no JSON. A field that was never told, or told as null,
 * is not there.
 */
export interface CeleryTaskInfo {
  readonly args?: string;
  readonly kwargs?: string;
  readonly retries?: number;
  /** Only with the event that brings it. */
  readonly result?: string;
  readonly eta?: string;
  /** Seconds; only with the event that brings it. */
  readonly runtime?: number;
  readonly expires?: string;
  /** Only with the event that brings it. */
  readonly exception?: string;
  readonly exchange?: string;
  readonly routing_key?: string;
  readonly root_id?: string;
  readonly parent_id?: string;
}

type InfoField = keyof CeleryTaskInfo;

/** Told of a task's sending alone. */
export const SENT_FIELDS = ['exchange', 'routing_key'] as const satisfies readonly InfoField[];

/** Told when a run begins, and true until it ends. */
export const RUN_FIELDS = [
  'args',
  'kwargs',
  'retries',
  'eta',
  'expires',
  'root_id',
  'parent_id',
  ...SENT_FIELDS,
] as const satisfies readonly InfoField[];

/** Told when it ends. */
export const OUTCOME_FIELDS = ['result', 'runtime', 'exception'] as const satisfies readonly InfoField[];
