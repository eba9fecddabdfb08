import { mongo } from 'mongoose';
import type { Lease, WindowRecord } from '../stream-store.interface.js';
import { consumerDocumentId } from './consumer-document.js';
import type { WindowDocument } from './schemas/window.schema.js';

/** The fence is that of the claim: a former holder that wakes up and claims the same `seq` meets nobody. */
export function windowDocumentId({ key, fence }: Lease, seq: number): string {
  return `${consumerDocumentId(key)}/${fence}/${seq}`;
}

export function toWindowDocument(lease: Lease, window: WindowRecord): WindowDocument {
  const { seq, id, messageIds, created, start, end, part, late, dropped, attempt, recoveries, nextTry, error } = window;
  return {
    _id: windowDocumentId(lease, seq),
    stream: lease.key.stream,
    created,
    data: [],
    processed: false,
    query: [],
    consumer: consumerDocumentId(lease.key),
    group: lease.key.group,
    partition: lease.key.partition,
    seq,
    windowId: id,
    ids: messageIds.map((messageId) => mongo.ObjectId.createFromHexString(messageId)),
    fence: lease.fence,
    attempt,
    recoveries,
    ...defined({ start, end, part, late, dropped, nextTry, error }),
  };
}

export function toWindowRecord(document: WindowDocument): WindowRecord {
  const { seq, windowId, ids, created, start, end, part, late, dropped, attempt, recoveries, nextTry, error } =
    document;
  return {
    seq,
    id: windowId,
    messageIds: ids.map((id) => id.toHexString()),
    created,
    attempt,
    recoveries,
    ...defined({ start, end, part, late, dropped, nextTry, error }),
  };
}

/** Without the fields that are undefined. */
function defined<T extends object>(fields: T): { [K in keyof T]?: NonNullable<T[K]> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined && value !== null)) as {
    [K in keyof T]?: NonNullable<T[K]>;
  };
}
