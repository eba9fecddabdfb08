import type { Lease, Recovery, WindowRecord } from '../stream-store.interface.js';
import { Kind, placeKey, placeSeqKey, prefixRange } from './keys.js';
import { held } from './leases.js';
import { decodeWindow, encodeWindow } from './records.js';
import { groupNames, tailOf } from './stream-records.js';
import type { ReadView, WriteView } from './view.js';

/**
 * Claims of windows. Each call checks the lease in its own transaction, so a process that has lost it changes nothing: no window is
 * ever void here, and adopting windows is no more than reading them.
 */

export function recover(view: ReadView, lease: Lease): Recovery {
  const { stream, place, consumer } = held(view, lease);
  const finishedSeqs = new Set(consumer.finished);
  const finished: WindowRecord[] = [];
  const open: WindowRecord[] = [];
  const { lastSeq } = tailOf(view, stream.id);
  // In the order of their keys, which is that of `seq`.
  for (const { value } of view.entries(prefixRange(placeKey(Kind.Window, place)))) {
    const window = decodeWindow(stream.id, value, lastSeq);
    (finishedSeqs.has(window.seq) ? finished : open).push(window);
  }
  return { progress: consumer.progress, finished, open, groups: groupNames(stream) };
}

export function claim(view: WriteView, lease: Lease, windows: readonly WindowRecord[]): void {
  const { stream, place } = held(view, lease);
  for (const window of windows) {
    view.put(placeSeqKey(Kind.Window, place, window.seq), encodeWindow(stream.id, window));
  }
}

export function reschedule(view: WriteView, lease: Lease, window: WindowRecord): void {
  const { stream, place } = held(view, lease);
  const key = placeSeqKey(Kind.Window, place, window.seq);
  if (view.has(key)) view.put(key, encodeWindow(stream.id, window));
}
