import { asReplayed, createdOf, isIntact } from '../encoded-message.js';
import type { KeptRange, MessageId } from '../stream-store.interface.js';
import { findStream } from './stream-records.js';
import type { LmdbEnvironment } from './environment.js';
import {
  formatId,
  keptAtKey,
  keptAtRange,
  messageKey,
  parseId,
  type Place,
  replayKey,
  replayRange,
  seqOf,
} from './keys.js';
import { keptMessage, partitionOf } from './kept-messages.js';
import { type GroupRecord, PRESENT } from './records.js';
import { GroupAppend } from './group-append.js';
import { GroupOffsets } from './group-offsets.js';
import type { ReadView, WriteView } from './view.js';

/**
 * Delivers kept messages again, as copies. Read transactions find them; as many write transactions as needed copy them. Each of these
 * notes which copies of a message it makes. While one of them waits for a group, whichever group it was made for, that group gets no
 * other, so neither a crash nor another process at the same work duplicates anything.
 */

/** Kept messages that one transaction examines. */
const CHUNK = 1_000;
/** Bytes of messages that one transaction copies; it ends with the message that reaches them. */
const CHUNK_BYTES = 16 * 1024 * 1024;

export async function replayMessages(
  environment: LmdbEnvironment,
  name: string,
  group: string,
  range: KeptRange,
): Promise<number> {
  // Stops at the message that was last at the start: consumers keep more in the meantime.
  const first = environment.read((view) => {
    const stream = findStream(view, name);
    const last = stream && view.lastKey(keptAtRange(stream.id, 0));
    return stream && last && { id: stream.id, last: seqOf(last) };
  });
  if (!first) return 0;
  const until = Math.min(first.last, before(first.id, range.to));
  let total = 0;
  for (let after = range.from === undefined ? 0 : before(first.id, range.from); after < until;) {
    const from = after;
    const seqs = environment.read((view) => pick(view, first.id, range, from, until));
    for (let at = 0; at < seqs.chosen.length;) {
      const rest = seqs.chosen.slice(at);
      const { seen, copies } = await environment.write((view) => copySome(view, name, first.id, group, rest));
      at += seen;
      total += copies;
    }
    after = seqs.last;
  }
  return total;
}

/** Of the next kept messages those whose time is in the range; `last` is the last one examined. */
function pick(
  view: ReadView,
  stream: number,
  { created }: KeptRange,
  after: number,
  until: number,
): { readonly chosen: readonly number[]; readonly last: number } {
  const from = created?.from?.getTime() ?? Number.NEGATIVE_INFINITY;
  const to = created?.to?.getTime() ?? Number.POSITIVE_INFINITY;
  const chosen: number[] = [];
  let examined = 0;
  for (const { key, value } of view.entries(keptAtRange(stream, after, until))) {
    const seq = seqOf(key);
    examined += 1;
    const encoded = created && keptMessage(view, stream, seq, value);
    const time = encoded && isIntact(encoded) ? createdOf(encoded).getTime() : undefined;
    if (created === undefined || (time !== undefined && time >= from && time < to)) chosen.push(seq);
    if (examined >= CHUNK) return { chosen, last: seq };
  }
  return { chosen, last: until };
}

/** Passes over messages that are no longer kept, damaged ones, and those of which a copy waits. */
function copySome(
  view: WriteView,
  name: string,
  id: number,
  group: string,
  seqs: readonly number[],
): { readonly seen: number; readonly copies: number } {
  const stream = findStream(view, name);
  const owner = stream?.groups.find((each) => each.name === group);
  // The stream was dropped in the meantime, or the group was removed.
  if (stream?.id !== id || owner === undefined) return { seen: seqs.length, copies: 0 };
  const append = new GroupAppend(view, stream);
  let seen = 0;
  let copies = 0;
  for (const seq of seqs) {
    if (append.bytes >= CHUNK_BYTES) break;
    seen += 1;
    const at = view.get(keptAtKey(id, seq));
    const encoded = at && keptMessage(view, id, seq, at);
    if (encoded === undefined || !isIntact(encoded)) continue;
    const place = { stream: id, group: owner.id, partition: partitionOf(at!) };
    if (hasWaitingCopy(view, owner, place, seq)) continue;
    view.put(replayKey(id, seq, append.put(place.partition, group, asReplayed(encoded, seq))), PRESENT);
    copies += 1;
  }
  append.finish();
  return { seen, copies };
}

/** Also forgets copies that have left the buffer; nothing else does while the message is kept. */
function hasWaitingCopy(view: WriteView, { name }: GroupRecord, place: Place, seq: number): boolean {
  const marks = [...view.keys(replayRange(place.stream, seq))];
  if (marks.length === 0) return false;
  const offsets = new GroupOffsets(view, name, place);
  let isWaiting = false;
  for (const mark of marks) {
    const copy = seqOf(mark);
    if (!view.has(messageKey(place.stream, place.partition, copy))) view.remove(mark);
    else if (!offsets.isDone(copy)) isWaiting = true;
  }
  return isWaiting;
}

/** The number of the message before the one with this id; of one of an earlier stream, before all. */
function before(stream: number, id: MessageId | undefined): number {
  if (id === undefined) return Number.MAX_SAFE_INTEGER;
  const seq = parseId(stream, id);
  if (seq !== undefined) return seq - 1;
  return id < formatId(stream, 0) ? 0 : Number.MAX_SAFE_INTEGER;
}
