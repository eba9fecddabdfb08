import { Inject, Injectable } from '@nestjs/common';
import type { HandleOptions } from '../executors/executor.interface.js';
import { runTask } from '../executors/task-runner.js';
import { handlerOf } from './consumer.binder.js';
import { ConsumerRegistry, type RegisteredConsumer } from './consumer.registry.js';

/**
 * Runs `@Streaming` methods for an executor in another process: it takes the bytes that `task.encode()` made there, and gives back the bytes
 * that `readOutcome` reads.
 *
 * @example
 * ```ts
 * const answerTo = (worker: WindowWorker, task: Uint8Array) => worker.handle(task);
 * ```
 */
@Injectable()
export class WindowWorker {
  constructor(@Inject(ConsumerRegistry) private readonly consumers: { all(): readonly RegisteredConsumer[] }) {}

  /** Calls the method that the task is for. Never rejects: what goes wrong stands in the answer. */
  handle(task: Uint8Array, options: HandleOptions = {}): Promise<Uint8Array> {
    const find = (stream: string, group: string) => {
      const consumer = this.consumers.all().find((each) => each.stream === stream && each.resolved.group === group);
      return consumer && handlerOf(consumer);
    };
    return runTask(task, find, options);
  }
}
