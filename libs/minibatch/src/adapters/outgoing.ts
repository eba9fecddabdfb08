import { isA, messageOf } from '../errors/error-text.js';
import { AppendError, bareMessageOf, ErrorCode, isUnstorable, MinibatchError } from '../errors/minibatch.error.js';
import type { SourceAppendOptions, SourceTarget } from '../sources/source.interface.js';

/** A message on its way from outside to the stream. */
export interface Outgoing {
  readonly data: unknown;
  readonly options: Omit<SourceAppendOptions, 'position'>;
}

/** A message that the stream cannot take, and why. */
export interface Refused<M> {
  readonly message: M;
  readonly error: Error;
}

/** Its data hold something that no store has a form for; key, headers and dedupe id are sound. */
export function isNotStorable(error: Error): boolean {
  if (!(error instanceof MinibatchError) || error.code !== ErrorCode.NotStorable) return false;
  const { path } = error.details;
  return typeof path !== 'string' || path.startsWith('data');
}

/** Says which message an error is about; the store does not know where it comes from. */
export function named(which: string, error: Error, details: Readonly<Record<string, unknown>>): Error {
  if (!(error instanceof MinibatchError)) return error;
  const text = `${which}: ${bareMessageOf(error)}`;
  const options = { cause: error, details: { ...error.details, ...details } };
  return error instanceof AppendError
    ? new AppendError(error.code, text, error.stored, options)
    : new MinibatchError(error.code, text, options);
}

/** What to append in place of a message that was refused; undefined for nothing. */
type Substitute<M> = (message: M, error: Error) => M | undefined;

/**
 * Appends messages in their order, each once. Resolves with those that cannot be stored; the others are durable then. A `position` is
 * stored only if there are none: otherwise the caller decides what becomes of them first.
 *
 * @throws what the append failed with, if it was not for what the messages are
 */
export async function appendStorable<M extends Outgoing>(
  target: SourceTarget,
  messages: readonly M[],
  substitute: Substitute<M> = () => undefined,
  position?: unknown,
): Promise<readonly Refused<M>[]> {
  if (messages.length === 0 && position === undefined) return [];
  try {
    const data = messages.map((message) => message.data);
    const each = (_: unknown, index: number) => messages[index]?.options ?? {};
    await target.appendMany(data, position === undefined ? { each } : { each, position });
    return [];
  } catch (error) {
    // Then it is the position that cannot be stored.
    if (messages.length === 0) throw error;
    const refused = refusedOf(error, messages);
    if (refused) return await appendSubstitutes(target, refused, substitute);
    // Nothing was written, and the error need not say which message it was: searching by halves keeps the order.
    const middle = Math.ceil(messages.length / 2);
    const first = await appendStorable(target, messages.slice(0, middle), substitute);
    return [...first, ...(await appendStorable(target, messages.slice(middle), substitute))];
  }
}

async function appendSubstitutes<M extends Outgoing>(
  target: SourceTarget,
  refused: readonly Refused<M>[],
  substitute: Substitute<M>,
): Promise<readonly Refused<M>[]> {
  const left: Refused<M>[] = [];
  for (const one of refused) {
    const instead = substitute(one.message, one.error);
    if (instead) left.push(...(await appendStorable(target, [instead])));
    else left.push(one);
  }
  return left;
}

/**
 * Those that were refused, while the others were stored; undefined if nothing was written for one of several.
 *
 * @throws the error if it is another one
 */
function refusedOf<M>(error: unknown, messages: readonly M[]): readonly Refused<M>[] | undefined {
  const failed: unknown = isA(error, AppendError) ? error.details['failed'] : undefined;
  if (!Array.isArray(failed)) {
    if (!isUnstorable(error)) throw error;
    const [only, ...others] = messages;
    return only === undefined || others.length > 0 ? undefined : [{ message: only, error }];
  }
  const list = failed as readonly { readonly index: number; readonly error: Error }[];
  if (!list.every((one) => isUnstorable(one.error))) throw error;
  return list.flatMap(({ index, error: reason }) => {
    const message = messages[index];
    return message === undefined ? [] : [{ message, error: reason }];
  });
}

/**
 * What a function of a source's options gives for a message.
 *
 * @throws MinibatchError `SourceFailed` with `details.option` if it throws, or gives a promise, which nobody waits for
 */
export function ask<V>(where: string, option: string, work: () => V): V {
  let value: V;
  try {
    value = work();
  } catch (cause) {
    throw new MinibatchError(ErrorCode.SourceFailed, `${where}: ${option} threw: ${messageOf(cause)}`, {
      cause,
      details: { option },
    });
  }
  if (!isA(value, Promise)) return value;
  // It may reject, and would end the process.
  value.catch(() => undefined);
  throw new MinibatchError(
    ErrorCode.SourceFailed,
    `${where}: ${option} returned a promise: it must return its value at once`,
    { details: { option } },
  );
}
