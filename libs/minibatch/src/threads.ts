export { runMinibatchWorker } from './minibatch.worker.js';
export { threads } from './executors/threads/threads.executor.js';
export type { ThreadsExecutor } from './executors/threads/threads.executor.js';
export type { ThreadsOptions } from './executors/threads/threads.options.js';
