import { isA } from '../errors/error-text.js';
import { AppendError, bareMessageOf, codeOf, ErrorCode } from '../errors/minibatch.error.js';

/** The write itself failed: a store that does not say more leaves open whether it was carried out. */
export function appendFailed(error: unknown): AppendError {
  return asAppendError(error, 'unknown');
}

/** It failed before the write. */
export function notStored(error: unknown): AppendError {
  // What another call was told of its own messages does not hold for this one.
  return isA(error, AppendError) && error.stored === 'no' ? error : asAppendError(error, 'no');
}

/** The process no longer waits for the store. */
export function goingDown(stored: 'no' | 'unknown'): AppendError {
  return new AppendError(
    ErrorCode.StoreUnavailable,
    'append failed: the store did not answer before the end of the shutdown. Allow more time by shutdownTimeout, or append again ' +
      'after the restart',
    stored,
  );
}

function asAppendError(error: unknown, stored: 'no' | 'unknown'): AppendError {
  if (isA(error, AppendError) && stored === 'unknown') return error;
  const text = bareMessageOf(error).replace(/^append failed: /, '');
  return new AppendError(codeOf(error, ErrorCode.AppendFailed), `append failed: ${text}`, stored, { cause: error });
}
