import { isMainThread } from 'node:worker_threads';
import { Inject, Module, type OnModuleInit, type Type } from '@nestjs/common';
import { DiscoveryModule, NestFactory } from '@nestjs/core';
import { ConsumerExplorer, type FoundConsumer } from './consumers/consumer.explorer.js';
import type { RegisteredConsumer } from './consumers/consumer.registry.js';
import { resolveStreaming } from './consumers/streaming.resolve.js';
import { WindowWorker } from './consumers/window-worker.js';
import { DEFAULT_RETRY } from './definitions/shared.options.js';
import { ErrorCode, MinibatchError } from './errors/minibatch.error.js';
import type { ThreadWorker } from './executors/threads/messages.js';
import { WORKER } from './executors/worker-mark.js';

/**
 * Makes this file the worker of `threads({ worker })`: boots the module in each thread, without HTTP, and runs its `@Streaming`
 * methods for the process. If the module imports `MinibatchModule`, nothing of it runs here: no consumer competes for a lease, no source
 * starts, and the store is opened when a method uses it.
 *
 * @throws MinibatchError `InvalidOptions` outside of a worker thread
 * @example
 * ```ts
 * void runMinibatchWorker(WorkerModule);
 * ```
 */
export function runMinibatchWorker(module: Type | object): Promise<void> {
  if (isMainThread) {
    throw new MinibatchError(
      ErrorCode.InvalidOptions,
      'runMinibatchWorker is called in the main thread: call it in a file of its own, and give that to threads({ worker })',
    );
  }
  const booted = boot(module);
  // Whoever waits for it hears of a failure.
  booted.catch(() => undefined);
  Object.assign(globalThis, { [WORKER]: booted });
  return booted.then(() => undefined);
}

async function boot(module: Type | object): Promise<ThreadWorker> {
  // Of this thread alone: it has a copy of the environment.
  process.env['MINIBATCH_ROLE'] = 'worker';
  class WorkerRoot implements OnModuleInit {
    consumers: readonly FoundConsumer[] = [];

    constructor(private readonly explorer: ConsumerExplorer) {}

    /** Before the classes are asked whether anything has found them. */
    onModuleInit(): void {
      this.consumers = this.explorer.explore();
    }
  }
  Inject(ConsumerExplorer)(WorkerRoot, undefined, 0);
  Module({ imports: [DiscoveryModule, module as Type], providers: [ConsumerExplorer] })(WorkerRoot);
  const application = await NestFactory.createApplicationContext(WorkerRoot, {
    logger: ['error', 'warn'],
    abortOnError: false,
  });
  const consumers: readonly RegisteredConsumer[] = application
    .get(WorkerRoot)
    .consumers.map((found) => ({ ...found, resolved: resolveStreaming(found.label, found.options, DEFAULT_RETRY) }));
  const worker = new WindowWorker({ all: () => consumers });
  return {
    consumers: consumers.map(({ stream, resolved }) => [stream, resolved.group]),
    handle: (task, options) => worker.handle(task, options),
  };
}
