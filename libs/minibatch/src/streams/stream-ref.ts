import { checkName } from '../internal/checks.js';

declare const streamType: unique symbol;

/**
 * A stream's name and the type of its messages, from one place. Made by {@link defineStream}; a plain string serves
 * wherever one is accepted, without the type.
 */
export interface StreamRef<T = unknown> {
  readonly name: string;
  /** Only for the compiler; never there at run time. */
  readonly [streamType]?: T;
}

/**
 * Names a stream and the type of its messages.
 *
 * @throws MinibatchError `InvalidOptions` if the name is empty, longer than 512 characters or contains NUL
 * @example
 * ```ts
 * export const Flights = defineStream<Flight>('flights');
 *
 * @Streaming(Flights, { size: 100 }) summarize(window: Window<Flight>) {}
 * await streams.append(Flights, { origin: 'SAT', delay: 25 });
 * ```
 */
export function defineStream<T = unknown>(name: string): StreamRef<T> {
  return Object.freeze({ name: checkName('defineStream', 'name', name) });
}

/** The name in a reference, or the string itself. @throws MinibatchError `InvalidOptions` */
export function streamName(where: string, stream: string | StreamRef): string {
  const name: unknown = typeof stream === 'object' && stream !== null ? stream.name : stream;
  return checkName(where, 'stream', name);
}
