import type { BoundExecutor, ExecutorConsumer, WindowHandler, WindowTask } from '../executors/executor.interface.js';
import type { BatchWindow } from './batch-window.js';

/** What an executor is given for one run of a handler. */
export class ExecutorTask implements WindowTask {
  private hasStarted = (): void => undefined;

  constructor(
    private readonly bound: BoundExecutor,
    readonly handler: WindowHandler,
    readonly window: BatchWindow,
    readonly recoveries: number,
    readonly wantsResult: boolean,
    readonly partition: number,
  ) {}

  get consumer(): ExecutorConsumer {
    return this.bound.consumer;
  }

  get bytes(): number {
    return this.window.stored.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  get ids(): readonly string[] {
    return this.window.stored.map(({ id }) => id);
  }

  /** Made when it is asked for: see `AttemptSignal`. */
  get signal(): AbortSignal {
    return this.window.signal;
  }

  encode(): Uint8Array {
    return this.bound.encode(this, this.window.stored);
  }

  started(): void {
    this.hasStarted();
  }

  /** Resolves when a worker begins with the next try. */
  begin(): Promise<void> {
    return new Promise((resolve) => {
      this.hasStarted = resolve;
    });
  }
}
