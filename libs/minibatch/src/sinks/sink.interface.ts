import type { Window } from '../windows/window.js';

/**
 * Takes the results of a consumer. `put` resolves when the result is safe; only then is the window committed. It may be
 * called again with the same result and the same `window.id` — after a crash, or when another sink of the list failed — so
 * a sink that must not double uses the id as idempotency key. While it rejects, it is retried with backoff,
 * indefinitely; the messages are not counted as failed. A sink that can never take a result throws `ResultRefused`; the consumer's
 * `onRefused` says what follows.
 *
 * Contract: never called before the handler resolved; never called concurrently for one window; not called after
 * `window.signal` aborted.
 *
 * @typeParam R what the consumer's method returns
 */
export interface Sink<R = unknown, T = unknown> {
  put(result: R, window: Window<T>): void | Promise<void>;
  /**
   * Ends the sink's connections. `disconnect()` of a program without Nest calls it, when the last window is done; in an application Nest
   * calls the provider's own `onApplicationShutdown`. A later `put` may connect again: two streams may share a sink.
   */
  close?(): void | Promise<void>;
}
