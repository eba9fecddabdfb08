import { decodeMessage } from '../encoded-message.js';
import { shownOf } from '../lazy-message.js';
import type { DeadLetter, DeadLetterFilter, Lease, NewDeadLetter } from '../stream-store.interface.js';
import type { DeadLetterEntry } from './dead-letter-list.js';
import { held } from './leases.js';
import type { MemoryDatabase } from './memory.database.js';

/** @throws LeaseLost */
export function bury(database: MemoryDatabase, lease: Lease, letters: readonly NewDeadLetter[]): void {
  const { stream } = held(database, lease);
  for (const letter of letters) stream.letters.add(lease.key, letter, () => database.nextId());
}

export function listLetters(
  database: MemoryDatabase,
  stream: string,
  filter: DeadLetterFilter,
  after: string | undefined,
  limit: number,
  bytes: number = Number.POSITIVE_INFINITY,
): DeadLetter[] {
  const found: DeadLetter[] = [];
  let read = 0;
  for (const letter of database.streams.get(stream)?.letters.select(filter, after) ?? []) {
    if (found.length >= limit || read >= bytes) break;
    found.push(toDeadLetter(stream, letter));
    read += letter.encoded.length;
  }
  return found;
}

/** Removes them for good. Returns how many. */
export function discardLetters(database: MemoryDatabase, stream: string, filter: DeadLetterFilter): number {
  const list = database.streams.get(stream)?.letters;
  const letters = [...(list?.select(filter) ?? [])];
  for (const letter of letters) list?.delete(letter);
  return letters.length;
}

function toDeadLetter(stream: string, letter: DeadLetterEntry): DeadLetter {
  const { id, group, messageId, encoded, note, died } = letter;
  const message = decodeMessage(messageId, encoded);
  return {
    id,
    stream,
    group,
    messageId,
    created: message.created,
    ...shownOf(() => message.read()),
    ...note,
    died: new Date(died),
  };
}
