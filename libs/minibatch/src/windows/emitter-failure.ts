import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import type { EmitterContext, WindowEmitter } from './window-emitter.js';

/** Which consumer a strategy works for; what is known of it goes into the message. */
export interface EmitterOwner {
  readonly stream?: string;
  readonly group?: string;
}

/** "Emitter EvenTens of consumer "default" on stream "flights" …": every failure names the place first. */
export function emitterFailed(
  emitter: WindowEmitter,
  owner: EmitterOwner,
  what: string,
  options: { readonly cause?: unknown; readonly messageId?: string } = {},
): MinibatchError {
  const { cause, messageId } = options;
  const name = emitter.constructor.name;
  return new MinibatchError(ErrorCode.EmitterFailed, `Emitter ${name}${placeOf(owner)} ${what}`, {
    cause,
    details: {
      emitter: name,
      stream: owner.stream,
      group: owner.group,
      ...(messageId === undefined ? {} : { messageId }),
    },
  });
}

/** A duration or size that a built-in strategy can't do without. @throws MinibatchError `InvalidOptions` */
export function requireWhole(
  emitter: WindowEmitter,
  context: EmitterContext,
  option: 'size' | 'interval',
  allowed: string,
): number {
  const given = context[option];
  if (given !== undefined && Number.isSafeInteger(given) && given >= 1) return given;
  const name = emitter.constructor.name;
  throw new MinibatchError(
    ErrorCode.InvalidOptions,
    `${name}${placeOf(context)} needs the option ${option}: ${allowed}, not ${String(given)}`,
    { details: { emitter: name, stream: context.stream, group: context.group, option, given, allowed } },
  );
}

function placeOf({ stream, group }: EmitterOwner): string {
  return (
    (group === undefined ? '' : ` of consumer "${group}"`) + (stream === undefined ? '' : ` on stream "${stream}"`)
  );
}
