import type {
  Commit,
  ConsumerKey,
  Lease,
  ReadWindow,
  Recovery,
  SettledWindow,
  SettleOptions,
  WindowRecord,
} from '../stream-store.interface.js';
import { findPlace, groupNames, saveStream, tailOf, withGroup } from './streams.js';
import { MessageRemoval, type LeavingMessage } from './message-removal.js';
import { keptWindowKey, Kind, parseId, placeKey, placeSeqKey, prefixRange } from './keys.js';
import { consumerAt, held, saveConsumer } from './leases.js';
import { decodeWindow, encodeWindow, soundWindow } from './records.js';
import type { ReadView, WriteView } from './view.js';

/**
 * Claim, commit point and what follows it. Each looks at the lease in its own transaction: a process that has lost it changes
 * nothing, so there are no void windows here, and adopting them is no more than reading them.
 */

export function recover(view: ReadView, lease: Lease): Recovery {
  const { stream, place, consumer } = held(view, lease);
  const finishedSeqs = new Set(consumer.finished);
  const finished: WindowRecord[] = [];
  const open: WindowRecord[] = [];
  const { lastSeq } = tailOf(view, stream.id);
  // By number, as their keys are.
  for (const { value } of view.entries(prefixRange(placeKey(Kind.Window, place)))) {
    const window = decodeWindow(stream.id, value, lastSeq);
    (finishedSeqs.has(window.seq) ? finished : open).push(window);
  }
  return { progress: consumer.progress, finished, open, groups: groupNames(stream) };
}

/** As a look from outside finds them. What is damaged is passed over: it is the consumer's business. */
export function claimed(view: ReadView, key: ConsumerKey): ReadWindow[] {
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

/** A damaged one is passed over, so that others can be found behind it. */
export function find(view: ReadView, key: ConsumerKey, window: string): WindowRecord | undefined {
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

export function claim(view: WriteView, lease: Lease, windows: readonly WindowRecord[]): void {
  const { stream, place } = held(view, lease);
  for (const window of windows) {
    view.put(placeSeqKey(Kind.Window, place, window.seq), encodeWindow(stream.id, window));
  }
}

export function commit(view: WriteView, lease: Lease, { finished, progress }: Commit): string[] {
  const { stream, place, consumer } = held(view, lease);
  saveConsumer(view, place, { ...consumer, counter: consumer.counter + 1, finished: [...finished], progress });
  return groupNames(stream);
}

export function settle(
  view: WriteView,
  lease: Lease,
  windows: readonly SettledWindow[],
  { groups, keep }: SettleOptions,
  now: number,
): void {
  const { stream, place } = held(view, lease);
  const group = stream.groups.find(({ id }) => id === place.group);
  if (group !== undefined && group.keeps !== keep) saveStream(view, withGroup(stream, place.group, { keeps: keep }));
  const removal = new MessageRemoval(view, stream, place.partition, now);
  removal.done(place.group, leaving(stream.id, windows), new Set(groups), keep);
  removal.finish();
  for (const { window } of windows) {
    const key = placeSeqKey(Kind.Window, place, window.seq);
    const value = keep ? view.get(key) : undefined;
    view.remove(key);
    if (value !== undefined) view.put(keptWindowKey(place, now, window.seq), value);
  }
}

export function reschedule(view: WriteView, lease: Lease, window: WindowRecord): void {
  const { stream, place } = held(view, lease);
  const key = placeSeqKey(Kind.Window, place, window.seq);
  if (view.has(key)) view.put(key, encodeWindow(stream.id, window));
}

function* leaving(stream: number, windows: readonly SettledWindow[]): Generator<LeavingMessage> {
  for (const { messages } of windows) {
    for (const { id, created, deduped, redriven } of messages) {
      const seq = parseId(stream, id);
      if (seq !== undefined) yield { seq, created, deduped: deduped === true, redriven: redriven === true };
    }
  }
}
