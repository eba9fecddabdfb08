import * as BSON from 'bson';
import { decodeSplit, encodeSplit } from '../split-codec.js';
import { type ConsumerProgress, NO_PROGRESS, type WindowRecord } from '../stream-store.interface.js';
import { packIds, unpackIds } from './ids.js';

/** A window as it is stored: what is known of it as BSON, and the ids of its messages. */
export interface PackedWindow {
  readonly record: Buffer;
  readonly ids: Buffer;
}

export function packWindow({ messageIds, split, ...rest }: WindowRecord): PackedWindow {
  const document: Record<string, unknown> = rest;
  if (split) document['split'] = encodeSplit(split);
  return { record: Buffer.from(BSON.serialize(document, { ignoreUndefined: true })), ids: packIds(messageIds) };
}

export function unpackWindow({ record, ids }: PackedWindow): WindowRecord {
  const { split, ...rest } = BSON.deserialize(record, { promoteBuffers: true });
  const decoded = decodeSplit(Buffer.isBuffer(split) ? split : undefined);
  return {
    ...(rest as Omit<WindowRecord, 'messageIds'>),
    messageIds: unpackIds(ids),
    ...(decoded && { split: decoded }),
  };
}

export function packProgress(progress: ConsumerProgress): Buffer {
  return Buffer.from(BSON.serialize(progress, { ignoreUndefined: true }));
}

export function unpackProgress(bytes: Buffer | null): ConsumerProgress {
  return bytes === null ? NO_PROGRESS : (BSON.deserialize(bytes) as ConsumerProgress);
}
