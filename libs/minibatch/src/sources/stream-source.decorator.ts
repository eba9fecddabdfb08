import 'reflect-metadata';
import type { RetryOptions } from '../definitions/shared.options.js';
import { requireParentheses } from '../definitions/decorated-method.js';
import { feeds, noteDecorated } from '../definitions/decorated-classes.js';
import { type StreamRef, streamOf } from '../definitions/stream-ref.js';
import type { StreamSettings } from '../definitions/stream-settings.js';
import type { Source } from './source.interface.js';

export interface StreamSourceOptions {
  /** Its positions are stored under this name. @default the class name */
  readonly name?: string;
  /** Waits before it is restarted. @default those of the module */
  readonly retry?: RetryOptions;
}

export interface StreamSourceEntry {
  readonly stream: string;
  /** What `defineStream` was given for it. */
  readonly settings?: StreamSettings;
  readonly options: StreamSourceOptions;
}

const STREAM_SOURCE = 'minibatch:source';

/**
 * Starts the provider at bootstrap as source of a stream, and stops it at shutdown.
 *
 * @example
 * ```ts
 * @StreamSource(Flights)
 * export class FlightFeed implements Source<Flight> {
 *   constructor(private readonly api: FlightApi) {}
 *   async *stream(target: SourceTarget<Flight>, signal: AbortSignal) {
 *     for await (const flight of this.api.follow(signal)) yield flight;
 *   }
 * }
 * ```
 */
export function StreamSource<T = unknown>(
  stream: string | StreamRef<T>,
  options: StreamSourceOptions = {},
): <C extends abstract new (...args: never[]) => Source<T>>(target: C) => void {
  requireParentheses('@StreamSource', "@StreamSource('stream')", stream, options);
  return (target) => {
    const previous = streamSourcesOf(target);
    const entry: StreamSourceEntry = { ...streamOf(`@StreamSource on ${target.name}`, stream), options };
    noteDecorated(target.prototype as object, target.name, 'source', feeds(target.name, entry.stream));
    Reflect.defineMetadata(STREAM_SOURCE, [entry, ...previous], target);
  };
}

/** Its own only: a subclass of a source is another source. */
export function streamSourcesOf(target: object): readonly StreamSourceEntry[] {
  return (Reflect.getOwnMetadata(STREAM_SOURCE, target) as readonly StreamSourceEntry[] | undefined) ?? [];
}
