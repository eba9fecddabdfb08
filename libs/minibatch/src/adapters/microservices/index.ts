export { ClientProxySink } from './client-proxy.sink.js';
export type { ClientProxySinkOptions } from './client-proxy-sink.options.js';
