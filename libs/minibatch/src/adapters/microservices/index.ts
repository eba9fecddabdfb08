export { ClientProxySink } from './client-proxy.sink.js';
export type { ClientProxySinkOptions } from './client-proxy-sink.options.js';
export type { FailedResult } from '../failed-result.js';
export { FailureReason } from '../failure-reason.js';
