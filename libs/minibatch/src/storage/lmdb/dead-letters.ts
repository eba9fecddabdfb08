import { BSON } from 'bson';
import { decodeMessage, encodedOf, isIntact } from '../encoded-message.js';
import { shownOf } from '../lazy-message.js';
import type { DeadLetter, DeadLetterFilter, Lease, MessageId, NewDeadLetter } from '../stream-store.interface.js';
import { findStream, saveStream } from './streams.js';
import {
  buriedKey,
  formatId,
  Kind,
  type LetterKey,
  letterKey,
  letterRange,
  parseId,
  parseLetterKey,
  streamKey,
} from './keys.js';
import { held } from './leases.js';
import {
  decodeDeadLetterCounter,
  encodeDeadLetterCounter,
  PRESENT,
  type StreamRecord,
  type DeadLetterCounter,
} from './records.js';
import type { ReadView, WriteView } from './view.js';

/**
 * Dead letters. All that they are picked by is in their key, so that looking for some does not read the messages of the rest.
 * The value is BSON of what is known of the death, then the message as it lies in the buffer.
 */

/** A letter ready to be written. */
export interface PreparedLetter {
  readonly messageId: MessageId;
  readonly died: number;
  readonly value: Buffer;
}

/** Letters with `after` < number ≤ `until`, and of those only the given numbers, which are in order. */
export interface LetterNumbers {
  readonly after: number;
  readonly until?: number;
  readonly only?: readonly number[];
}

/** The length and the closing zero. */
const EMPTY_BSON = 5;

interface LetterParts {
  readonly note: Note;
  readonly message: Buffer;
}

type Note = Pick<NewDeadLetter, 'window' | 'consumer' | 'attempts' | 'error' | 'stack'>;

/** Before the transaction. */
export function prepareLetter({
  window,
  consumer,
  attempts,
  error,
  stack,
  died,
  message,
}: NewDeadLetter): PreparedLetter {
  const note: Note = { window, consumer, attempts, error, ...(stack !== undefined && { stack }) };
  return {
    messageId: message.id,
    died: died.getTime(),
    value: Buffer.concat([BSON.serialize(note), encodedOf(message)]),
  };
}

/** @throws LeaseLost */
export function bury(view: WriteView, lease: Lease, prepared: readonly PreparedLetter[]): void {
  const { stream } = held(view, lease);
  const { partition } = lease.key;
  const group = ensureLetterGroup(view, stream, lease.key.group);
  const others = letterGroupsOf(stream, lease.key.group).filter((other) => other !== group);
  let { last, count } = deadLetterCounterOf(view, stream.id);
  for (const { messageId, died, value } of prepared) {
    const seq = parseId(stream.id, messageId);
    // One of an earlier stream of the same name went with it.
    if (seq === undefined) continue;
    if (others.some((other) => view.has(buriedKey({ stream: stream.id, group: other, partition }, seq)))) continue;
    if (!view.add(buriedKey({ stream: stream.id, group, partition }, seq), PRESENT)) continue;
    last += 1;
    count += 1;
    view.put(letterKey({ stream: stream.id, number: last, group, partition, died, seq }), value);
  }
  saveDeadLetterCounter(view, stream.id, { last, count });
}

export function listLetters(
  view: ReadView,
  name: string,
  filter: DeadLetterFilter,
  after: string | undefined,
  limit: number,
): DeadLetter[] {
  const stream = findStream(view, name);
  if (stream === undefined) return [];
  const from = after === undefined ? 0 : (parseId(stream.id, after) ?? 0);
  const numbers = { after: from, ...namedLetters(stream.id, filter) };
  const letters: DeadLetter[] = [];
  if (limit <= 0) return letters;
  for (const key of matching(view, stream, filter, numbers)) {
    const letter = readLetter(view.get(letterKey(key)));
    // A full page must mean that there may be more, so damaged letters do not count towards it.
    if (letter !== undefined && letters.push(toDeadLetter(stream, key, letter)) >= limit) break;
  }
  return letters;
}

/** Keys of letters that match, at most `limit`. */
export function pickLetters(
  view: ReadView,
  stream: StreamRecord,
  filter: DeadLetterFilter,
  numbers: LetterNumbers,
  limit: number,
): LetterKey[] {
  const picked: LetterKey[] = [];
  if (limit <= 0) return picked;
  for (const key of matching(view, stream, filter, numbers)) if (picked.push(key) >= limit) break;
  return picked;
}

function* matching(
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

function toDeadLetter(
  stream: StreamRecord,
  { number, group, died, seq }: LetterKey,
  { note, message: encoded }: LetterParts,
): DeadLetter {
  const { window, consumer, attempts, error, stack } = note;
  const messageId = formatId(stream.id, seq);
  const message = decodeMessage(messageId, encoded);
  return {
    id: formatId(stream.id, number),
    stream: stream.name,
    group: stream.letterGroups?.[group] ?? '',
    messageId,
    created: message.created,
    ...shownOf(() => message.read()),
    window,
    consumer,
    attempts,
    error,
    ...(stack !== undefined && { stack }),
    died: new Date(died),
  };
}

/**
 * Letters of one group become another's, however many they are: only the name that their number stands for is another one. So the
 * other group may have several numbers.
 */
export function renameLetterGroup(stream: StreamRecord, from: string, to: string): StreamRecord {
  const { letterGroups } = stream;
  if (!letterGroups?.includes(from)) return stream;
  return { ...stream, letterGroups: letterGroups.map((name) => (name === from ? to : name)) };
}

/** The numbers that letters of the group have. */
function letterGroupsOf({ letterGroups = [] }: StreamRecord, name: string): number[] {
  return [...letterGroups.keys()].filter((number) => letterGroups[number] === name);
}

/** The number that new letters of the group get; it outlives the group, whose own number goes with it. */
function ensureLetterGroup(view: WriteView, stream: StreamRecord, name: string): number {
  const { letterGroups = [] } = stream;
  const known = letterGroups.indexOf(name);
  if (known !== -1) return known;
  saveStream(view, { ...stream, letterGroups: [...letterGroups, name] });
  return letterGroups.length;
}
