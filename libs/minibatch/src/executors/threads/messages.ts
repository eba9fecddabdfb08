import type { MessagePort } from 'node:worker_threads';

/** What a thread is started with. */
export interface ThreadData {
  /** URL of the application's file. */
  readonly worker: string;
  readonly maxResultBytes: number;
  /** Milliseconds. */
  readonly startTimeout: number;
}

/** `stream` and `group` of what a thread can run. */
export type ThreadConsumers = readonly (readonly [stream: string, group: string])[];

/** Why a thread was ended that has not booted. */
export function bootsTooLong(startTimeout: number): string {
  return (
    `it did not finish loading within ${startTimeout} ms (startTimeout). Look for an await or a loop in it that does not end, or for a ` +
    'provider that waits, or raise startTimeout'
  );
}

/** A task on its way to a thread. Without bytes the thread says what it can run. */
export interface ThreadTask {
  readonly bytes: Uint8Array | undefined;
  /** For what is said while the task runs. */
  readonly port: MessagePort;
}

/** From the thread. */
export type ThreadReply =
  | { readonly kind: 'started' }
  | { readonly kind: 'answer'; readonly bytes: Uint8Array }
  | { readonly kind: 'ready'; readonly consumers: ThreadConsumers }
  | { readonly kind: 'failed'; readonly message: string };

/** To the thread: which signal of the window aborts, and why. */
export interface ThreadOrder {
  readonly kind: 'abort' | 'close';
  readonly reason: string;
}

/** What the application's file provides, by `runMinibatchWorker`. */
export interface ThreadWorker {
  readonly consumers: ThreadConsumers;
  handle(
    task: Uint8Array,
    options: { readonly signal: AbortSignal; readonly closing: AbortSignal; readonly maxResultBytes: number },
  ): Promise<Uint8Array>;
}
