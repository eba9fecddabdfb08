import { checkName, readKeys } from '../common/checks.js';
import { resolveStreamOptions, type StreamOptions, type StreamSettings } from './stream-settings.js';

declare const streamType: unique symbol;

/**
 * A stream's name, the type of its messages and its options, from one place. Made by {@link defineStream}; a plain string serves
 * wherever one is accepted, without the type.
 */
export interface StreamRef<T = unknown> {
  readonly name: string;
  /** @internal */
  readonly settings?: StreamSettings;
  /** Only for the compiler; never there at run time. */
  readonly [streamType]?: T;
}

/**
 * Names a stream, the type of its messages, and what holds for it in every process.
 *
 * @throws MinibatchError `InvalidOptions` if the name is empty, longer than 512 characters or contains NUL, or for nonsense in the
 *   options
 * @example
 * ```ts
 * export const Flights = defineStream<Flight>('flights', { maxAge: '7 days', maxBuffered: 1_000_000 });
 *
 * @Streaming(Flights, { size: 100 }) summarize(window: Window<Flight>) {}
 * await streams.append(Flights, { origin: 'SAT', delay: 25 });
 * ```
 */
export function defineStream<T = unknown>(name: string, options?: StreamOptions): StreamRef<T> {
  checkName('defineStream', 'name', name);
  const where = `defineStream('${name}')`;
  return Object.freeze({
    name,
    ...(options === undefined ? {} : { settings: resolveStreamOptions(where, options) }),
  });
}

/** The name in a reference, or the string itself. @throws MinibatchError `InvalidOptions` */
export function streamName(where: string, stream: string | StreamRef): string {
  if (typeof stream !== 'object' || stream === null) return checkName(where, 'stream', stream);
  readKeys(where, stream, ['name', 'settings']);
  return checkName(where, 'stream', stream.name);
}

/** What a decorator keeps of the stream it was given. @throws MinibatchError `InvalidOptions` */
export function streamOf(
  where: string,
  stream: string | StreamRef,
): { readonly stream: string; readonly settings?: StreamSettings } {
  const name = streamName(where, stream);
  const settings = typeof stream === 'object' ? stream.settings : undefined;
  return { stream: name, ...(settings ? { settings } : {}) };
}
