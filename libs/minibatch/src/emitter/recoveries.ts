import type { WindowRecord } from '../storage/stream-store.interface.js';
import { begin, failed } from './bisection.js';

/** So many processes may end while they handle a window before it is taken apart. */
export const DEATHS = 3;

/**
 * A window that may have been in its handler when its process ended. A lease that was lost looks the same, so a message is given
 * up only after `DEATHS` of them; to halve a part needs no proof, since nothing is lost by it.
 */
export function afterDeath(record: WindowRecord): WindowRecord {
  const recoveries = record.recoveries + 1;
  const { split } = record;
  const part = split?.pending[0];
  if (!split || !part) {
    if (split || recoveries < DEATHS) return { ...record, recoveries };
    return { ...record, recoveries: 0, split: begin(record.messageIds.length), error: DIED };
  }
  if (part.to - part.from > 1) return { ...record, recoveries, split: failed(split, DIED, undefined) };
  if (recoveries < DEATHS) return { ...record, recoveries };
  // A single message has two tries: it has had them.
  const once = failed(split, DIED, undefined);
  const next = once.failed.length > split.failed.length ? once : failed(once, DIED, undefined);
  return { ...record, recoveries: 0, split: next };
}

const DIED = 'the process ended while it was handled';
