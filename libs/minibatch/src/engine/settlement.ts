import { counted } from '../common/counted.js';
import type {
  NewDeadLetter,
  RefusedMessages,
  SettledWindow,
  SettleOptions,
} from '../storage/stream-store.interface.js';
import type { LeaseTerm } from './lease-term.js';

/** This many ids are named. */
const MOST = 5;

/** Lets the messages of committed windows leave the buffer. */
export async function settle(
  term: LeaseTerm,
  windows: readonly SettledWindow[],
  more: Pick<SettleOptions, 'groups' | 'closing'>,
): Promise<void> {
  const { definition, lease, parts } = term;
  const options = { keep: definition.keep, at: new Date(parts.clock.now()), ...more };
  const refused = await term.persist('remove committed messages', () => parts.store.settle(lease, windows, options));
  if (!refused) return;
  // Other consumers of the process may have handled some of them.
  parts.log.error(
    `the store refuses to change ${counted(refused.ids.length, 'message')} that consumers have handled: ${refused.reason}. ` +
      staying(refused),
  );
}

/** Stores dead letters. @returns how many were stored; a message may fit into none */
export async function bury(term: LeaseTerm, letters: readonly NewDeadLetter[]): Promise<number> {
  const { definition, counters, lease, parts } = term;
  const refused = await term.persist('store dead letters', () => parts.store.bury(lease, letters));
  const stored = letters.length - (refused ? refused.ids.length : 0);
  counters.deadLettered += stored;
  if (refused) {
    parts.log.error(
      `${definition.label}: gave up ${counted(refused.ids.length, 'message')} of '${definition.key.stream}' and could not store a dead ` +
        `letter: ${refused.reason}. ${staying(refused)}`,
    );
  }
  return stored;
}

function staying({ ids }: RefusedMessages): string {
  return (
    'They stay in the buffer, and this process skips them; after a restart the group gets them once more. Change or remove their ' +
    `documents. The first: ${ids.slice(0, MOST).join(', ')}`
  );
}
