import type { ClientProxy } from '@nestjs/microservices';
import type { StringValue } from 'ms';
import { checkBoolean, checkDuration, checkInteger, checkOptions, invalidOption } from '../../common/checks.js';
import type { Window } from '../../windows/window.js';

/** @typeParam R one result */
export interface ClientProxySinkOptions<R = unknown> {
  /** A client that Nest made: `@Inject('NAME') client: ClientProxy`. It is connected when it is needed, and closed by who made it. */
  readonly client: ClientProxy;
  /** What the other side's `@EventPattern` or `@MessagePattern` names. */
  readonly pattern: string | number | object;
  /**
   * - `'emit'`: an event. The result counts as safe when the transport has taken it; what that means differs, see the table in
   *   docs/adapters/microservices.md
   * - `'send'`: a request. The result counts as safe when the other side's handler has replied; if it replies with an error, the
   *   result is sent again
   */
  readonly mode: 'emit' | 'send';
  /** True: each element of an array is a message of its own. False: an array is one message. @default false */
  readonly each?: boolean;
  /**
   * Makes the message's data; a place for the window's id, by which the other side can tell what it has had. `index` is the element's
   * with `each`, otherwise 0. Undefined sends nothing.
   *
   * @default the result
   */
  readonly map?: (result: R, window: Window, index: number) => unknown;
  /** Messages of a window that may be in flight at the same time, with `each`. @default 100 for `emit`, 1 for `send` */
  readonly concurrency?: number;
  /** How long a message may take until it counts as failed: milliseconds, or a string like `'30s'`. @default '30s' */
  readonly timeout?: number | StringValue;
}

/** All options are set; durations are milliseconds. */
export interface ResolvedSending {
  readonly where: string;
  readonly client: ClientProxy;
  readonly pattern: string | number | object;
  readonly mode: 'emit' | 'send';
  readonly each: boolean;
  readonly map: (result: unknown, window: Window, index: number) => unknown;
  readonly concurrency: number;
  readonly timeout: number;
}

const KEYS = [
  'client',
  'pattern',
  'mode',
  'each',
  'map',
  'concurrency',
  'timeout',
] as const satisfies readonly (keyof ClientProxySinkOptions)[];

/** Validates the options and fills in the defaults. @throws MinibatchError `InvalidOptions` */
export function resolveSending<R>(where: string, options: ClientProxySinkOptions<R> | undefined): ResolvedSending {
  checkOptions(where, options, KEYS, "{ client, pattern: '…', mode: 'emit' }");
  const mode: unknown = options.mode;
  if (mode !== 'emit' && mode !== 'send') throw invalidOption(where, 'mode', mode, "'emit', 'send'");
  const { map } = options;
  if (map !== undefined && typeof map !== 'function') throw invalidOption(where, 'map', map, 'a function');
  return {
    where,
    client: checkClient(where, options.client),
    pattern: checkPattern(where, options.pattern),
    mode,
    each: checkBoolean(where, 'each', options.each ?? false),
    // What a handler returns is the user's word.
    map: map ? (result, window, index) => map(result as R, window, index) : (result) => result,
    concurrency: checkInteger(where, 'concurrency', options.concurrency ?? (mode === 'emit' ? 100 : 1), 1),
    timeout: checkDuration(where, 'timeout', options.timeout ?? 30_000, { min: 1 }),
  };
}

function checkClient(where: string, given: unknown): ClientProxy {
  const allowed = "a ClientProxy, as @Inject('NAME') of ClientsModule gives it";
  if (typeof given !== 'object' || given === null) throw invalidOption(where, 'client', given, allowed);
  // It is a ClientProxy by its class, and refuses what one does.
  if ('getService' in given) {
    const others = `${allowed}; gRPC has services and no patterns: call its method in a sink of your own`;
    throw invalidOption(where, 'client', given, others);
  }
  const has = (method: string) => typeof (given as Record<string, unknown>)[method] === 'function';
  if (!['emit', 'send', 'connect'].every(has)) throw invalidOption(where, 'client', given, allowed);
  return given as ClientProxy;
}

function checkPattern(where: string, given: unknown): string | number | object {
  const isPattern = (typeof given === 'string' && given !== '') || typeof given === 'number';
  if (isPattern || (typeof given === 'object' && given !== null)) return given;
  throw invalidOption(
    where,
    'pattern',
    given,
    "what @EventPattern or @MessagePattern of the other side has: 'flights.report'",
  );
}
