import { createdOf, isRedriven, type SweepResult, type SweepTimes } from 'nestjs-minibatch/store';
import { isCleared, removeMessage } from './state.js';
import type { StreamState } from './state-file.js';

/** Removes tombstones, kept messages and kept windows from before the given times. */
export function sweepStream(stream: StreamState, { tombstones, kept }: SweepTimes): SweepResult {
  const swept = { tombstones: 0, messages: 0, windows: 0 };
  if (tombstones) {
    const old = [...stream.dedupe].filter(([, settled]) => settled !== undefined && settled < tombstones);
    for (const [id] of old) stream.dedupe.delete(id);
    swept.tombstones = old.length;
  }
  if (kept) {
    swept.messages = removeWhere(stream.keptMessages, ({ settled }) => settled < kept);
    swept.windows = removeWhere(stream.keptWindows, ({ settled }) => settled < kept);
  }
  return swept;
}

/** Removes the messages from before a time, and those that were cleared, from a stream without groups; returns how many. */
export function expireMessages(stream: StreamState, before: Date | undefined): number {
  if (stream.groups.length > 0) return 0;
  const expired = [...stream.messages.values()].filter((entry) => {
    const isOld = before !== undefined && createdOf(entry.encoded) < before && !isRedriven(entry.encoded);
    return isOld || isCleared(stream, entry);
  });
  for (const entry of expired) removeMessage(stream, entry, new Date());
  return expired.length;
}

/** Removes what matches from the list; returns how many. */
export function removeWhere<E>(list: E[], isRemoved: (element: E) => boolean): number {
  const rest = list.filter((element) => !isRemoved(element));
  const removed = list.length - rest.length;
  list.splice(0, list.length, ...rest);
  return removed;
}
