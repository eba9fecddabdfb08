import { show } from '../common/checks.js';
import { RemoteHandlerError } from '../errors/executor-errors.js';
import { propertyOf } from '../errors/error-text.js';
import type { Rejection, WindowOutcome } from '../executors/executor.interface.js';
import type { BatchWindow } from './batch-window.js';

/** An executor has resolved with what is no outcome of the window. The message continues a sentence that begins with the executor's name. */
export class WrongAnswer extends Error {}

/**
 * Takes over what an executor says the handler made of the window: all of it or nothing, because the same window is sent again.
 *
 * @throws WrongAnswer
 */
export function accepted(answer: unknown, window: BatchWindow): unknown {
  // Not everybody asks the compiler.
  if (typeof answer !== 'object' || answer === null)
    throw new WrongAnswer(`answered with ${kindOf(answer)} in place of { result, rejected }`);
  const { result, rejected } = answer as Partial<WindowOutcome>;
  if (!Array.isArray(rejected))
    throw new WrongAnswer(
      `answered with ${kindOf(rejected)} as rejected in place of an array; it is empty if no message was rejected`,
    );
  if (rejected.length === 0) return result;
  const ids = new Set(window.stored.map(({ id }) => id));
  for (const [index, rejection] of (rejected as readonly unknown[]).entries()) check(rejection, index, ids, window);
  for (const rejection of rejected as readonly Rejection[]) window.reject(rejection, reasonOf(rejection));
  return result;
}

function check(rejection: unknown, index: number, ids: ReadonlySet<unknown>, window: BatchWindow): void {
  const [id, error, stack] = [
    propertyOf(rejection, 'id'),
    propertyOf(rejection, 'error'),
    propertyOf(rejection, 'stack'),
  ];
  const isText = (value: unknown) => typeof value === 'string';
  if (!isText(id) || !isText(error) || !(stack === undefined || isText(stack)))
    throw new WrongAnswer(
      `answered with ${kindOf(rejection)} as rejected[${index}] in place of { id, error, stack? }, each of them a string`,
    );
  if (!ids.has(id))
    throw new WrongAnswer(`answered that it rejected message ${show(id)}, which is not in window ${window.id}`);
}

/** What it is, not what is in it: an answer may be a page of HTML. */
function kindOf(value: unknown): string {
  if (value === undefined || value === null) return String(value);
  if (Array.isArray(value)) return 'an array';
  return typeof value === 'object' ? show(value) : `a ${typeof value}`;
}

function reasonOf({ error, stack }: Rejection): unknown {
  return stack === undefined ? error : new RemoteHandlerError(error, { stack });
}
