import type { DeadLetterFilter } from '../stream-store.interface.js';
import {
  deadLetterCounterOf,
  type LetterNumbers,
  matchingLetters,
  namedLetters,
  saveDeadLetterCounter,
} from './dead-letter-records.js';
import type { LmdbEnvironment } from './environment.js';
import type { LetterKey } from './keys.js';
import type { StreamRecord } from './records.js';
import { findStream } from './stream-records.js';
import type { ReadView, WriteView } from './view.js';

/**
 * How dead letters leave: back into the buffer, or for good. Read transactions, which block nobody, find them; as many write
 * transactions as needed remove them. Each of these moves its letters as a whole, so that neither a crash nor another process at the
 * same work loses or duplicates a message.
 */

/** Letters that one read transaction picks. */
const CHUNK = 1_000;

/** What one transaction did: how many letters it examined, and how many of them left. */
export interface Step {
  readonly seen: number;
  readonly left: number;
}

export async function removeLetters(
  environment: LmdbEnvironment,
  name: string,
  filter: DeadLetterFilter,
  remove: (view: WriteView, stream: StreamRecord, keys: readonly LetterKey[]) => Step,
): Promise<number> {
  const first = environment.read((view) => {
    const stream = findStream(view, name);
    return (
      stream && {
        stream: stream.id,
        until: deadLetterCounterOf(view, stream.id).last,
        ...namedLetters(stream.id, filter),
      }
    );
  });
  if (first === undefined) return 0;
  // Stops at the letter that was last at the start: a message that is redriven and dies again gets a later number.
  const { stream: id, ...numbers } = first;
  let after = 0;
  let total = 0;
  for (;;) {
    const from = after;
    const keys = environment.read((view) => {
      const stream = sameStream(view, name, id);
      return stream === undefined ? [] : pickLetters(view, stream, filter, { ...numbers, after: from }, CHUNK);
    });
    const last = keys.at(-1);
    if (last === undefined) return total;
    for (let at = 0; at < keys.length;) {
      const rest = keys.slice(at);
      const { seen, left } = await environment.write((view): Step => {
        const stream = sameStream(view, name, id);
        if (stream === undefined) return { seen: rest.length, left: 0 };
        const step = remove(view, stream, rest);
        const counter = deadLetterCounterOf(view, id);
        if (step.left > 0) saveDeadLetterCounter(view, id, { ...counter, count: counter.count - step.left });
        return step;
      });
      at += seen;
      total += left;
    }
    after = last.number;
  }
}

/** Keys of letters that match, at most `limit`. */
function pickLetters(
  view: ReadView,
  stream: StreamRecord,
  filter: DeadLetterFilter,
  numbers: LetterNumbers,
  limit: number,
): LetterKey[] {
  const picked: LetterKey[] = [];
  if (limit <= 0) return picked;
  for (const key of matchingLetters(view, stream, filter, numbers)) if (picked.push(key) >= limit) break;
  return picked;
}

/** Undefined if it was dropped meanwhile, even if it was created again. */
function sameStream(view: ReadView, name: string, id: number): StreamRecord | undefined {
  const stream = findStream(view, name);
  return stream?.id === id ? stream : undefined;
}
