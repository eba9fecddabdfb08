import { defined } from '../common/defined.js';
import type { WindowRecord } from '../storage/stream-store.interface.js';
import type { InFlightWindow } from './in-flight-window.js';
import type { LeaseTerm } from './lease-term.js';

type Change = Partial<Pick<WindowRecord, 'attempt' | 'recoveries' | 'nextTry' | 'error' | 'split' | 'aside'>>;

/**
 * Stores what a restart resumes from; what is not given is as in a fresh window. The process has come to the end of a handler, so
 * what ended others before does not count any more unless `recoveries` says so.
 */
export async function reschedule(term: LeaseTerm, open: InFlightWindow, change: Change): Promise<void> {
  const { parts, lease } = term;
  const {
    nextTry: _nextTry,
    error: _error,
    split: _split,
    aside: _aside,
    blockedSinks: _blocked,
    ...rest
  } = open.record;
  open.record = { ...rest, recoveries: 0, ...defined(change) };
  await term.persist('store where a window stands', () => parts.store.reschedule(lease, open.record));
}
