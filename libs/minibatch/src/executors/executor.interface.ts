import type { StoredMessage } from '../storage/message.interface.js';
import type { ConsumerKey } from '../storage/consumer-key.interface.js';
import type { Window } from '../windows/window.js';

export type WindowHandler = (window: Window) => unknown;

/** A consumer whose windows an executor runs. */
export interface ExecutorConsumer {
  /** `Class.method`. */
  readonly label: string;
  readonly stream: string;
  readonly group: string;
  /** Most windows of it in flight at the same time. */
  readonly workers: number;
}

/** One run of a handler: with a window, or with a part of one that is being bisected. */
export interface WindowTask {
  readonly consumer: ExecutorConsumer;
  /** The consumer's method. Only an executor that works in this process can call it. */
  readonly handler: WindowHandler;
  /** Its messages are decoded when they are first read. */
  readonly window: Window;
  /** Runs of this window, or of this part, whose worker was lost, or, where methods run elsewhere, whose answer may have ended an emitter. */
  readonly recoveries: number;
  /** The partition of the stream that the messages lie in. */
  readonly partition: number;
  /** Size of the messages as stored. */
  readonly bytes: number;
  /** Ids of the messages, in order. */
  readonly ids: readonly string[];
  /** False: nobody uses the result, so it need not be sent back. */
  readonly wantsResult: boolean;
  /** Aborts when the result does not count any more: the time is up, the lease is lost, or the application has stopped. */
  readonly signal: AbortSignal;
  /**
   * The task as bytes, for `WindowWorker.handle` in another thread or process. Messages are copied as they were stored: nothing is
   * decoded here. The bytes belong to the caller.
   */
  encode(): Uint8Array;
  /** Tells that a worker begins with the task; see `Executor.reportsStart`. */
  started(): void;
}

/** A message that a handler rejected. */
export interface Rejection {
  readonly id: string;
  readonly error: string;
  readonly stack?: string;
}

/** What a handler made of a window. */
export interface WindowOutcome {
  readonly result: unknown;
  /** By `window.reject`, or by `RejectMessages`. The others are committed. */
  readonly rejected: readonly Rejection[];
}

/**
 * Where handlers run: in worker threads, in other processes, on other machines. It knows nothing of storage. Sinks and retries stay with the
 * process that holds the lease of the consumer.
 *
 * `run` resolves with what the handler made of the window. What it rejects with decides what follows:
 *
 * | It rejects with | Counts as | Then |
 * |---|---|---|
 * | `RemoteHandlerError`: the handler threw | an attempt | as for any handler that throws |
 * | `ExecutorUnavailable`: no worker can be reached | nothing | again with the waits of `retry`, indefinitely; the consumer is `blocked` |
 * | `WorkerLost`: the worker died with the window | a recovery | again; after 3 the window is bisected |
 * | `ResultLost`: nobody knows what became of it | nothing | again with the same window id |
 * | `ProtocolMismatch`, `ResultUnsendable` | nothing | again with the waits of `retry`; the consumer is `blocked` |
 * | anything else | nothing | as `ExecutorUnavailable`, with the code `ExecutorFailed` |
 *
 * If it resolves with anything but a `WindowOutcome` of this window, the executor has failed too, with the code `ExecutorFailed`.
 *
 * Every executor passes the contract suite `executorContract` of `nestjs-minibatch/testing`.
 */
export interface Executor {
  /** For log lines and the status, such as `threads`. */
  readonly name: string;
  /**
   * True: `run` may wait for a free worker, and calls `task.started()` when one begins. The handler's time limit (`retry.timeout`) counts
   * from there, so that a window does not fail because it had to wait. @default false: it counts from the call of `run`
   */
  readonly reportsStart?: boolean;
  /**
   * True: handlers run in processes that do not end with this one. A window that was out when this process died is then no suspect of its
   * death, and its `recoveries` stay as they are, so that its next holder can find the run that was begun. Only once `run` has answered does
   * the window count as what may end this process, if one has died with it before. @default false
   */
  readonly runsElsewhere?: boolean;
  /**
   * Prepares for these consumers, before the first of them runs. Called again, with the new ones, when a module is loaded later. What it
   * rejects with ends the boot, except `ExecutorUnavailable`, which is logged.
   */
  open?(consumers: readonly ExecutorConsumer[]): Promise<void>;
  /**
   * The worker's side: this process has the role `worker`, and from now on runs the methods of these consumers for the executors of others.
   * Called when the application has started, in place of `open`, and again, with the new ones, when a module is loaded later. What it rejects
   * with ends the boot, except `ExecutorUnavailable`, which is logged. @default something else brings the tasks to `WindowWorker`
   */
  serve?(worker: ExecutorWorker): Promise<void>;
  /**
   * Releases what `open`, `serve` and `run` took, after `timeout` milliseconds at the latest. Tasks that run until then settle, and later ones
   * are rejected with `ExecutorUnavailable`. Idempotent.
   */
  close?(timeout: number): Promise<void>;
  /** Runs the handler of the task's consumer once. Settles soon after `task.signal` aborts. */
  run(task: WindowTask): Promise<WindowOutcome>;
}

/** What a worker may know of a run beyond the task itself. */
export interface HandleOptions {
  /** Becomes `window.signal`. @default never aborts */
  readonly signal?: AbortSignal;
  /** Becomes `window.closing`. @default `signal` */
  readonly closing?: AbortSignal;
  /** Most bytes of a result; a larger one blocks the consumer with the code `ResultUnsendable`. @default 1 MiB */
  readonly maxResultBytes?: number;
}

/** A consumer whose windows this process runs for others. */
export interface ServedConsumer extends ExecutorConsumer {
  readonly handler: WindowHandler;
}

/** What a process in the role of a worker offers its executors. */
export interface ExecutorWorker {
  /** Those that name the executor. */
  readonly consumers: readonly ServedConsumer[];
  /** Calls the method that the task is for, as `WindowWorker.handle`. */
  handle(task: Uint8Array, options?: HandleOptions): Promise<Uint8Array>;
  /** Those of the messages that are still in the store, in the order of `ids`. Opens the store if nothing has done so. */
  load(key: ConsumerKey, ids: readonly string[]): Promise<readonly StoredMessage[]>;
}

/** The bytes of a task. */
export type EncodeTask = (task: WindowTask, messages: readonly StoredMessage[]) => Uint8Array;

/** An executor as one consumer uses it. */
export interface BoundExecutor {
  readonly executor: Executor;
  readonly consumer: ExecutorConsumer;
  readonly encode: EncodeTask;
}
