import type { Clock } from '../common/clock.js';
import type { Log } from '../common/log.js';

/** The part of a stream's handle that a source needs. */
export interface SourceTarget<T = unknown> {
  /** The stream's name. */
  readonly name: string;
  /** The source's own name; its positions are stored under it. Left out only by targets of tests. */
  readonly source?: string;
  /** Where a source logs: the module's logger, or the `log` of `openStream`. Left out only by targets of tests. */
  readonly log?: Log;
  /** The time to wait by: that of the module, which a test moves by hand. Left out only by targets of tests. */
  readonly clock?: Clock;
  /** Resolves when the message is durable: acknowledge upstream only then. */
  append(data: T, options?: SourceAppendOptions): Promise<void>;
  appendMany(data: readonly T[], options?: SourceAppendManyOptions<T>): Promise<void>;
  /** The position stored last under the source's name, or undefined at the first start. */
  position(): Promise<unknown>;
}

export interface SourceAppendOptions {
  /** Kept with the message; consumers see it. Messages with the same key belong together. @default none */
  readonly key?: string;
  /** Kept with the message; consumers see them. @default none */
  readonly headers?: Readonly<Record<string, string>>;
  /** A second message with the same id is acknowledged and ignored; makes a replay after a crash harmless. @default none */
  readonly dedupeId?: string;
  /**
   * Where to resume after a restart: stored in one step with the call's messages or after them, and only if all of them are stored. It
   * does not wait for other calls, so wait for those whose messages lie before it. Plain storable data. @default none
   */
  readonly position?: unknown;
}

export interface SourceAppendManyOptions<T> {
  /** Key, headers and dedupe id of each message. @default none */
  readonly each?: (data: T, index: number) => Omit<SourceAppendOptions, 'position'>;
  /** Where to resume after a restart, as in `append`. Without messages it is stored alone. @default none */
  readonly position?: unknown;
}

/**
 * Feeds a stream from outside. Started at bootstrap by `@StreamSource`, or by `stream.attach(source)`.
 *
 * Either resolve when the feed is over or the signal aborts, appending on the way; or be an async generator, whose items
 * are appended one after the other. Contract: acknowledges upstream only after `append` has resolved; stops within a
 * second after the signal aborted; a rejection means "start me again later" — the runner does, with backoff.
 *
 * @example
 * ```ts
 * class Ticks implements Source<{ at: number }> {
 *   async *stream(_target: SourceTarget<{ at: number }>, signal: AbortSignal) {
 *     while (!signal.aborted) yield { at: Date.now() };
 *   }
 * }
 * ```
 */
export interface Source<T = unknown> {
  stream(target: SourceTarget<T>, signal: AbortSignal): Promise<void> | AsyncIterable<T>;
}
