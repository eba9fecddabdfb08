import type {
  Block,
  ConsumerKey,
  FetchLimits,
  MessageId,
  ReadWindow,
  WindowPage,
  WindowRecord,
} from '../stream-store.interface.js';
import { keptMessage } from './kept-messages.js';
import { keptAtRange, Kind, parseKeptWindowKey, placeKey, prefixRange, seqOf, streamKey } from './keys.js';
import { consumerAt } from './leases.js';
import { BlockBuilder, seqAfter } from './reads.js';
import { soundWindow } from './records.js';
import { findPlace, findStream, tailOf } from './stream-records.js';
import type { ReadView } from './view.js';

/** Reading windows and kept messages: read-only, and without a lease. */

/** Keys that one page examines to find windows of a group. */
const EXAMINED = 5_000;

export function readWindows(
  view: ReadView,
  key: ConsumerKey,
  state: 'claimed' | 'kept',
  after: string | undefined,
  limit: number,
): WindowPage {
  return state === 'kept' ? keptWindows(view, key, after, limit) : { windows: claimedWindows(view, key) };
}

/** Passes over damaged windows, so that others can be found after them. */
export function findWindow(view: ReadView, key: ConsumerKey, window: string): WindowRecord | undefined {
  const found = findPlace(view, key);
  if (!found) return undefined;
  const { stream, place } = found;
  const { lastSeq } = tailOf(view, stream.id);
  for (const { value } of view.entries(prefixRange(placeKey(Kind.Window, place)))) {
    const record = soundWindow(stream.id, value, lastSeq);
    if (record?.id === window) return record;
  }
  return undefined;
}

export function readKept(view: ReadView, name: string, after: MessageId | undefined, limits: FetchLimits): Block {
  const stream = findStream(view, name);
  if (stream === undefined) return { messages: [], full: false };
  const block = new BlockBuilder({ ...stream, clearedTo: 0 }, limits);
  for (const { key, value } of view.entries(keptAtRange(stream.id, seqAfter(stream, after)))) {
    const seq = seqOf(key);
    const encoded = keptMessage(view, stream.id, seq, value);
    if (encoded !== undefined && block.add(seq, encoded)) return block.full();
  }
  return block.ended();
}

/** Claimed windows, as a reader without a lease sees them. Damaged ones are passed over: they are for the consumer to report. */
function claimedWindows(view: ReadView, key: ConsumerKey): ReadWindow[] {
  const found = findPlace(view, key);
  if (!found) return [];
  const { stream, place } = found;
  const { lastSeq } = tailOf(view, stream.id);
  const finished = new Set(consumerAt(view, stream, place).finished);
  const windows: ReadWindow[] = [];
  for (const { value } of view.entries(prefixRange(placeKey(Kind.Window, place)))) {
    const window = soundWindow(stream.id, value, lastSeq);
    if (window) windows.push(finished.has(window.seq) ? { ...window, finished: true } : window);
  }
  return windows;
}

/** In the order of their commits. */
function keptWindows(view: ReadView, key: ConsumerKey, after: string | undefined, limit: number): WindowPage {
  const found = findPlace(view, key);
  if (!found) return { windows: [] };
  const { stream, place } = found;
  const { lastSeq } = tailOf(view, stream.id);
  const range = prefixRange(streamKey(Kind.KeptWindow, stream.id));
  // After the last key examined: with a zero appended it is the least greater key.
  const start = after === undefined ? range.start : Buffer.concat([Buffer.from(after, 'hex'), Buffer.from([0])]);
  const windows: ReadWindow[] = [];
  let examined = 0;
  for (const at of view.keys({ ...range, start })) {
    examined += 1;
    const { settled, place: of } = parseKeptWindowKey(at);
    if (of.group === place.group && of.partition === place.partition) {
      const value = view.get(at);
      const window = value && soundWindow(stream.id, value, lastSeq);
      if (window) windows.push({ ...window, settled: new Date(settled) });
    }
    if (windows.length >= limit || examined >= EXAMINED) return { windows, next: at.toString('hex') };
  }
  return { windows };
}
