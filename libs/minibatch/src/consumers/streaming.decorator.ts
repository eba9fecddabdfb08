import 'reflect-metadata';
import type { ResultFor, SinkRef } from '../sinks/sink-ref.js';
import { invalidOption } from '../common/checks.js';
import { consumes, noteDecorated } from '../definitions/decorated-classes.js';
import { requireMethod, requireParentheses } from '../definitions/decorated-method.js';
import { type StreamRef, streamOf } from '../definitions/stream-ref.js';
import type { StreamSettings } from '../definitions/stream-settings.js';
import type { Stored } from '../windows/stored.js';
import type { Window } from '../windows/window.js';
import type { StreamingOptions } from './streaming.options.js';

/** One use of the decorator. The options are as given: they are validated at boot, where the error can name the consumer. */
export interface StreamingEntry {
  /** Its name, or the pattern as text. */
  readonly stream: string;
  readonly pattern?: RegExp;
  /** What `defineStream` was given for it. */
  readonly settings?: StreamSettings;
  readonly options: unknown;
}

const STREAMING = 'minibatch:streaming';

/** What the decorator accepts: a method that takes the window and returns what the sinks take. */
export type StreamingMethod<T, S> = <M extends (window: Window<Stored<T>>) => ResultFor<S>>(
  target: object,
  propertyKey: string | symbol,
  descriptor: TypedPropertyDescriptor<M>,
) => void;

/**
 * Binds a method of a provider or controller as consumer of a stream: it is called with windows of the stream's
 * messages, and what it returns goes to the sinks. When it throws, the same window is redelivered after a backoff.
 *
 * A pattern instead of a name, as in `@Streaming(/^orders\./, …)`, binds it to every stream that matches: those that are there at the start,
 * and those that any process makes later, until they are dropped. Each has windows, progress and a lease of its own.
 *
 * The compiler checks the window's type against what messages of the stream (given by `defineStream`) come back as, and the result against the sinks.
 *
 * @example
 * ```ts
 * @Streaming(Flights, { size: 100, interval: '2s', sink: ReportCollection })
 * summarize(window: Window<Flight>): Report {
 *   return { flights: window.data.length };
 * }
 * ```
 */
export function Streaming<T = never, const S extends SinkRef | readonly SinkRef[] = never>(
  stream: string | RegExp | StreamRef<T>,
  options: StreamingOptions<S>,
): StreamingMethod<T, S> {
  requireParentheses('@Streaming', "@Streaming('stream', { size: 100 })", stream, options);
  return (target, propertyKey, descriptor) => {
    const label = requireMethod('@Streaming', 'name(window) { … }', target, propertyKey, descriptor);
    const entry: StreamingEntry = {
      ...(stream instanceof RegExp ? patternOf(label, stream) : streamOf(label, stream)),
      options,
    };
    noteDecorated(target, target.constructor.name, 'consumer', consumes(label, entry.stream));
    // By property and not on the function: what another decorator or a subclass puts in its place is still bound.
    Reflect.defineMetadata(STREAMING, [entry, ...ownEntries(target, propertyKey)], target, propertyKey);
  };
}

/** The uses of the decorator on a method, those of the nearest class that has any; in the order they are written. */
export function streamingEntriesOf(prototype: object, method: string): readonly StreamingEntry[] {
  return (Reflect.getMetadata(STREAMING, prototype, method) as readonly StreamingEntry[] | undefined) ?? [];
}

/** @throws MinibatchError `InvalidOptions` */
function patternOf(label: string, pattern: RegExp): Pick<StreamingEntry, 'stream' | 'pattern'> {
  const { flags } = pattern;
  if (flags.includes('g') || flags.includes('y')) {
    // It would remember where it stopped, and miss every other name.
    throw invalidOption(label, 'stream', String(pattern), 'a pattern without the flags g and y');
  }
  if (pattern.test('')) {
    const allowed =
      'a pattern that does not match the empty text (append a dot, as in /^(?!sys)./); for all streams write /./s';
    throw invalidOption(label, 'stream', String(pattern), allowed);
  }
  return { stream: String(pattern), pattern };
}

function ownEntries(target: object, propertyKey: string | symbol): readonly StreamingEntry[] {
  return (Reflect.getOwnMetadata(STREAMING, target, propertyKey) as readonly StreamingEntry[] | undefined) ?? [];
}
