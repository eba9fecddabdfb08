/** Injection tokens that are not classes. Strings, so that two copies of the package understand each other. */
export const STREAM_STORE = 'MINIBATCH_STREAM_STORE';
export const CLOCK = 'MINIBATCH_CLOCK';
export const ENGINE = 'MINIBATCH_ENGINE';
export const STREAM_HUB = 'MINIBATCH_STREAM_HUB';
export const RESOLVED_OPTIONS = 'MINIBATCH_RESOLVED_OPTIONS';
export const EXECUTORS = 'MINIBATCH_EXECUTORS';
