import { ErrorCode, MinibatchError, ResultRefused } from '../../errors/minibatch.error.js';
import type { FailedResult } from '../failed-result.js';
import { FailureReason } from '../failure-reason.js';
import type { ResultDocument } from './write-batches.js';
import { counted } from '../../common/counted.js';

/**
 * The server's codes for a document that is at fault itself: BadValue, FailedToParse, InvalidBSON, DollarPrefixedFieldName,
 * InvalidIdField, EmptyFieldName, DottedFieldName, DocumentValidationFailure, BSONObjectTooLarge, an object that became too large,
 * a key too long for an index. Not a duplicate key: the other document may go.
 */
const REFUSALS: ReadonlySet<FailedResult['code']> = new Set([
  2, 9, 22, 52, 53, 56, 57, 121, 10_334, 17_280, 17_419, 17_420,
]);

/** Which documents of a batch the server refused; undefined if the write failed as a whole. */
export function refusedOf(error: unknown, batch: readonly ResultDocument[]): readonly FailedResult[] | undefined {
  if (!(error instanceof Error) || error.name !== 'MongoBulkWriteError') return undefined;
  const { writeErrors } = error as { writeErrors?: unknown };
  const list: readonly unknown[] = Array.isArray(writeErrors) ? writeErrors : [writeErrors];
  const failed = list.filter(isWriteError).map(({ index, code, errmsg }) => ({
    index: batch[index]?.index ?? index,
    code,
    message: errmsg ?? error.message,
  }));
  return failed.length > 0 ? failed : undefined;
}

function isWriteError(value: unknown): value is { index: number; code?: number; errmsg?: string } {
  return typeof value === 'object' && value !== null && 'index' in value && typeof value.index === 'number';
}

export function notWritten(
  where: string,
  namespace: string,
  window: string,
  failed: readonly FailedResult[],
  all: number,
  cause: unknown,
): MinibatchError {
  const [first] = failed;
  const text = `${where}: failed to write ${failed.length} of ${counted(all, 'document')} of window ${window} to ${namespace}; document ${first?.index}: ${first?.message}. The others are written`;
  const details = {
    reason: FailureReason.NotWritten,
    collection: namespace,
    window,
    failed,
    written: all - failed.length,
  };
  if (failed.every(({ code }) => REFUSALS.has(code))) return new ResultRefused(text, { cause, details });
  return new MinibatchError(ErrorCode.SinkFailed, `${text}, and the window is retried`, { cause, details });
}
