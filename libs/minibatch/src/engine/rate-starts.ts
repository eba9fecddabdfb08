import { stopSignal, type InFlightWindow } from './in-flight-window.js';
import type { LeaseTerm } from './lease-term.js';

/**
 * Waits until the rate limit lets the next run of a window begin, and stores that it is about to: otherwise a process that dies
 * with it would leave no trace of what it called. Resolves with false if the consumer is closing or the window was given up meanwhile.
 */
export async function admit(term: LeaseTerm, open: InFlightWindow, messages: number): Promise<boolean> {
  const { limiter, closing } = term;
  // It may have been admitted without its handler having been called.
  if (!limiter || open.admission) return true;
  open.admission = await limiter.admit(messages, stopSignal(open, closing));
  if (!open.admission) return false;
  await store(term, open);
  return true;
}

/**
 * The handler of a window is called now. If that took longer than the stored time allows for, the time is stored again
 * while the handler runs; the promise resolves when it is. The next write of the window has to wait for it.
 */
export function begins(term: LeaseTerm, open: InFlightWindow): Promise<void> | undefined {
  const { admission } = open;
  if (!admission) return undefined;
  open.admission = undefined;
  if (!term.limiter?.begin(admission)) return undefined;
  // It fails only when the term is over, and then nothing follows from it.
  return store(term, open).catch(() => undefined);
}

/** No run of the window begins any more. */
export function withdraw({ limiter }: LeaseTerm, open: InFlightWindow): void {
  if (open.admission) limiter?.withdraw(open.admission);
  open.admission = undefined;
}

async function store(term: LeaseTerm, open: InFlightWindow): Promise<void> {
  const { limiter, parts, lease } = term;
  if (!limiter) return;
  open.record = { ...open.record, starts: limiter.stored() };
  await term.persist('note a start for the rate limit', () => parts.store.reschedule(lease, open.record));
}
