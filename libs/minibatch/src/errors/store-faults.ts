import { ErrorCode, MinibatchError } from './minibatch.error.js';

/** What every store, and all that use one, refuse in the same words. */

export function leaseLost(key: {
  readonly stream: string;
  readonly group: string;
  readonly partition: number;
}): MinibatchError {
  const { stream, group, partition } = key;
  return new MinibatchError(
    ErrorCode.LeaseLost,
    `this process no longer holds the lease of group '${group}' on stream '${stream}': another process took it over, or the group or ` +
      'the stream was removed. Its windows continue where the lease is held',
    { details: { stream, group, partition } },
  );
}

/**
 * What is said of a message that is too large.
 *
 * @param bytes undefined if nobody has counted further than what is allowed
 */
export function tooLargeText(allowed: number, bytes?: number): string {
  const size = bytes === undefined ? `more than the ${allowed} bytes that` : `${bytes} bytes, at most ${allowed}`;
  return `the message has ${size} can be stored: split it, or store a reference to the content`;
}

export function unknownStream(stream: string): MinibatchError {
  return new MinibatchError(
    ErrorCode.UnknownStream,
    `there is no stream '${stream}': append to it or start a consumer on it first, or correct the name`,
    { details: { stream } },
  );
}

export function unknownGroup(stream: string, group: string): MinibatchError {
  return new MinibatchError(
    ErrorCode.UnknownGroup,
    `no group '${group}' is registered on stream '${stream}': stream.describe() lists the groups there are`,
    { details: { stream, group } },
  );
}

/** @param method of the port */
export function readingUnsupported(store: string, call: string, method: string): MinibatchError {
  return new MinibatchError(
    ErrorCode.StoreUnsupported,
    `${call}: the ${store} store does not support this. Implement the method \`${method}\` of StreamStore in it, or use lmdbStore, ` +
      'mongooseStore, postgresStore or memoryStore',
    { details: { store, method } },
  );
}

export function sessionUnsupported(store: string): MinibatchError {
  return new MinibatchError(
    ErrorCode.StoreUnsupported,
    `the ${store} store has no sessions: a message can join a transaction of the application only where both are in one MongoDB or PostgreSQL database. ` +
      'Append without `session`',
    { details: { store, option: 'session' } },
  );
}
