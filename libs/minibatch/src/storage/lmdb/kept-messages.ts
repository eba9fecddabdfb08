import type { EncodedMessage } from '../encoded-message.js';
import type { LmdbEnvironment } from './environment.js';
import {
  keptAtKey,
  type KeptKey,
  keptMessageKey,
  Kind,
  parseKeptMessageKey,
  prefixRange,
  replayRange,
  streamKey,
} from './keys.js';
import type { StreamRecord } from './records.js';
import { findStream, saveStream, streamById } from './stream-records.js';
import type { ReadView, WriteView } from './view.js';

/** Messages that stay after their commit: by the time of the commit, and by their ids. */

/** Records of one transaction. */
const CHUNK = 5_000;
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

/** Adds `keptAt` for messages that an earlier version kept. A process that keeps messages meanwhile adds it itself. */
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
