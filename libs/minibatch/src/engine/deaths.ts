import { Bisection } from './bisection.js';
import { type InFlightWindow, takenApart } from './in-flight-window.js';
import type { LeaseTerm } from './lease-term.js';
import { bury } from './settlement.js';

/** How many processes or workers may end while they handle a window before it is taken apart. */
export const DEATHS = 3;
const DIED = 'the process ended while it was handled';

/** When the store is told that a run may end this process. */
export type NotedAt = 'beginning' | 'answer';

/** How a run is noted. */
export interface Note {
  readonly at: NotedAt;
  readonly store: () => Promise<void>;
}

/**
 * Undefined if a run is not noted: that of a fresh window, for the sake of speed. A handler in another process can't end this one, but
 * what becomes of its answer can: hooks and sinks run here. Until then nothing is counted, so that the next holder of the lease
 * asks the executor for the same run.
 */
export function notedAt({ runsElsewhere }: LeaseTerm, open: InFlightWindow): NotedAt | undefined {
  if (runsElsewhere) return open.inherited ? 'answer' : undefined;
  return open.suspect || (open.startedOutOfOrder && open.record.recoveries === 0) ? 'beginning' : undefined;
}

/**
 * What becomes of a window whose handler was begun by processes that did not come to its end. A lease that was lost looks the same
 * as a death, so a message is given up only after `DEATHS` of them, once more than others that fail; to halve a part needs no
 * proof, since nothing is lost by it.
 */
export async function afterDeath(term: LeaseTerm, open: InFlightWindow): Promise<void> {
  const { record, apart } = open;
  if (term.definition.stage && !open.ofRows) return;
  let bisection: Bisection;
  if (!apart) {
    if (record.recoveries < DEATHS) return;
    bisection = Bisection.begin(record.messageIds.length);
    open.apart = takenApart(bisection, DIED);
    term.parts.log.warn(
      `${term.definition.label}: ${DEATHS} processes ended while they handled window ${record.id}; looking for the message that ends them`,
    );
  } else {
    ({ bisection } = apart);
    const part = bisection.tried();
    if (!part) return;
    if (part.to - part.from === 1 && record.recoveries < DEATHS) return;
    if (bisection.failed(part)) await giveUp(term, open, part.from);
  }
  open.record = { ...record, recoveries: 0, error: DIED, split: bisection.state };
}

async function giveUp(term: LeaseTerm, { record, messages }: InFlightWindow, index: number): Promise<void> {
  const { definition, parts } = term;
  const message = messages.find(({ id }) => id === record.messageIds[index]);
  if (!message) return;
  const letter = {
    message,
    window: record.id,
    consumer: definition.label,
    attempts: record.attempt,
    error: DIED,
    died: new Date(parts.clock.now()),
  };
  if ((await bury(term, [letter])) === 0) return;
  parts.log.error(`${definition.label}: gave up a message of window ${record.id}: ${DIED}`);
}
