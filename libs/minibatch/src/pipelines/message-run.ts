import type { NewMessage } from '../storage/stream-store.interface.js';
import type { Message } from '../windows/message.js';

/** An asynchronous function: what it is called in log lines, and whether anything works that it needs. */
export interface AsyncStep {
  readonly name: string;
}

/** What a message has become at an outlet. */
export type Output =
  | { readonly kind: 'message'; readonly message: Omit<NewMessage, 'dedupeId'> }
  /** @property sink its number among the sinks of the consumer */
  | { readonly kind: 'result'; readonly sink: number; readonly data: unknown };

/** One message on its way through the functions of a pipeline, once. */
export class MessageRun {
  readonly outputs: Output[] = [];
  /** Asynchronous functions that have worked for it. */
  readonly passed = new Set<AsyncStep>();

  constructor(readonly message: Message) {}

  /** @throws AsyncFailure (by the promise) */
  async awaited<V>(step: AsyncStep, promise: PromiseLike<V>): Promise<V> {
    let value: V;
    try {
      value = await promise;
    } catch (error) {
      throw new AsyncFailure(step, error);
    }
    this.passed.add(step);
    return value;
  }
}

/** The promise of a function was rejected, which may be the fault of what it calls. Never leaves the pipeline. */
export class AsyncFailure extends Error {
  constructor(
    readonly step: AsyncStep,
    override readonly cause: unknown,
  ) {
    super(step.name);
  }
}
