import type { EncodedMessage } from '../encoded-message.js';
import type { Block, ConsumerKey, FetchLimits, MessageId, ReadWindow, WindowPage } from '../stream-store.interface.js';
import { findPlace, findStream, saveStream, streamById, tailOf } from './streams.js';
import type { LmdbEnvironment } from './environment.js';
import {
  keptAtKey,
  keptAtRange,
  type KeptKey,
  keptMessageKey,
  Kind,
  parseKeptMessageKey,
  parseKeptWindowKey,
  prefixRange,
  replayRange,
  seqOf,
  streamKey,
} from './keys.js';
import { BlockBuilder, seqAfter } from './reads.js';
import { soundWindow, type StreamRecord } from './records.js';
import type { ReadView, WriteView } from './view.js';

/** What stays after its commit: messages and windows, by the time when it was committed, and the messages by their ids, too. */

/** Records of one transaction. */
const CHUNK = 5_000;
/** Keys that one read looks at to find windows of a group. */
const LOOKED_AT = 5_000;
const SETTLED = 0;
const PARTITION = 8;

export function keepMessage(view: WriteView, key: KeptKey, encoded: EncodedMessage): void {
  const { stream, settled, partition, seq } = key;
  view.put(keptMessageKey(stream, settled, partition, seq), encoded);
  putKeptAt(view, key);
}

/** @param keys of kept messages */
export function removeKept(view: WriteView, stream: StreamRecord, keys: readonly Buffer[]): void {
  const isReplayed = [...view.keys(prefixRange(streamKey(Kind.Replay, stream.id)), 1)].length > 0;
  for (const key of keys) {
    const { seq } = parseKeptMessageKey(key);
    view.remove(key);
    view.remove(keptAtKey(stream.id, seq));
    if (!isReplayed) continue;
    for (const copy of [...view.keys(replayRange(stream.id, seq))]) view.remove(copy);
  }
}

/** The message by what `keptAt` says; undefined if it is not kept any more. */
export function keptMessage(view: ReadView, stream: number, seq: number, at: Buffer): EncodedMessage | undefined {
  if (at.length !== PARTITION + 2) return undefined;
  return view.get(keptMessageKey(stream, at.readDoubleBE(SETTLED), partitionOf(at), seq));
}

/** @param at what `keptAt` says */
export function partitionOf(at: Buffer): number {
  return at.readUInt16BE(PARTITION);
}

export function readKept(view: ReadView, name: string, after: MessageId | undefined, limits: FetchLimits): Block {
  const stream = findStream(view, name);
  if (stream === undefined) return { messages: [], full: false };
  const block = new BlockBuilder({ ...stream, clearedTo: 0 }, limits);
  for (const { key, value } of view.entries(keptAtRange(stream.id, seqAfter(stream, after)))) {
    const seq = seqOf(key);
    const encoded = keptMessage(view, stream.id, seq, value);
    if (encoded !== undefined && block.add(seq, encoded)) return block.full();
  }
  return block.ended();
}

/** In the order of their commits. */
export function readKeptWindows(
  view: ReadView,
  key: ConsumerKey,
  after: string | undefined,
  limit: number,
): WindowPage {
  const found = findPlace(view, key);
  if (!found) return { windows: [] };
  const { stream, place } = found;
  const { lastSeq } = tailOf(view, stream.id);
  const range = prefixRange(streamKey(Kind.KeptWindow, stream.id));
  // Behind the last one that was looked at: a zero makes the least key that is greater.
  const start = after === undefined ? range.start : Buffer.concat([Buffer.from(after, 'hex'), Buffer.from([0])]);
  const windows: ReadWindow[] = [];
  let looked = 0;
  for (const at of view.keys({ ...range, start })) {
    looked += 1;
    const { settled, place: of } = parseKeptWindowKey(at);
    if (of.group === place.group && of.partition === place.partition) {
      const value = view.get(at);
      const window = value && soundWindow(stream.id, value, lastSeq);
      if (window) windows.push({ ...window, settled: new Date(settled) });
    }
    if (windows.length >= limit || looked >= LOOKED_AT) return { windows, next: at.toString('hex') };
  }
  return { windows };
}

/** Gives the messages that an earlier version has kept their `keptAt`. The one that keeps more meanwhile gives it at once. */
export async function ensureKeptOrder(environment: LmdbEnvironment, name: string): Promise<void> {
  const id = environment.read((view) => {
    const stream = findStream(view, name);
    return stream?.keptOrder ? undefined : stream?.id;
  });
  if (id === undefined) return;
  const range = prefixRange(streamKey(Kind.KeptMessage, id));
  for (let start = range.start, more = true; more;) {
    const from = start;
    const keys = environment.read((view) => [...view.keys({ ...range, start: from }, CHUNK)]);
    more = keys.length === CHUNK;
    await environment.write((view) => {
      for (const key of keys) if (view.has(key)) putKeptAt(view, parseKeptMessageKey(key));
      const stream = more ? undefined : streamById(view, id);
      if (stream) saveStream(view, { ...stream, keptOrder: true });
    });
    start = keys.at(-1) ?? start;
  }
}

function putKeptAt(view: WriteView, { stream, settled, partition, seq }: KeptKey): void {
  const at = Buffer.allocUnsafe(PARTITION + 2);
  at.writeDoubleBE(settled, SETTLED);
  at.writeUInt16BE(partition, PARTITION);
  view.put(keptAtKey(stream, seq), at);
}
