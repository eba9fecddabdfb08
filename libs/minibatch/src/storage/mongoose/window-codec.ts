import { mongo } from 'mongoose';
import { defined } from '../../common/defined.js';
import type { Lease, MessageId, WindowRecord } from '../stream-store.interface.js';
import { decodeSplit, encodeSplit } from '../split-codec.js';
import { consumerDocumentId } from './consumer-document.js';
import type { ClaimedWindow, WindowDocument } from './schemas/window.schema.js';

/** Limits of the windows in one document, and of their messages and rows. They are likely to be committed together. */
const SHARED_WINDOWS = 100;
const SHARED_PARTS = 2_000;

/** With the fence of the claim: a former holder that wakes up and claims the same `seq` writes another document. */
export function windowDocumentId({ key, fence }: Lease, seq: number): string {
  return `${consumerDocumentId(key)}/${fence}/${seq}`;
}

/** Groups the windows that are written into one document, in order. */
export function toShares(windows: readonly WindowRecord[]): (readonly WindowRecord[])[] {
  const shares: WindowRecord[][] = [];
  let parts = 0;
  for (const window of windows) {
    const share = shares.at(-1);
    parts += partsOf(window);
    const fits = share && share.length < SHARED_WINDOWS && parts <= SHARED_PARTS && areAlike(window, share[0]);
    if (fits) {
      share.push(window);
    } else {
      shares.push([window]);
      parts = partsOf(window);
    }
  }
  return shares;
}

function partsOf({ messageIds, slots = [] }: WindowRecord): number {
  return messageIds.length + slots.length;
}

/** True if the windows agree in everything that the document says of them together. */
function areAlike(window: WindowRecord, first: WindowRecord | undefined): boolean {
  return first !== undefined && isFresh(window) && isFresh(first) && +window.created === +first.created;
}

function isFresh(window: WindowRecord): boolean {
  return window.attempt === 1 && window.recoveries === 0 && Object.keys(stateOf(window)).length === 0;
}

/** Fields of a window that has failed. */
function stateOf({ nextTry, error, split, aside, blockedSinks, starts }: WindowRecord) {
  return defined({ nextTry, error, aside, blockedSinks, starts, apart: split && new mongo.Binary(encodeSplit(split)) });
}

export function toWindowDocument(lease: Lease, window: WindowRecord): WindowDocument {
  const { attempt, recoveries } = window;
  return {
    ...envelope(lease, windowDocumentId(lease, window.seq), window.created),
    ...toClaimedWindow(window),
    ...(attempt > 1 && { attempt }),
    ...(recoveries > 0 && { recoveries }),
    ...stateOf(window),
  };
}

export function toSharedDocument(lease: Lease, windows: readonly WindowRecord[]): WindowDocument {
  const [first] = windows;
  const last = windows.at(-1);
  if (!first || !last) throw new RangeError('a claim without windows');
  return {
    ...envelope(lease, `${windowDocumentId(lease, first.seq)}-${last.seq}`, first.created),
    windows: windows.map(toClaimedWindow),
  };
}

function envelope({ key, fence }: Lease, _id: string, created: Date) {
  const consumer = consumerDocumentId(key);
  return { _id, stream: key.stream, created, data: [], processed: false, query: [], consumer, fence };
}

function toClaimedWindow({ seq, id, messageIds, ...rest }: WindowRecord): ClaimedWindow {
  const { start, end, part, late, dropped, key, slots } = rest;
  return { seq, windowId: id, ids: packIds(messageIds), ...defined({ start, end, part, late, dropped, key, slots }) };
}

/** False for other documents: other programs may write into the collection. */
export function isWindow({ _id, seq, ids, windows }: WindowDocument): boolean {
  return typeof _id === 'string' && (Array.isArray(windows) || (typeof seq === 'number' && ids !== undefined));
}

/** The windows of a document, whether it holds one or several. */
export function toWindowRecords(document: WindowDocument): WindowRecord[] {
  const { created, attempt = 1, recoveries = 0, nextTry, error, aside, blockedSinks, starts, apart } = document;
  if (document.windows) {
    return document.windows.map((window) => ({ ...fromClaimedWindow(window), created, attempt: 1, recoveries: 0 }));
  }
  const split = apart && decodeSplit(apart.buffer);
  const state = { created, attempt, recoveries, ...defined({ nextTry, error, aside, blockedSinks, starts, split }) };
  // A document of one window has all of these fields.
  return [{ ...fromClaimedWindow(document as ClaimedWindow), ...state }];
}

function fromClaimedWindow({ seq, windowId, ids, ...rest }: ClaimedWindow) {
  const { start, end, part, late, dropped, key, slots } = rest;
  return { seq, id: windowId, messageIds: unpackIds(ids), ...defined({ start, end, part, late, dropped, key, slots }) };
}

/** Earlier versions wrote `split` and did not know `apart`: a version that finds only the other field starts the bisection again. */
const STATE_FIELDS = ['nextTry', 'error', 'aside', 'blockedSinks', 'starts', 'apart', 'split'];

/** Fields that are absent from the window are removed. */
export function toReschedule(window: WindowRecord): mongo.UpdateFilter<WindowDocument> {
  const { attempt, recoveries } = window;
  const present = stateOf(window);
  const absent = STATE_FIELDS.filter((field) => !(field in present));
  return {
    $set: { attempt, recoveries, ...present },
    $unset: Object.fromEntries(absent.map((field) => [field, ''] as const)),
  };
}

/** Hexadecimal digits of an id. */
const ID_DIGITS = 24;

/** One value instead of an array: it is shorter and faster for driver and server. */
function packIds(ids: readonly MessageId[]): mongo.Binary {
  return new mongo.Binary(Buffer.from(ids.join(''), 'hex'));
}

function unpackIds(packed: mongo.Binary): MessageId[] {
  const digits = packed.toString('hex');
  return Array.from({ length: digits.length / ID_DIGITS }, (_, index) =>
    digits.slice(index * ID_DIGITS, (index + 1) * ID_DIGITS),
  );
}
