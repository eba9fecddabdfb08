export interface CeleryOptions {
  /** URL of a broker that runs. */
  broker: string;
  /** How the worker runs tasks. @default 'prefork' */
  pool?: 'prefork' | 'threads' | 'solo';
  /** @default 2 */
  concurrency?: number;
  /** The worker's, before the `@`. */
  name?: string;
}

/** The tasks are those of `tasks.py`. */
export interface TaskCall {
  readonly name: string;
  readonly args?: readonly unknown[];
  readonly kwargs?: Readonly<Record<string, unknown>>;
  /** As `apply_async` takes them: `task_id`, `expires`, `countdown`, … */
  readonly options?: Readonly<Record<string, unknown>>;
  /** @default 1 */
  readonly times?: number;
}

export interface CeleryWorker {
  /** For people: version, pool and path. */
  readonly label: string;
  readonly pid: number;
  kill9(): Promise<void>;
  restart(): Promise<void>;
  stop(): Promise<void>;
  /** Resolves with the tasks' ids. */
  send(calls: readonly TaskCall[]): Promise<string[]>;
}

/** A Celery worker that sends events (PyPI's celery 5.6.2 in a folder of the cache). Dies with this process. */
export function startCelery(options: CeleryOptions): Promise<CeleryWorker>;

/** Sends tasks as a Celery client does, whether a worker runs or not; resolves with their ids. */
export function sendTasks(broker: string, calls: readonly TaskCall[]): Promise<string[]>;

export interface TaskWatch {
  /** What Celery's own receiver knows of tasks that have ended, in the vocabulary of our messages. */
  readonly told: readonly Record<string, unknown>[];
  stop(): Promise<void>;
}

/** Celery's own receiver, to be compared with ours; resolves when it listens. */
export function watchTasks(broker: string): Promise<TaskWatch>;
