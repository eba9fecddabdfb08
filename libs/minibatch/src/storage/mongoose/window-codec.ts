import { mongo } from 'mongoose';
import type { Lease, WindowRecord } from '../stream-store.interface.js';
import { consumerDocumentId } from './consumer-document.js';
import type { WindowDocument } from './schemas/window.schema.js';

/** The fence is that of the claim: a former holder that wakes up and claims the same `seq` meets nobody. */
export function windowDocumentId({ key, fence }: Lease, seq: number): string {
  return `${consumerDocumentId(key)}/${fence}/${seq}`;
}

export function toWindowDocument(lease: Lease, window: WindowRecord): WindowDocument {
  const { seq, id, messageIds, created, start, end, part, late, dropped, attempt, recoveries, nextTry, error, split } =
    window;
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
    ...defined({ start, end, part, late, dropped, nextTry, error, split }),
  };
}

export function toWindowRecord(document: WindowDocument): WindowRecord {
  const { seq, windowId, ids, created, start, end, part, late, dropped, attempt, recoveries, nextTry, error, split } =
    document;
  return {
    seq,
    id: windowId,
    messageIds: ids.map((id) => id.toHexString()),
    created,
    attempt,
    recoveries,
    ...defined({ start, end, part, late, dropped, nextTry, error, split }),
  };
}

/** What is absent is removed; without anything to remove there is no `$unset`, which older servers refuse when it is empty. */
export function toReschedule({
  attempt,
  recoveries,
  nextTry,
  error,
  split,
}: WindowRecord): mongo.UpdateFilter<WindowDocument> {
  const optional = { nextTry, error, split };
  const present = defined(optional);
  const absent = Object.keys(optional).filter((field) => !(field in present));
  return {
    $set: { attempt, recoveries, ...present },
    ...(absent.length > 0 && { $unset: Object.fromEntries(absent.map((field) => [field, ''] as const)) }),
  };
}

/** Without the fields that are undefined. */
function defined<T extends object>(fields: T): { [K in keyof T]?: NonNullable<T[K]> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined && value !== null)) as {
    [K in keyof T]?: NonNullable<T[K]>;
  };
}
