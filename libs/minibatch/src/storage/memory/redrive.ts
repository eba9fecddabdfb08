import { asRedriven } from '../encoded-message.js';
import type { DeadLetterFilter } from '../stream-store.interface.js';
import type { MemoryDatabase } from './memory.database.js';

/** Puts the messages of dead letters back into the buffer, each for its own group. Returns how many. */
export function redriveLetters(database: MemoryDatabase, name: string, filter: DeadLetterFilter): number {
  const stream = database.streams.get(name);
  if (stream === undefined) return 0;
  // Letters of a group that is not registered stay.
  const letters = [...stream.letters.select(filter)].filter(({ group }) => stream.groups.has(group));
  for (const letter of letters) {
    const { group, partition, created, encoded } = letter;
    stream.putBack(group, { id: database.nextId(), partition, created, encoded: asRedriven(encoded) });
    stream.letters.delete(letter);
  }
  return letters.length;
}
