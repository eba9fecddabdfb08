export { bullmq } from './executors/bullmq/bullmq.executor.js';
export type { BullmqExecutor } from './executors/bullmq/bullmq.executor.js';
export type { BullmqOptions } from './executors/bullmq/bullmq.options.js';
