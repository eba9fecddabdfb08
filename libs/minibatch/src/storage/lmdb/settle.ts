import type { Lease, SettledWindow, SettleOptions } from '../stream-store.interface.js';
import { keptWindowKey, Kind, parseId, placeSeqKey } from './keys.js';
import { held } from './leases.js';
import { type LeavingMessage, MessageRemoval } from './message-removal.js';
import { saveStream, withGroup } from './stream-records.js';
import type { WriteView } from './view.js';

/** What follows the commit point: messages and windows leave, or are kept. @throws LeaseLost */
export function settle(
  view: WriteView,
  lease: Lease,
  windows: readonly SettledWindow[],
  { groups, keep, at }: SettleOptions,
): void {
  const now = at?.getTime() ?? Date.now();
  const { stream, place } = held(view, lease);
  const group = stream.groups.find(({ id }) => id === place.group);
  if (group?.keeps !== keep) saveStream(view, withGroup(stream, place.group, { keeps: keep }));
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

function* leaving(stream: number, windows: readonly SettledWindow[]): Generator<LeavingMessage> {
  for (const { messages } of windows) {
    for (const { id, created, deduped, redriven } of messages) {
      const seq = parseId(stream, id);
      if (seq !== undefined) yield { seq, created, deduped: deduped === true, redriven: redriven === true };
    }
  }
}
