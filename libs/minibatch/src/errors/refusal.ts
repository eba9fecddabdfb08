import { isA } from './error-text.js';
import { AppendError, ErrorCode, MinibatchError } from './minibatch.error.js';

/** How a sink says that the result is at fault: it may also append to a stream, which says so by codes of its own. */
export const REFUSALS: ReadonlySet<string> = new Set([
  ErrorCode.ResultRefused,
  ErrorCode.NotStorable,
  ErrorCode.MessageTooLarge,
]);

/** True if the sink can never take the result; false if another try may succeed. */
export function isRefused(error: unknown): boolean {
  if (!isA(error, MinibatchError)) return false;
  if (REFUSALS.has(error.code)) return true;
  // Of an append of several messages: the others are stored, so nothing is left for another try.
  const failed: unknown = isA(error, AppendError) ? error.details['failed'] : undefined;
  return (
    Array.isArray(failed) &&
    failed.length > 0 &&
    failed.every((each: { readonly error?: unknown }) => isRefused(each.error))
  );
}
