import { AppendError, bareMessageOf, ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import { answered } from '../checkpoints.js';
import { EncodedCheckpoints } from '../encoded-checkpoints.js';
import { createdOf, type EncodedMessage, encodeMessage } from '../encoded-message.js';
import { type Partitioning, placeIn } from '../partitions.js';
import { sessionUnsupported } from '../../errors/store-faults.js';
import type { AppendOptions, AppendOutcome, NewMessage } from '../stream-store.interface.js';
import { writeCheckpoints } from './checkpoints.js';
import { dedupeKey, formatId, messageKey, timeKey } from './keys.js';
import { decodeNumber, encodeNumber, PRESENT, type Tail } from './records.js';
import { countKeyOf, ensureStreamId, saveTail, streamById, tailOf } from './stream-records.js';
import type { WriteView } from './view.js';
import { WriteFailed } from './write-failed.js';

/** A message ready to be written, or why it can't be. */
type PreparedMessage = { readonly message: NewMessage; readonly encoded: EncodedMessage } | AppendOutcome;

/** Encodes before the transaction and writes messages and positions in one. @throws AppendError, CheckpointError */
export async function append(
  write: <R>(change: (view: WriteView) => R) => Promise<R>,
  messages: readonly NewMessage[],
  { session, checkpoints = [] }: AppendOptions,
): Promise<readonly AppendOutcome[]> {
  if (session !== undefined) throw appendError(sessionUnsupported('lmdb'));
  if (messages.length === 0 && checkpoints.length === 0) return [];
  const encoded = new EncodedCheckpoints(checkpoints);
  let outcomes: readonly AppendOutcome[];
  try {
    const prepared = messages.map(prepare);
    outcomes = await write((view) => {
      const written = writeMessages(view, prepared);
      writeCheckpoints(view, encoded.due(written));
      return written;
    });
  } catch (error) {
    throw appendError(error);
  }
  return answered(outcomes, encoded.failed(outcomes));
}

/** Makes the streams that are missing. */
export function writeMessages(view: WriteView, prepared: readonly PreparedMessage[]): AppendOutcome[] {
  const streams = new Map<string, StreamAppend>();
  const outcomes = prepared.map((each): AppendOutcome => {
    if (!('encoded' in each)) return each;
    const { stream } = each.message;
    let append = streams.get(stream);
    if (append === undefined) {
      append = new StreamAppend(view, ensureStreamId(view, stream));
      streams.set(stream, append);
    }
    return append.write(each.message, each.encoded);
  });
  for (const append of streams.values()) append.finish();
  return outcomes;
}

/** Messages on their way into one stream's buffer, within one transaction: numbers are counted here and written once. */
export class StreamAppend {
  private readonly tail: Tail;
  private lastSeq: number;
  private record: Partitioning | undefined;
  private readonly counts = new Map<number, number>();

  constructor(
    private readonly view: WriteView,
    private readonly stream: number,
  ) {
    this.tail = tailOf(view, stream);
    this.lastSeq = this.tail.lastSeq;
  }

  write(message: NewMessage, encoded: EncodedMessage): AppendOutcome {
    const { view, stream } = this;
    const { partition, dedupeId } = message;
    if (dedupeId !== undefined && !view.add(dedupeKey(stream, dedupeId), PRESENT)) return { status: 'duplicate' };
    // Most streams have one partition, and their record is not read.
    const place = partition ? placeIn((this.record ??= streamById(view, stream) ?? {}), partition) : 0;
    return { status: 'stored', id: formatId(stream, this.put(place, encoded)) };
  }

  /** Behind all that is there; the message's number. */
  put(partition: number, encoded: EncodedMessage): number {
    const { view, stream } = this;
    this.lastSeq += 1;
    const seq = this.lastSeq;
    view.put(messageKey(stream, partition, seq), encoded);
    if (this.tail.timeOrder) view.put(timeKey(stream, partition, createdOf(encoded).getTime(), seq), PRESENT);
    this.counts.set(partition, (this.counts.get(partition) ?? 0) + 1);
    return seq;
  }

  finish(): void {
    if (this.counts.size === 0) return;
    saveTail(this.view, this.stream, { ...this.tail, lastSeq: this.lastSeq });
    for (const [partition, count] of this.counts) {
      const key = countKeyOf(this.stream, partition);
      this.view.put(key, encodeNumber(decodeNumber(this.view.get(key)) + count));
    }
  }
}

/** Encodes before the transaction, where a message that can't be encoded would fail those of others. */
function prepare(message: NewMessage): PreparedMessage {
  try {
    return { message, encoded: encodeMessage(message) };
  } catch (error) {
    if (error instanceof AppendError) return { status: 'failed', error };
    throw error;
  }
}

function appendError(error: unknown): AppendError {
  if (error instanceof AppendError) return error;
  const code = error instanceof MinibatchError ? error.code : ErrorCode.AppendFailed;
  const stored = error instanceof WriteFailed ? error.stored : 'no';
  return new AppendError(code, `append failed: ${bareMessageOf(error)}`, stored, {
    cause: error,
  });
}
