import { mongo } from 'mongoose';
import type { Lease, MessageId, WindowRecord } from '../stream-store.interface.js';
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
    seq,
    windowId: id,
    ids: packIds(messageIds),
    fence: lease.fence,
    ...(attempt > 1 && { attempt }),
    ...(recoveries > 0 && { recoveries }),
    ...defined({ start, end, part, late, dropped, nextTry, error, split }),
  };
}

export function toWindowRecord(document: WindowDocument): WindowRecord {
  const { seq, windowId, ids, created, start, end, part, late, dropped, nextTry, error, split } = document;
  const { attempt = 1, recoveries = 0 } = document;
  return {
    seq,
    id: windowId,
    messageIds: unpackIds(ids),
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

/** Hexadecimal digits of an id. */
const ID_DIGITS = 24;

/** One value behind the other: shorter than an array of them, and one value in place of many for driver and server. */
function packIds(ids: readonly MessageId[]): mongo.Binary {
  return new mongo.Binary(Buffer.from(ids.join(''), 'hex'));
}

function unpackIds(packed: mongo.Binary): MessageId[] {
  const digits = packed.toString('hex');
  return Array.from({ length: digits.length / ID_DIGITS }, (_, index) =>
    digits.slice(index * ID_DIGITS, (index + 1) * ID_DIGITS),
  );
}

/** Without the fields that are undefined. */
function defined<T extends object>(fields: T): { [K in keyof T]?: NonNullable<T[K]> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined && value !== null)) as {
    [K in keyof T]?: NonNullable<T[K]>;
  };
}
