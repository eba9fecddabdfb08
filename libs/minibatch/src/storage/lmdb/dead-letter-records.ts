import { BSON } from 'bson';
import { isIntact } from '../encoded-message.js';
import type { DeadLetterFilter, NewDeadLetter } from '../stream-store.interface.js';
import { buriedKey, Kind, type LetterKey, letterKey, letterRange, parseId, parseLetterKey, streamKey } from './keys.js';
import {
  type DeadLetterCounter,
  decodeDeadLetterCounter,
  encodeDeadLetterCounter,
  type StreamRecord,
} from './records.js';
import type { ReadView, WriteView } from './view.js';

/**
 * How dead letters are stored. Everything that a filter asks for is in their key, so that selecting some does not read the messages of
 * the rest. The value is a BSON note about the failure, followed by the message as the buffer had it.
 */

/** Letters with `after` < number ≤ `until`, and of those only the given numbers, in ascending order. */
export interface LetterNumbers {
  readonly after: number;
  readonly until?: number;
  readonly only?: readonly number[];
}

/** The length and the closing zero. */
const EMPTY_BSON = 5;

export interface LetterParts {
  readonly note: Note;
  readonly message: Buffer;
}

export type Note = Pick<NewDeadLetter, 'window' | 'consumer' | 'attempts' | 'error' | 'stack'>;

/** Keys of the letters that match, in order. */
export function* matchingLetters(
  view: ReadView,
  stream: StreamRecord,
  { group, before }: DeadLetterFilter,
  numbers: LetterNumbers,
): Generator<LetterKey> {
  const wanted = group === undefined ? undefined : letterGroupsOf(stream, group);
  if (wanted?.length === 0) return;
  for (const key of candidates(view, stream.id, numbers)) {
    if (wanted?.includes(key.group) === false) continue;
    if (before !== undefined && key.died >= before.getTime()) continue;
    yield key;
  }
}

/** The numbers of the letters that the filter names, in order. */
export function namedLetters(stream: number, { ids }: DeadLetterFilter): Pick<LetterNumbers, 'only'> {
  if (ids === undefined) return {};
  const numbers = ids.map((id) => parseId(stream, id)).filter((number) => number !== undefined);
  return { only: [...new Set(numbers)].sort((a, b) => a - b) };
}

/** False if the letter is not there any more. */
export function removeLetter(view: WriteView, key: LetterKey): boolean {
  if (!view.remove(letterKey(key))) return false;
  view.remove(buriedKey(key, key.seq));
  return true;
}

/** The parts of a letter, the message as the buffer has it; undefined if it is not there or damaged. */
export function readLetter(value: Buffer | undefined): LetterParts | undefined {
  if (value === undefined || value.length < EMPTY_BSON) return undefined;
  // BSON begins with its own length.
  const length = value.readInt32LE(0);
  if (length < EMPTY_BSON || length >= value.length) return undefined;
  const message = value.subarray(length);
  if (!isIntact(message)) return undefined;
  try {
    const note = BSON.deserialize(value.subarray(0, length)) as Partial<Note>;
    return isNote(note) ? { note, message } : undefined;
  } catch {
    return undefined;
  }
}

function isNote(note: Partial<Note>): note is Note {
  const { window, consumer, attempts, error, stack } = note;
  return (
    [window, consumer, error, stack ?? ''].every((text) => typeof text === 'string') && typeof attempts === 'number'
  );
}

export function deadLetterCounterOf(view: ReadView, stream: number): DeadLetterCounter {
  return decodeDeadLetterCounter(view.get(streamKey(Kind.DeadLetterCounter, stream)));
}

export function saveDeadLetterCounter(view: WriteView, stream: number, counter: DeadLetterCounter): void {
  view.put(streamKey(Kind.DeadLetterCounter, stream), encodeDeadLetterCounter(counter));
}

/** The numbers that letters of the group have. */
export function letterGroupsOf({ letterGroups = [] }: StreamRecord, name: string): number[] {
  return [...letterGroups.keys()].filter((number) => letterGroups[number] === name);
}

function* candidates(view: ReadView, stream: number, { after, until, only }: LetterNumbers): Generator<LetterKey> {
  if (only === undefined) {
    for (const key of view.keys(letterRange(stream, after, until))) yield parseLetterKey(key);
    return;
  }
  for (const number of only) {
    if (number <= after || (until !== undefined && number > until)) continue;
    for (const key of view.keys(letterRange(stream, number - 1, number), 1)) yield parseLetterKey(key);
  }
}
