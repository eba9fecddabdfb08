import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import type { ConsumerKey } from './stream-store.interface.js';

/** Refusals that every store words alike. */

export function leaseLost(key: ConsumerKey): MinibatchError {
  return new MinibatchError(
    ErrorCode.LeaseLost,
    `This process does not hold the lease of group "${key.group}" on stream "${key.stream}" (partition ${key.partition}) any more: ` +
      'another one took over, or the group was removed or dropped. What this one does for it counts no more',
    { details: { ...key } },
  );
}

export function unknownStream(stream: string): MinibatchError {
  return new MinibatchError(
    ErrorCode.UnknownStream,
    `There is no stream "${stream}". Append to it or start a consumer on it first, or correct the name`,
    { details: { stream } },
  );
}

export function unknownGroup(stream: string, group: string): MinibatchError {
  return new MinibatchError(
    ErrorCode.UnknownGroup,
    `No group "${group}" is registered on stream "${stream}". Look at the stream's groups in its statistics`,
    { details: { stream, group } },
  );
}

/** @param method of the port */
export function readingUnsupported(store: string, call: string, method: string): MinibatchError {
  return new MinibatchError(
    ErrorCode.StoreUnsupported,
    `${call}: the ${store} store can't do this. Give it the method \`${method}\` of StreamStore, or use lmdbStore, mongooseStore or memoryStore`,
    { details: { store, method } },
  );
}

export function sessionUnsupported(store: string): MinibatchError {
  return new MinibatchError(
    ErrorCode.StoreUnsupported,
    `The ${store} store has no sessions: a message can join a transaction of the application only where both lie in ` +
      'MongoDB. Append without `session`',
    { details: { store, option: 'session' } },
  );
}
