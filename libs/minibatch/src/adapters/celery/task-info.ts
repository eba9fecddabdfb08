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
