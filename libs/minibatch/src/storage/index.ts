// The port: what a store implements
export type * from './stream-store.interface.js';
export { consumerId, NO_PROGRESS } from './stream-store.interface.js';
export type { StoreDefinition } from './store-definition.js';
export type { Message } from '../windows/message.js';

// Errors that every store reports in the same way
export { AppendError, ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
export type { MinibatchErrorOptions } from '../errors/minibatch.error.js';
export { leaseLost, sessionUnsupported, unknownGroup, unknownStream } from '../errors/store-faults.js';
export { answered, CheckpointError, isDue } from './checkpoints.js';
export type { FailedCheckpoint } from './checkpoints.js';

// Messages and values as bytes
export {
  asRedriven,
  asReplayed,
  createdOf,
  decodeMessage,
  decodeValue,
  dedupeIdOf,
  encodedOf,
  encodeMessage,
  encodeValue,
  isDeduped,
  isIntact,
  isRedriven,
  isReplayed,
  MAX_ENCODED_BYTES,
  originalOf,
} from './encoded-message.js';
export type { EncodedMessage } from './encoded-message.js';
export { shownOf } from './lazy-message.js';
export { decodeSplit, encodeSplit } from './split-codec.js';

// Partitions
export { allPartitions, grown, placeIn } from './partitions.js';
export type { Partitioning } from './partitions.js';

// Operators' requests
export { changedRequests } from './window-requests.js';
