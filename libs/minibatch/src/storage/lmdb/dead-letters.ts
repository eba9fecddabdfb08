import { BSON } from 'bson';
import { decodeMessage, encodedOf } from '../encoded-message.js';
import { shownOf } from '../lazy-message.js';
import type { DeadLetter, DeadLetterFilter, Lease, MessageId, NewDeadLetter } from '../stream-store.interface.js';
import { removeLetters } from './dead-letter-removal.js';
import {
  deadLetterCounterOf,
  letterGroupsOf,
  type LetterParts,
  matchingLetters,
  namedLetters,
  type Note,
  readLetter,
  removeLetter,
  saveDeadLetterCounter,
} from './dead-letter-records.js';
import type { LmdbEnvironment } from './environment.js';
import { buriedKey, formatId, type LetterKey, letterKey, parseId } from './keys.js';
import { held } from './leases.js';
import { PRESENT, type StreamRecord } from './records.js';
import { findStream, saveStream } from './stream-records.js';
import type { ReadView, WriteView } from './view.js';

/** A dead letter, encoded. */
export interface PreparedLetter {
  readonly messageId: MessageId;
  readonly died: number;
  readonly value: Buffer;
}

/** Encodes a letter, before the transaction. */
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
  bytes: number = Number.POSITIVE_INFINITY,
): DeadLetter[] {
  const stream = findStream(view, name);
  if (stream === undefined) return [];
  const from = after === undefined ? 0 : (parseId(stream.id, after) ?? 0);
  const numbers = { after: from, ...namedLetters(stream.id, filter) };
  const letters: DeadLetter[] = [];
  if (limit <= 0) return letters;
  let read = 0;
  for (const key of matchingLetters(view, stream, filter, numbers)) {
    const record = view.get(letterKey(key));
    const letter = readLetter(record);
    // A damaged letter does not count: a read without letters means that there are no more.
    if (letter === undefined) continue;
    letters.push(toDeadLetter(stream, key, letter));
    read += record?.length ?? 0;
    if (letters.length >= limit || read >= bytes) break;
  }
  return letters;
}

/** Removes them for good. Resolves with how many. */
export function discardLetters(environment: LmdbEnvironment, name: string, filter: DeadLetterFilter): Promise<number> {
  return removeLetters(environment, name, filter, (view, _, keys) => ({
    seen: keys.length,
    left: keys.filter((key) => removeLetter(view, key)).length,
  }));
}

/**
 * Hands the letters of one group to another, in constant time: only the name that their number stands for changes. So the other group
 * may have several numbers.
 */
export function renameLetterGroup(stream: StreamRecord, from: string, to: string): StreamRecord {
  const { letterGroups } = stream;
  if (!letterGroups?.includes(from)) return stream;
  return { ...stream, letterGroups: letterGroups.map((name) => (name === from ? to : name)) };
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

/** The number that new letters of the group get; it outlives the group, whose own number goes with it. */
function ensureLetterGroup(view: WriteView, stream: StreamRecord, name: string): number {
  const { letterGroups = [] } = stream;
  const known = letterGroups.indexOf(name);
  if (known !== -1) return known;
  saveStream(view, { ...stream, letterGroups: [...letterGroups, name] });
  return letterGroups.length;
}
