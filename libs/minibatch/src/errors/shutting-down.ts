import { isA } from './error-text.js';
import { ErrorCode, MinibatchError } from './minibatch.error.js';

/** @param what the call that came too late, as "stats of 'flights'" */
export function shuttingDown(what: string, options: { readonly cause?: unknown } = {}): MinibatchError {
  return new MinibatchError(
    ErrorCode.ShuttingDown,
    `${what}: the application is shutting down, or was closed. Make no calls after that`,
    options,
  );
}

/** The store was closed under a call: what it failed with then says nothing of the call. */
export function isOutOfReach(error: unknown): boolean {
  return !isA(error, MinibatchError) || error.code === ErrorCode.StoreUnavailable;
}
